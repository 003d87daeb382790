#!/bin/sh
# Starts Twemproxy with nutcracker.yml and the password in REDIS_PASSWORD_FILE: the one it asks
# clients for, and logs in with at the servers. Arguments go to nutcracker.
set -eu
umask 077
configuration=${TMPDIR:-/tmp}/nutcracker.yml
{
    cat "$(dirname "$0")/nutcracker.yml"
    echo "  redis_auth: $(cat "$REDIS_PASSWORD_FILE")"
} >"$configuration"
exec nutcracker --conf-file="$configuration" --stats-addr=127.0.0.1 "$@"

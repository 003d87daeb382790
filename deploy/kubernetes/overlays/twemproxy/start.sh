#!/bin/sh
# Starts Twemproxy with nutcracker.yml and the password in REDIS_PASSWORD_FILE. Clients log in with
# this password, and Twemproxy logs in to the servers with it. Arguments are passed to nutcracker.
set -eu
umask 077
password=$(cat "$REDIS_PASSWORD_FILE")
if [ -z "$password" ]; then
    echo "$REDIS_PASSWORD_FILE is empty: the proxy would be open to all" >&2
    exit 1
fi
case $password in *[[:cntrl:]]*)
    echo "$REDIS_PASSWORD_FILE holds more than one line, or another control character" >&2
    exit 1
    ;;
esac
quoted=$(printf '%s\n' "$password" | sed "s/'/''/g")
configuration=${TMPDIR:-/tmp}/nutcracker.yml
{
    cat "$(dirname "$0")/nutcracker.yml"
    printf "  redis_auth: '%s'\n" "$quoted"
} >"$configuration"
exec nutcracker --conf-file="$configuration" --stats-addr=127.0.0.1 "$@"

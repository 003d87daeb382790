#!/bin/sh
# Starts the server with valkey.conf, the settings in the arguments, and the password in
# REDIS_PASSWORD_FILE. The server reads the password from standard input, so it does not appear in
# the arguments or the environment of any process.
set -eu
password=$(cat "$REDIS_PASSWORD_FILE")
if [ -z "$password" ]; then
    echo "$REDIS_PASSWORD_FILE is empty: the server would be open to all" >&2
    exit 1
fi
# The server logs any line that it can't parse, which would expose the password.
case $password in *[[:cntrl:]]*)
    echo "$REDIS_PASSWORD_FILE holds more than one line, or another control character" >&2
    exit 1
    ;;
esac
quoted=$(printf '%s\n' "$password" | sed 's/[\\"]/\\&/g')
exec valkey-server "$(dirname "$0")/valkey.conf" "$@" - <<END
requirepass "$quoted"
masterauth "$quoted"
END

#!/bin/sh
# Starts the server with valkey.conf, the settings given as arguments, and the password in
# REDIS_PASSWORD_FILE. That one is read from standard input, so neither the arguments nor the
# environment of any process show it.
set -eu
password=$(cat "$REDIS_PASSWORD_FILE")
if [ -z "$password" ]; then
    echo "$REDIS_PASSWORD_FILE is empty: the server would be open to all" >&2
    exit 1
fi
# Of a line that it does not understand, the server shows all in its log.
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

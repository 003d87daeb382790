#!/bin/sh
# Succeeds if the server answers and takes the password. Arguments go to valkey-cli.
set -eu
REDISCLI_AUTH=$(cat "$REDIS_PASSWORD_FILE")
export REDISCLI_AUTH
[ "$(valkey-cli "$@" ping)" = PONG ]

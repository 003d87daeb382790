#!/bin/sh
# Succeeds if the server answers and accepts the password. Arguments are passed to valkey-cli.
set -eu
REDISCLI_AUTH=$(cat "$REDIS_PASSWORD_FILE")
export REDISCLI_AUTH
[ "$(valkey-cli "$@" ping)" = PONG ]

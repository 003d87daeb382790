#!/bin/sh
# Creates a Redis Cluster with one replica per primary from servers given as HOST:PORT. If the
# cluster already exists, it only tells the first server the current addresses of the others.
set -eu
REDISCLI_AUTH=$(cat "$REDIS_PASSWORD_FILE")
export REDISCLI_AUTH

ask() { # HOST:PORT WORD...
    node=$1
    shift
    valkey-cli -h "${node%:*}" -p "${node##*:}" "$@"
}

addresses= # IP addresses, because nodes do not accept host names for each other
for node in "$@"; do
    until [ "$(ask "$node" ping)" = PONG ]; do sleep 1; done
    address=$(getent ahostsv4 "${node%:*}" | { read -r first _ && echo "$first"; })
    addresses="$addresses $address:${node##*:}"
done

if ask "$1" cluster info | grep -q '^cluster_slots_assigned:16384'; then
    for address in $addresses; do
        ask "$1" cluster meet "${address%:*}" "${address##*:}"
    done
else
    # shellcheck disable=SC2086 # each address is a separate word
    valkey-cli --cluster create $addresses --cluster-replicas 1 --cluster-yes
fi

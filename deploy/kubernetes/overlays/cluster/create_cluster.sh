#!/bin/sh
# Makes one Redis Cluster, a replica to each primary, of the servers given as HOST:PORT. If they
# are one already, it only tells the first where the others are now.
set -eu
REDISCLI_AUTH=$(cat "$REDIS_PASSWORD_FILE")
export REDISCLI_AUTH

ask() { # HOST:PORT WORD...
    node=$1
    shift
    valkey-cli -h "${node%:*}" -p "${node##*:}" "$@"
}

addresses= # in numbers, since nodes do not take each other's names
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
    # shellcheck disable=SC2086 # one word each
    valkey-cli --cluster create $addresses --cluster-replicas 1 --cluster-yes
fi

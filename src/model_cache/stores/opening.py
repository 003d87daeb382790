"""Build the stores for an endpoint: a server or a cluster, with circuit breakers around it."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Any, NamedTuple

from model_cache.embedded import embedded_url
from model_cache.errors import StoreUnavailableError
from model_cache.keys.buckets import Buckets
from model_cache.observing.events import Hook
from model_cache.protocols import AsyncStore, Store
from model_cache.stores.access import AddressMap, CredentialProvider
from model_cache.stores.breaker import CircuitBreaker
from model_cache.stores.bucket_requests import BucketRequests
from model_cache.stores.cluster import AsyncClusterStore, ClusterStore
from model_cache.stores.dialing import Dialer
from model_cache.stores.guard import Guard
from model_cache.stores.nodes import Node, Shard
from model_cache.stores.packed import AsyncPackedStore, PackedStore
from model_cache.stores.packing import Packing
from model_cache.stores.replies import Role
from model_cache.stores.server import AsyncRedisStore, RedisStore
from model_cache.stores.slots import Cluster, slots_of
from model_cache.stores.url import Address, Endpoint, parse_url

_DEFAULT_AGE = 300.0
_ANNOUNCED = (
    "the cluster announces this address; if clients can't reach it (NAT, containers), set "
    "cluster-announce-ip on the servers, or the option address_map"
)


class Stores(NamedTuple):
    """One store, for threads and for event loops, which share its circuit breakers."""

    sync: Store
    asynchronous: AsyncStore


def compose(endpoint: Endpoint, hook: Hook, **options: Any) -> Store:
    """Return the store for threads; see `compose_both`."""
    return compose_both(endpoint, hook, **options).sync


def compose_both(
    endpoint: Endpoint,
    hook: Hook,
    *,
    timeout: float,
    max_connections: int = 50,
    max_connection_age: float = _DEFAULT_AGE,
    credential_provider: CredentialProvider | None = None,
    address_map: AddressMap | None = None,
    expected_entries: int | None = None,
    longest_ttl: int | None = None,
) -> Stores:
    """Return the stores for an endpoint without connecting to it.

    Args:
        endpoint: the address and login.
        hook: receives `StoreLost` and `StoreFound`.
        timeout: seconds for each request to a Sentinel.
        max_connections: the most connections to each server from threads; each event loop has one
            more.
        max_connection_age: seconds after which a connection is replaced.
        credential_provider: returns the current login, which replaces the endpoint's own.
        address_map: translates an announced address to the one to connect to.
        expected_entries: how many entries a namespace is planned to have, for the packed layout;
            None for the plain one.
        longest_ttl: the longest time that a packed entry may claim to have left, in milliseconds;
            None for any.

    Raises:
        ConfigurationError: a certificate that can't be loaded.
    """
    if endpoint.embedded:
        endpoint = parse_url("url", embedded_url())
    dialer = Dialer(endpoint.tls, timeout, credentials=credential_provider, address_map=address_map)

    def open_server(at: Endpoint, guard: Guard, role: Role | None = None, hint: str = "") -> Node:
        packs = expected_entries is not None
        server = RedisStore(
            at,
            guard,
            requests=BucketRequests(longest_ttl, proxied=at.proxied) if packs else None,
            max_connections=max_connections,
            max_connection_age=max_connection_age,
            role=role,
            dialer=dialer,
            hint=hint,
        )
        return Node(server, AsyncRedisStore(server))

    def open_node(address: Address, role: Role) -> Node:
        at, hint = _node_of(endpoint, address)
        if role == "replica":  # reads fall back to the primary, so no StoreLost
            return open_server(at, Guard(_make_impatient_breaker, _ignore, str(at)), role, hint)
        return open_server(at, Guard(_make_breaker, hook, str(at)), role, hint)

    stores: Stores
    if endpoint.cluster:
        cluster = Cluster(
            endpoint.cluster,
            open_node,
            time.monotonic,
            Guard(_make_breaker, hook, str(endpoint)),
            replicas=endpoint.replicas,
        )
        stores = Stores(ClusterStore(cluster), AsyncClusterStore(cluster))
    else:
        stores = Stores(*open_server(endpoint, Guard(_make_breaker, hook, str(endpoint))))
    if expected_entries is None:
        return stores
    packing = Packing(Buckets(expected_entries))
    return Stores(PackedStore(stores.sync, packing), AsyncPackedStore(stores.asynchronous, packing))


def _node_of(endpoint: Endpoint, address: Address) -> tuple[Endpoint, str]:
    """Return the endpoint of a cluster's node, and a hint for errors if it can't be reached."""
    at = replace(endpoint, cluster=(), host=address.host, port=address.port)
    return at, "" if address in endpoint.cluster else _ANNOUNCED


def administered(endpoint: Endpoint, timeout: float) -> dict[str, RedisStore]:
    """Return the servers at an endpoint by address, without circuit breakers.

    For administration. For a cluster, these are the current primaries.

    Args:
        endpoint: the address and login.
        timeout: seconds for discovering the servers of a cluster.

    Raises:
        StoreUnavailableError: the cluster can't be reached; the message says why.
    """
    dialer = Dialer(endpoint.tls, timeout)
    if not endpoint.cluster:
        return {str(endpoint): RedisStore(endpoint, dialer=dialer)}
    servers = {}
    for primary in sorted({shard.primary for shard in _shards(endpoint, dialer, timeout) if shard}):
        at, hint = _node_of(endpoint, primary)
        servers[str(primary)] = RedisStore(at, role="primary", dialer=dialer, hint=hint)
    return servers


def _shards(endpoint: Endpoint, dialer: Dialer, timeout: float) -> list[Shard | None]:
    """Ask the nodes in the url one after the other until one answers; else raise the last error."""
    failure: StoreUnavailableError | None = None
    for address in endpoint.cluster:
        node = RedisStore(_node_of(endpoint, address)[0], dialer=dialer)
        try:
            return slots_of(node, address, timeout)
        except StoreUnavailableError as error:
            failure = error
        finally:
            node.close()
    assert failure is not None  # a cluster's url has a node
    raise failure


def _make_breaker() -> CircuitBreaker:
    return CircuitBreaker(time.monotonic, random.SystemRandom().random)


def _make_impatient_breaker() -> CircuitBreaker:
    """Return a breaker that opens at the first failure, since another node can answer."""
    return CircuitBreaker(
        time.monotonic,
        random.SystemRandom().random,
        threshold=1,
        first_pause=1.0,
        longest_pause=5.0,
    )


def _ignore(_: object) -> None:
    pass

"""Build the store for an endpoint: a server or a cluster, with circuit breakers around it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from model_cache.embedded import embedded_url
from model_cache.errors import StoreUnavailableError
from model_cache.keys.buckets import Buckets
from model_cache.observing.events import Hook
from model_cache.protocols import StatefulStore
from model_cache.stores.access import AddressMap, CredentialProvider
from model_cache.stores.breaker import CircuitBreaker
from model_cache.stores.cluster import ClusterStore, Node
from model_cache.stores.connection import printable
from model_cache.stores.dialing import Dialer
from model_cache.stores.guarded import GuardedStore
from model_cache.stores.packed import BucketStore, PackedStore
from model_cache.stores.server import RedisStore, Role
from model_cache.stores.url import Address, Endpoint, parse_url

_DEFAULT_AGE = 300.0
_ANNOUNCED = (
    "the cluster announces this address; if clients can't reach it (NAT, containers), set "
    "cluster-announce-ip on the servers, or the option address_map"
)


def compose(  # noqa: PLR0913 - one for each option that the servers' stores need
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
) -> StatefulStore:
    """Return the store for an endpoint without connecting to it.

    Args:
        endpoint: the address and login.
        hook: receives `StoreLost` and `StoreFound`.
        timeout: seconds for each request to a Sentinel.
        max_connections: the most connections to each server.
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
    open_server = partial(
        RedisStore,
        timeout=timeout,
        max_connections=max_connections,
        max_connection_age=max_connection_age,
        dialer=Dialer(
            endpoint.tls, timeout, credentials=credential_provider, address_map=address_map
        ),
    )

    def guarded(
        server: RedisStore, make_breaker: Callable[[], CircuitBreaker], hook: Hook, at: Endpoint
    ) -> GuardedStore:
        inner = server if expected_entries is None else BucketStore(server, longest_ttl)
        return GuardedStore(inner, make_breaker, hook, str(at))

    def open_node(address: Address, role: Role) -> Node:
        at = replace(endpoint, cluster=(), host=address.host, port=address.port)
        hint = "" if address in endpoint.cluster else _ANNOUNCED
        server = open_server(at, role=role, hint=hint)
        if role == "replica":  # reads fall back to the primary, so no StoreLost
            return Node(guarded(server, _make_impatient_breaker, _ignore, at), server)
        return Node(guarded(server, _make_breaker, hook, at), server)

    store: GuardedStore | ClusterStore
    if endpoint.cluster:
        store = ClusterStore(
            endpoint.cluster,
            open_node,
            time.monotonic,
            _make_breaker(),
            hook,
            replicas=endpoint.replicas,
        )
    else:
        store = guarded(open_server(endpoint), _make_breaker, hook, endpoint)
    return store if expected_entries is None else PackedStore(store, Buckets(expected_entries))


def administered(endpoint: Endpoint, timeout: float) -> dict[str, RedisStore]:
    """Return the servers at an endpoint by address, without circuit breakers.

    For administration. For a cluster, these are the current primaries.

    Args:
        endpoint: the address and login.
        timeout: seconds for discovering the servers of a cluster.

    Raises:
        StoreUnavailableError: the cluster can't be reached; the message says why.
    """
    if not endpoint.cluster:
        return {str(endpoint): RedisStore(endpoint, timeout=timeout)}
    _check_cluster(endpoint, timeout)
    cluster = compose(endpoint, _ignore, timeout=timeout)
    assert isinstance(cluster, ClusterStore)
    return {str(address): server for address, server in cluster.primaries(timeout).items()}


def _check_cluster(endpoint: Endpoint, timeout: float) -> None:
    """Try the nodes in the url in turn until one answers; else raise the last one's error."""
    failure: StoreUnavailableError | None = None
    for address in endpoint.cluster:
        node = RedisStore(replace(endpoint, cluster=(), host=address.host, port=address.port))
        try:
            reply = node.execute(timeout, b"CLUSTER", b"SLOTS")
        except StoreUnavailableError as error:
            failure = error
        else:
            if isinstance(reply, list):
                return
            failure = StoreUnavailableError(f"{address}: {printable(reply)}", "protocol")
        finally:
            node.close()
    if failure is not None:
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

"""How the stores are put together: which options make which store around which."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Any, NamedTuple

from model_cache.embedded import embedded_url
from model_cache.errors import StoreUnavailableError
from model_cache.observing.events import Hook
from model_cache.stores.access import AddressMap, CredentialProvider
from model_cache.stores.async_cluster import AsyncClusterStore
from model_cache.stores.async_server import AsyncRedisStore
from model_cache.stores.breaker import CircuitBreaker
from model_cache.stores.cluster import ClusterStore
from model_cache.stores.connection import printable
from model_cache.stores.dialing import Dialer
from model_cache.stores.guarded import Guard, GuardedStore
from model_cache.stores.replies import Role
from model_cache.stores.server import RedisStore
from model_cache.stores.slots import Cluster, Node
from model_cache.stores.url import Address, Endpoint, parse_url

_DEFAULT_AGE = 300.0
_ANNOUNCED = (
    "the cluster announces this address; if it can't be reached from here (NAT, containers), set "
    "cluster-announce-ip on the servers, or the option address_map"
)


class Stores(NamedTuple):
    """One store, for threads and for event loops; both share their circuit breakers."""

    sync: GuardedStore | ClusterStore
    asynchronous: AsyncRedisStore | AsyncClusterStore


def compose(endpoint: Endpoint, hook: Hook, **options: Any) -> GuardedStore | ClusterStore:
    """Return the store at an endpoint, for threads; see `compose_both`."""
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
) -> Stores:
    """Return the store at an endpoint; nothing is connected yet.

    Args:
        endpoint: where it is.
        hook: is called when the store is lost, and when it is found again.
        timeout: seconds for each question to a Sentinel.
        max_connections: how many connections each server gets at most from threads; each event
            loop has one more.
        max_connection_age: seconds after which a connection is replaced.
        credential_provider: returns the login, instead of the endpoint.
        address_map: returns where to connect to reach an address.

    Raises:
        ConfigurationError: a certificate that can't be loaded.
    """
    if endpoint.embedded:
        endpoint = parse_url("url", embedded_url())
    dialer = Dialer(endpoint.tls, timeout, credentials=credential_provider, address_map=address_map)

    def open_server(at: Endpoint, guard: Guard, role: Role | None = None, hint: str = "") -> Node:
        server = RedisStore(
            at,
            max_connections=max_connections,
            max_connection_age=max_connection_age,
            role=role,
            dialer=dialer,
            hint=hint,
        )
        asynchronous = AsyncRedisStore(
            at, guard, max_connection_age=max_connection_age, role=role, dialer=dialer, hint=hint
        )
        return Node(GuardedStore(server, guard), server, asynchronous)

    if not endpoint.cluster:
        node = open_server(endpoint, Guard(_make_breaker, hook, str(endpoint)))
        return Stores(node.guarded, node.asynchronous)

    def open_node(address: Address, role: Role) -> Node:
        at = replace(endpoint, cluster=(), host=address.host, port=address.port)
        hint = "" if address in endpoint.cluster else _ANNOUNCED
        guard = Guard(_make_breaker, hook, str(at))
        if role == "replica":  # its primary takes over, so nothing is lost
            guard = Guard(_make_impatient_breaker, _ignore, str(at))
        return open_server(at, guard, role, hint)

    cluster = Cluster(
        endpoint.cluster,
        open_node,
        time.monotonic,
        _make_breaker(),
        hook,
        replicas=endpoint.replicas,
    )
    return Stores(ClusterStore(cluster), AsyncClusterStore(cluster))


def administered(endpoint: Endpoint, timeout: float) -> dict[str, RedisStore]:
    """Return the servers at an endpoint, each by its place, and without a breaker.

    For operators: of a cluster, they are the primaries of this moment.

    Args:
        endpoint: where they are.
        timeout: seconds for finding out who they are.

    Raises:
        StoreUnavailableError: there is no cluster where it should be; the message says why.
    """
    if not endpoint.cluster:
        return {str(endpoint): RedisStore(endpoint, timeout=timeout)}
    _check_cluster(endpoint, timeout)
    cluster = compose(endpoint, _ignore, timeout=timeout)
    assert isinstance(cluster, ClusterStore)
    return {str(address): server for address, server in cluster.primaries(timeout).items()}


def _check_cluster(endpoint: Endpoint, timeout: float) -> None:
    """Ask the nodes in the url, one after another, until one answers; raise what the last said."""
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
    """One that opens at the first failure, since there is somebody else to ask."""
    return CircuitBreaker(
        time.monotonic,
        random.SystemRandom().random,
        threshold=1,
        first_pause=1.0,
        longest_pause=5.0,
    )


def _ignore(_: object) -> None:
    pass

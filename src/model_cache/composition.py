"""How the stores are put together: which options make which store around which."""

from __future__ import annotations

import random
import time
from dataclasses import replace

from model_cache.breaker import CircuitBreaker
from model_cache.config import Config
from model_cache.embedded import embedded_url
from model_cache.endpoint import Address, Endpoint, parse_url
from model_cache.errors import StoreUnavailableError
from model_cache.events import Hook
from model_cache.stores.cluster import ClusterStore, Node
from model_cache.stores.guarded import GuardedStore
from model_cache.stores.redis import RedisStore, Role


def compose(config: Config, hook: Hook) -> GuardedStore | ClusterStore:
    """Return the store that the options ask for; nothing is connected yet."""
    endpoint = config.endpoint
    if endpoint.embedded:
        endpoint = parse_url("url", embedded_url())

    def open_node(address: Address, role: Role) -> Node:
        return _guarded(
            replace(endpoint, cluster=(), host=address.host, port=address.port), config, hook, role
        )

    if endpoint.cluster:
        return ClusterStore(
            endpoint.cluster,
            open_node,
            time.monotonic,
            _make_breaker(),
            hook,
            replicas=endpoint.replicas,
        )
    return _guarded(endpoint, config, hook).guarded


def administered(config: Config, timeout: float) -> dict[str, RedisStore]:
    """Return the servers that the options lead to, each by its place, and without a breaker.

    For operators: of a cluster, they are the primaries of this moment.

    Args:
        config: the options.
        timeout: seconds for finding out who they are.

    Raises:
        StoreUnavailableError: there is no cluster where it should be; the message says why.
    """
    endpoint = config.endpoint
    if not endpoint.cluster:
        return {str(endpoint): RedisStore(endpoint, timeout=config.timeout)}
    _check_cluster(endpoint, timeout)
    cluster = compose(config, lambda _: None)
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
            failure = StoreUnavailableError(f"{address}: {reply}", "protocol")
        finally:
            node.close()
    if failure is not None:
        raise failure


def _guarded(endpoint: Endpoint, config: Config, hook: Hook, role: Role | None = None) -> Node:
    server = RedisStore(
        endpoint, timeout=config.timeout, max_connections=config.max_connections, role=role
    )
    return Node(GuardedStore(server, _make_breaker, hook, str(endpoint)), server)


def _make_breaker() -> CircuitBreaker:
    return CircuitBreaker(time.monotonic, random.SystemRandom().random)

"""How the stores are put together: which options make which store around which."""

from __future__ import annotations

import random
import time
from dataclasses import replace

from model_cache.breaker import CircuitBreaker
from model_cache.config import Config
from model_cache.embedded import embedded_url
from model_cache.endpoint import Address, Endpoint, parse_url
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


def _guarded(endpoint: Endpoint, config: Config, hook: Hook, role: Role | None = None) -> Node:
    server = RedisStore(
        endpoint, timeout=config.timeout, max_connections=config.max_connections, role=role
    )
    return Node(GuardedStore(server, _make_breaker, hook, str(endpoint)), server)


def _make_breaker() -> CircuitBreaker:
    return CircuitBreaker(time.monotonic, random.SystemRandom().random)

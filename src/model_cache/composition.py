"""How the stores are put together: which options make which store around which."""

from __future__ import annotations

import random
import time

from model_cache.breaker import CircuitBreaker
from model_cache.config import Config
from model_cache.embedded import embedded_url
from model_cache.endpoint import parse_url
from model_cache.events import Hook
from model_cache.stores.guarded import GuardedStore
from model_cache.stores.redis import RedisStore


def compose(config: Config, hook: Hook) -> GuardedStore:
    """Return the store that the options ask for; nothing is connected yet."""
    endpoint = config.endpoint
    if endpoint.embedded:
        endpoint = parse_url("url", embedded_url())
    store = RedisStore(endpoint, timeout=config.timeout, max_connections=config.max_connections)
    return GuardedStore(store, CircuitBreaker(time.monotonic, random.SystemRandom().random), hook)

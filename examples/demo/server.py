"""The demo's Redis: an embedded one, or the one at REDIS_URL.

The demo leaves other data in Redis alone: each run writes under its own prefixes and deletes
exactly those keys.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from examples.demo.article import ArticleCache
from examples.insurance_charges.model import MODEL_FILE, InsuranceChargesModel
from model_cache import RedisCachingDecorator, embedded_redis

Cache: TypeAlias = RedisCachingDecorator | ArticleCache

# Generous, so that a busy machine causes no timeouts.
_TIMEOUT = 2.0


@dataclass(frozen=True)
class Usage:
    """A cache's use of Redis.

    Attributes:
        entries: the number of entries.
        value_bytes: the mean size of their values.
        redis_bytes: their mean MEMORY USAGE, including keys.
    """

    entries: int
    value_bytes: float
    redis_bytes: float


class Server:
    """A Redis server, and the caches that this run creates there.

    Args:
        url: its url.
        client: a redis-py client.
        name: its name in the report, without secrets.
    """

    def __init__(self, url: str, client: Any, name: str) -> None:
        self.name = name
        self._url = url
        self._client = client
        self._run = f"demo-{secrets.token_hex(4)}"
        self._caches: dict[str, Cache] = {}

    def our_cache(self, model: InsuranceChargesModel, **options: Any) -> RedisCachingDecorator:
        """Return an empty cache of this library around the model."""
        prefix = self._next_prefix()
        cache = RedisCachingDecorator(
            url=self._url,
            prefix=prefix,
            revision=[MODEL_FILE],
            timeout=_TIMEOUT,
            fleet_stats=False,  # only entries are measured, and nothing is left behind
            **options,
        )
        self._caches[prefix] = cache.set_model(model)
        return cache

    def article_cache(self, model: InsuranceChargesModel, **options: Any) -> ArticleCache:
        """Return an empty cache with the article's code around the model."""
        prefix = self._next_prefix()
        cache = ArticleCache(self._url, prefix, **options)
        self._caches[prefix] = cache.set_model(model)
        return cache

    def usage(self, cache: Cache) -> Usage:
        """Count a cache's entries and their bytes, in Redis."""
        (prefix,) = (prefix for prefix, known in self._caches.items() if known is cache)
        keys = [key for key in self._keys(prefix) if not key.endswith(b"/generation")]
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.strlen(key)
            pipeline.memory_usage(key)
        replies = pipeline.execute()
        count = max(1, len(keys))
        sizes, memory = replies[0::2], filter(None, replies[1::2])  # None: evicted meanwhile
        return Usage(len(keys), sum(sizes) / count, sum(memory) / count)

    def clean_up(self) -> None:
        """Delete the entries of this run, and nothing else."""
        for prefix, cache in self._caches.items():
            if keys := self._keys(prefix):
                self._client.unlink(*keys)
            cache.close()

    def _next_prefix(self) -> str:
        # All of the same length, since the key is part of an entry's memory.
        return f"{self._run}-{len(self._caches):02}"

    def _keys(self, prefix: str) -> list[bytes]:
        return sorted(set(self._client.scan_iter(match=f"{prefix}/*", count=1000)))


@contextlib.contextmanager
def demo_server() -> Iterator[Server]:
    """Run the demo's server, or use the one at REDIS_URL, and leave nothing behind.

    Raises:
        redis.RedisError: the server at REDIS_URL can't be reached.
    """
    given = os.environ.get("REDIS_URL", "")
    with contextlib.ExitStack() as stack:
        if given and not given.startswith("embedded:"):
            url, name = given, "the server at REDIS_URL"
        else:
            url, name = stack.enter_context(embedded_redis(tcp=True)), "an embedded server"
        # redis-py retries ten times by default, which takes seconds if there is no server.
        client = stack.enter_context(redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0)))
        info = client.info("server")
        flavour = "Valkey" if "valkey_version" in info else "Redis"
        version = info.get("valkey_version", info["redis_version"])
        server = Server(url, client, f"{name}, {flavour} {version}")
        stack.callback(server.clean_up)
        yield server

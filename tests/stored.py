"""Find entries in Redis, and make a Redis reject more."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import redis


@contextlib.contextmanager
def full(client: redis.Redis) -> Iterator[None]:
    """Make the server reject new entries until the block ends."""
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1")
    try:
        yield
    finally:
        client.config_set("maxmemory", "0")


def entries(client: redis.Redis, pattern: str = "*") -> list[bytes]:
    """Return the keys that match a pattern, besides the generations and counts of namespaces."""
    others = (b"/generation", b"/stats")
    return [key for key in client.scan_iter(pattern) if not key.endswith(others)]

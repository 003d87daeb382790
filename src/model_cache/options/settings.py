"""The settings that a decorator exposes: validated, read-only, without secrets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """The settings of a `RedisCachingDecorator` that are in effect, without secrets.

    Attributes:
        store: the address of the store: `host:port/database`, a socket's path instead of host
            and port, several of them for a cluster or Sentinels, or "embedded".
        prefix: the prefix of the keys; None for no prefix.
        ttl: how long an entry lives, in seconds; None: until Redis evicts it, or as a
            function says.
        timeout: the most seconds that a prediction may spend on Redis.
        on_error: what happens when Redis fails.
        write: whether entries are written before `predict` returns or in the background.
        enabled: False if the option `enabled` or MODEL_CACHE_DISABLED turned the cache off.
    """

    store: str
    prefix: str | None
    ttl: float | None
    timeout: float
    on_error: Literal["predict", "raise"]
    write: Literal["foreground", "background"]
    enabled: bool

"""What a cache is set to do, as its decorator shows it: checked, read-only, without secrets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """The settings of a `RedisCachingDecorator` that are in effect, without secrets.

    Attributes:
        store: where the entries are: `host:port/database`, a socket's path in place of the host
            and port, several of them for a cluster or Sentinels, or "embedded".
        prefix: the prefix of the keys; None for none.
        ttl: how long an entry lives, in seconds; None for until evicted.
        timeout: seconds that a prediction may lose to Redis.
        on_error: what happens when Redis fails.
        write: when entries are written.
        enabled: False if the cache is turned off, by its option or by the environment.
    """

    store: str
    prefix: str | None
    ttl: float | None
    timeout: float
    on_error: Literal["predict", "raise"]
    write: Literal["foreground", "background"]
    enabled: bool

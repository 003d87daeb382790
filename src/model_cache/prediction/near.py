"""The near cache: entries in this process, in front of Redis.

Entries stay bytes, so each hit decodes a new object. They are looked up by the canonical bytes of
the input, which saves the digest. No entry is served after its own ttl, or more than a second after
a purge anywhere in the fleet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from model_cache.errors import ConfigurationError
from model_cache.forks import renew_after_fork
from model_cache.prediction.generation import Generation, is_outdated_nearby

# The overhead of an entry in bytes: keys, tuples, the slot in the table.
OVERHEAD = 300


class Near(NamedTuple):
    """An entry in the near cache.

    Attributes:
        entry: the entry.
        expires: until when it may be served.
        stamp: that of the generation's value in which it was read.
        weight: the bytes that it takes, about.
        read: decodes it, to a new object each time.
        mark: what stands for its key in the generation's records.
        ends: when its own ttl ends; None for never.
        written: when this process wrote it; None if another one did.
    """

    entry: bytes
    expires: float
    stamp: bytes
    weight: int
    read: Callable[[], Any]
    mark: bytes
    ends: float | None
    written: float | None


class NearCache:
    """A bounded table from canonical bytes to entries; the least recently used are evicted.

    Args:
        entries: the most entries.
        size: the approximate limit of their size in bytes.
        ttl: the most seconds that an entry stays.

    Raises:
        ConfigurationError: the extra `near` is not installed.
    """

    def __init__(self, entries: int, size: int, ttl: float) -> None:
        self._size = size
        # Each entry weighs at least its share of `size`, so that this also limits the number.
        self._least = max(1, size // entries)
        self._ttl = ttl
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Start empty: the parent may have held the table's lock."""
        try:
            import cachebox
        except ImportError as error:
            raise ConfigurationError(
                "near_cache", 'needs an extra: pip install "ml-model-cache[near]"'
            ) from error
        self._table: Any = cachebox.LRUCache(self._size, getsizeof=_weight)

    @property
    def table(self) -> Any:
        """The entries as they are kept: see `Near`."""
        return self._table

    def get(self, key: bytes, generation: Generation, now: float) -> Near | None:
        """Return an entry if it may be served, else None."""
        found = self._table.get(key)
        if found is None:
            return None
        near: Near = found
        if now >= near.expires or _is_outdated(near, generation):
            self._table.pop(key, None)
            return None
        return near

    def renew(self, key: bytes, near: Near, stamp: bytes) -> None:
        """Keep an entry that is not outdated in a later generation."""
        self._table.insert(key, near._replace(stamp=stamp))

    def get_many(
        self, keys: Sequence[bytes], generation: Generation, now: float
    ) -> list[bytes | None]:
        """Return the entries that may be served, in the order of the keys; None for the others."""
        get, (_, stamp) = self._table.get, generation.current
        return [
            found.entry
            if (found := get(key)) is not None and now < found.expires and found.stamp == stamp
            else None
            for key in keys
        ]

    def put(
        self,
        key: bytes,
        entry: bytes,
        seconds: float,
        stamp: bytes,
        now: float,
        read: Callable[[], Any],
        mark: bytes = b"",
        written: float | None = None,
    ) -> None:
        """Keep an entry.

        Args:
            key: the canonical bytes of its input.
            entry: the entry.
            seconds: how long it may be a hit.
            stamp: that of the value of the generation in which it was read.
            now: the time.
            read: decodes the entry, to a new object each time.
            mark: what stands for its key in the generation's records.
            written: when this process wrote it; None if another one did.
        """
        weight = max(self._least, len(key) + len(entry) + OVERHEAD)
        if weight <= self._size and seconds > 0:
            expires = now + min(seconds, self._ttl)
            ends = None if seconds == math.inf else now + seconds
            near = Near(entry, expires, stamp, weight, read, mark, ends, written)
            self._table.insert(key, near)

    def drop(self, key: bytes) -> None:
        """Remove an entry."""
        self._table.pop(key, None)

    def clear(self) -> None:
        """Remove all entries."""
        self._table.clear()

    def __len__(self) -> int:
        return len(self._table)


def _is_outdated(near: Near, generation: Generation) -> bool:
    value, stamp = generation.current
    # The stamps are equal for nearly all hits.
    return near.stamp != stamp and is_outdated_nearby(near.mark, near.stamp, value)


def _weight(_: bytes, near: Near) -> int:
    return near.weight

"""The near cache: entries in this process, in front of Redis.

Entries stay bytes, so each hit decodes a new object. They are looked up by the canonical bytes of
the input, which saves the digest. No entry is served after its own ttl, or more than a second after
a purge anywhere in the fleet.
"""

from __future__ import annotations

from typing import Any

from model_cache.errors import ConfigurationError
from model_cache.forks import renew_after_fork
from model_cache.prediction.generation import Generation, Value

# The overhead of an entry in bytes: keys, tuples, the slot in the table.
_OVERHEAD = 300


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

    def get(self, key: bytes, generation: Generation, now: float) -> bytes | None:
        """Return an entry if it may be served, else None."""
        found = self._table.get(key)
        if found is None:
            return None
        entry: bytes
        entry, expires, value, _ = found
        if now >= expires or value != generation.value:
            self._table.pop(key, None)
            return None
        return entry

    def put(self, key: bytes, entry: bytes, seconds: float, value: Value, now: float) -> None:
        """Store an entry.

        Args:
            key: the canonical bytes of its input.
            entry: the entry.
            seconds: how long it may be a hit.
            value: the value of the generation in which it was read.
            now: the time.
        """
        weight = max(self._least, len(key) + len(entry) + _OVERHEAD)
        if weight <= self._size and seconds > 0:
            self._table.insert(key, (entry, now + min(seconds, self._ttl), value, weight))

    def drop(self, key: bytes) -> None:
        """Remove an entry."""
        self._table.pop(key, None)

    def clear(self) -> None:
        """Remove all entries."""
        self._table.clear()

    def __len__(self) -> int:
        return len(self._table)


def _weight(_: bytes, value: tuple[bytes, float, Value, int]) -> int:
    return value[3]

"""The packed layout in event loops; `packed` is for threads."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from model_cache.protocols import AsyncStore, Clock, Timed, Write
from model_cache.stores.packed import Found, completed, elsewhere, remaining
from model_cache.stores.packing import ELSEWHERE, Packing


class AsyncPackedStore:
    """Keeps small entries in buckets, and large ones under keys of their own.

    Args:
        inner: where the buckets are.
        packing: which place an entry has.
        clock: seconds, as `time.monotonic`.
    """

    def __init__(self, inner: AsyncStore, packing: Packing, clock: Clock = time.monotonic) -> None:
        self._inner = inner
        self._packing = packing
        self._clock = clock

    async def get(self, key: bytes, timeout: float) -> bytes | None:
        started = self._clock()
        entry = await self._inner.get(self._packing.address(key), timeout)
        if entry != ELSEWHERE:
            return entry
        return await self._inner.get(key, self._left(started, timeout))

    async def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> None:
        await self.set_many([(key, entry, ttl)], timeout)

    def set_if_absent(
        self, key: bytes, entry: bytes, ttl: int | None, timeout: float
    ) -> Awaitable[bool]:
        """Keep `entry` under a key of its own: it is a lease or a generation."""
        return self._inner.set_if_absent(key, entry, ttl, timeout)

    def append(self, key: bytes, piece: bytes, timeout: float) -> Awaitable[int]:
        """Append to a key of its own: this is for generations."""
        return self._inner.append(key, piece, timeout)

    async def get_many(self, keys: Sequence[bytes], timeout: float) -> list[bytes | None]:
        return await self._find(self._inner.get_many, keys, timeout)

    async def get_with_ttl(self, keys: Sequence[bytes], timeout: float) -> list[Timed]:
        return await self._find(self._inner.get_with_ttl, keys, timeout)

    def set_watching(
        self, entries: Sequence[Write], watched: bytes, timeout: float
    ) -> Awaitable[bytes | None]:
        return self._inner.set_watching(self._packing.writes(entries), watched, timeout)

    def set_many(self, entries: Sequence[Write], timeout: float) -> Awaitable[None]:
        writes = self._packing.writes(entries)
        if len(writes) == 1:
            return self._inner.set(*writes[0], timeout)
        return self._inner.set_many(writes, timeout)

    def delete(self, keys: Iterable[bytes], timeout: float) -> Awaitable[int]:
        """Delete entries, in a bucket or not, and whole buckets; return how many entries."""
        return self._inner.delete(self._packing.addresses(keys), timeout)

    def close(self) -> None:
        self._inner.close()

    async def _find(
        self,
        get: Callable[[Sequence[bytes], float], Awaitable[list[Found]]],
        keys: Sequence[bytes],
        timeout: float,
    ) -> list[Found]:
        started = self._clock()
        found = await get(list(map(self._packing.address, keys)), timeout)
        large = elsewhere(keys, found)
        return completed(found, await get(large, self._left(started, timeout))) if large else found

    def _left(self, started: float, timeout: float) -> float:
        return remaining(started + timeout - self._clock())

"""The packed layout in event loops; `packed` is for threads."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterable, Sequence

from model_cache.protocols import AsyncStore, Clock
from model_cache.stores.async_server import AsyncRedisStore
from model_cache.stores.packed import BucketRequests, completed, elsewhere, remaining
from model_cache.stores.packing import ELSEWHERE, Packing, place_at


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
        started = self._clock()
        found = await self._inner.get_many(list(map(self._packing.address, keys)), timeout)
        large = elsewhere(keys, found)
        if not large:
            return found
        left = self._left(started, timeout)
        return completed(found, await self._inner.get_many(large, left))

    async def get_with_ttl(
        self, keys: Sequence[bytes], timeout: float
    ) -> list[tuple[bytes | None, int | None]]:
        started = self._clock()
        found = await self._inner.get_with_ttl(list(map(self._packing.address, keys)), timeout)
        large = elsewhere(keys, found)
        if not large:
            return found
        left = self._left(started, timeout)
        return completed(found, await self._inner.get_with_ttl(large, left))

    def set_watching(
        self,
        entries: Sequence[tuple[bytes, bytes, int | None]],
        watched: bytes,
        timeout: float,
    ) -> Awaitable[bytes | None]:
        return self._inner.set_watching(self._packing.writes(entries), watched, timeout)

    def set_many(
        self, entries: Sequence[tuple[bytes, bytes, int | None]], timeout: float
    ) -> Awaitable[None]:
        writes = self._packing.writes(entries)
        if len(writes) == 1:
            return self._inner.set(*writes[0], timeout)
        return self._inner.set_many(writes, timeout)

    def delete(self, keys: Iterable[bytes], timeout: float) -> Awaitable[int]:
        """Delete entries, in a bucket or not, and whole buckets; return how many entries."""
        return self._inner.delete(self._packing.addresses(keys), timeout)

    def close(self) -> None:
        self._inner.close()

    def _left(self, started: float, timeout: float) -> float:
        return remaining(started + timeout - self._clock())


class AsyncBucketStore:
    """A server that keeps entries at places in buckets, besides plain keys.

    Args:
        server: the server.
        requests: what to send to it.
    """

    def __init__(self, server: AsyncRedisStore, requests: BucketRequests) -> None:
        self._server = server
        self._guard = server.guard
        self._requests = requests

    def get(self, key: bytes, timeout: float) -> Awaitable[bytes | None]:
        place = place_at(key)
        if place is None:
            return self._server.get(key, timeout)
        return self._server.ask(self._guard.reads, self._requests.get(place), timeout)

    def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> Awaitable[None]:
        if place_at(key) is None:
            return self._server.set(key, entry, ttl, timeout)
        return self.set_many([(key, entry, ttl)], timeout)

    def set_if_absent(
        self, key: bytes, entry: bytes, ttl: int | None, timeout: float
    ) -> Awaitable[bool]:
        return self._server.set_if_absent(key, entry, ttl, timeout)

    def append(self, key: bytes, piece: bytes, timeout: float) -> Awaitable[int]:
        return self._server.append(key, piece, timeout)

    def get_many(self, keys: Sequence[bytes], timeout: float) -> Awaitable[list[bytes | None]]:
        return self._server.ask(self._guard.reads, self._requests.get_many(keys), timeout)

    def get_with_ttl(
        self, keys: Sequence[bytes], timeout: float
    ) -> Awaitable[list[tuple[bytes | None, int | None]]]:
        return self._server.ask(self._guard.reads, self._requests.get_with_ttl(keys), timeout)

    def set_watching(
        self,
        entries: Sequence[tuple[bytes, bytes, int | None]],
        watched: bytes,
        timeout: float,
    ) -> Awaitable[bytes | None]:
        request = self._requests.set_watching(entries, watched)
        return self._server.ask(self._guard.writes, request, timeout)

    def set_many(
        self, entries: Sequence[tuple[bytes, bytes, int | None]], timeout: float
    ) -> Awaitable[None]:
        return self._server.ask(self._guard.writes, self._requests.set_many(entries), timeout)

    def delete(self, keys: Iterable[bytes], timeout: float) -> Awaitable[int]:
        return self._server.ask(self._guard.writes, self._requests.delete(keys), timeout)

    def close(self) -> None:
        self._server.close()

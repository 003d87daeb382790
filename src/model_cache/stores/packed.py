"""The packed layout: small entries as fields of bucket hashes, a third of the memory or less.

The stores here wrap the store of all servers, and choose the place of each entry. For the inner
stores, a place in a bucket is a key like any other; only `bucket_requests` sends hash commands
for it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from model_cache.errors import StoreUnavailableError
from model_cache.protocols import AsyncStore, Clock, Store, Timed, Write
from model_cache.stores.guard import seconds_left
from model_cache.stores.packing import Packing, is_reference, reference_to

Found = TypeVar("Found", bytes | None, Timed)


class PackedStore:
    """Keeps small entries in buckets, and large ones under keys of their own.

    Keys that are not an entry's, such as leases, pass through.

    Args:
        inner: where the buckets are.
        packing: which place an entry has.
        clock: seconds, as `time.monotonic`.
    """

    def __init__(self, inner: Store, packing: Packing, clock: Clock = time.monotonic) -> None:
        self._inner = inner
        self._packing = packing
        self._clock = clock

    @property
    def state(self) -> str:
        return self._inner.state

    def get(self, key: bytes, timeout: float) -> bytes | None:
        deadline = self._clock() + timeout
        place = self._packing.address(key)
        found = self._inner.get(place, timeout)
        if not _refers(key, place, found):
            return found
        return _referred(found, self._inner.get(key, seconds_left(deadline, self._clock)))

    def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> None:
        self.set_many([(key, entry, ttl)], timeout)

    def set_if_absent(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> bool:
        """Keep `entry` under a key of its own: it is a lease or a generation."""
        return self._inner.set_if_absent(key, entry, ttl, timeout)

    def append(self, key: bytes, piece: bytes, timeout: float) -> int:
        """Append to a key of its own: it is a generation."""
        return self._inner.append(key, piece, timeout)

    def get_many(self, keys: Sequence[bytes], timeout: float) -> list[bytes | None]:
        return self._find(self._inner.get_many, keys, timeout)

    def get_with_ttl(self, keys: Sequence[bytes], timeout: float) -> list[Timed]:
        return self._find(self._inner.get_with_ttl, keys, timeout)

    def set_watching(
        self, entries: Sequence[Write], watched: bytes, timeout: float
    ) -> bytes | None:
        return self._inner.set_watching(self._packing.writes(entries), watched, timeout)

    def set_many(self, entries: Sequence[Write], timeout: float) -> None:
        writes = self._packing.writes(entries)
        if len(writes) == 1:
            self._inner.set(*writes[0], timeout)
        else:
            self._inner.set_many(writes, timeout)

    def delete(self, keys: Iterable[bytes], timeout: float) -> int:
        """Delete entries, in a bucket or not, and whole buckets; return how many entries."""
        return self._inner.delete(self._packing.addresses(keys), timeout)

    def add_counts(
        self, key: bytes, amounts: Mapping[bytes, int], timeout: float
    ) -> Mapping[bytes, bytes]:
        return self._inner.add_counts(key, amounts, timeout)

    def scan(self, pattern: bytes, timeout: float) -> Iterator[bytes]:
        """Yield the keys that match: of buckets, and of entries with a key of their own."""
        return self._inner.scan(pattern, timeout)

    def close(self) -> None:
        self._inner.close()

    def _find(
        self,
        get: Callable[[Sequence[bytes], float], list[Found]],
        keys: Sequence[bytes],
        timeout: float,
    ) -> list[Found]:
        deadline = self._clock() + timeout
        places = list(map(self._packing.address, keys))
        found: list[Found] = []
        try:
            found = get(places, timeout)
            if not (large := _large(keys, places, found)):
                return found
            entries = get(large, seconds_left(deadline, self._clock))
            return _completed(keys, found, dict(zip(large, entries, strict=True)))
        except StoreUnavailableError as error:
            error.answers = _answers(keys, places, found, error.answers)
            raise


class AsyncPackedStore:
    """The same for event loops."""

    def __init__(self, inner: AsyncStore, packing: Packing, clock: Clock = time.monotonic) -> None:
        self._inner = inner
        self._packing = packing
        self._clock = clock

    async def get(self, key: bytes, timeout: float) -> bytes | None:
        deadline = self._clock() + timeout
        place = self._packing.address(key)
        found = await self._inner.get(place, timeout)
        if not _refers(key, place, found):
            return found
        return _referred(found, await self._inner.get(key, seconds_left(deadline, self._clock)))

    async def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> None:
        await self.set_many([(key, entry, ttl)], timeout)

    def set_if_absent(
        self, key: bytes, entry: bytes, ttl: int | None, timeout: float
    ) -> Awaitable[bool]:
        """Keep `entry` under a key of its own: it is a lease or a generation."""
        return self._inner.set_if_absent(key, entry, ttl, timeout)

    def append(self, key: bytes, piece: bytes, timeout: float) -> Awaitable[int]:
        """Append to a key of its own: it is a generation."""
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
        deadline = self._clock() + timeout
        places = list(map(self._packing.address, keys))
        found: list[Found] = []
        try:
            found = await get(places, timeout)
            if not (large := _large(keys, places, found)):
                return found
            entries = await get(large, seconds_left(deadline, self._clock))
            return _completed(keys, found, dict(zip(large, entries, strict=True)))
        except StoreUnavailableError as error:
            error.answers = _answers(keys, places, found, error.answers)
            raise


def _refers(key: bytes, place: bytes, found: bytes | Timed | None) -> bool:
    """Return whether what was found for a key is in a bucket, and refers to a large entry."""
    return place != key and is_reference(_entry(found))


def _large(keys: Sequence[bytes], places: Sequence[bytes], found: Sequence[Found]) -> list[bytes]:
    """Return the keys whose entries are too large for a bucket, by what was found there."""
    triples = zip(keys, places, found, strict=True)
    return [key for key, place, each in triples if _refers(key, place, each)]


def _completed(
    keys: Sequence[bytes], found: Sequence[Found], large: Mapping[bytes, Found]
) -> list[Found]:
    """Return what was found, with the large entries in their places."""
    pairs = zip(keys, found, strict=True)
    return [_referred(each, large[key]) if key in large else each for key, each in pairs]


def _referred(reference: Found, large: Found) -> Found:
    """Return a large entry; None in its place if it is not the one that the reference names."""
    entry = _entry(large)
    if entry is not None and reference_to(entry) == _entry(reference):
        return large
    return (None, None) if isinstance(large, tuple) else None


def _entry(found: bytes | Timed | None) -> bytes | None:
    return found[0] if isinstance(found, tuple) else found


def _answers(
    keys: Sequence[bytes],
    places: Sequence[bytes],
    found: Sequence[bytes | Timed | None],
    answers: Mapping[bytes, Any],
) -> dict[bytes, Any]:
    """Return the answers of a lookup that failed, by the keys of the entries.

    Args:
        keys: the keys.
        places: their places.
        found: what was found there; empty if that failed.
        answers: those of the error, by place, or by the keys of large entries.
    """
    pairs = list(zip(keys, places, strict=True))
    by_key = {key: answers[place] for key, place in pairs if place in answers}
    for key, each in zip(keys, found, strict=False):
        by_key[key] = _referred(each, answers[key]) if key in answers else each
    return {
        key: by_key[key]
        for key, place in pairs
        if key in by_key and not _refers(key, place, by_key[key])
    }

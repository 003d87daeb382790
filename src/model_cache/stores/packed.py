"""The packed layout: small entries as fields of bucket hashes, a third of the memory or less.

`PackedStore` is around all servers and says where an entry lives; `BucketRequests` are what each
server is sent, with the commands of hashes. In between, a place is a key like any other. The twin
of `PackedStore` for event loops is in `async_packed`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from model_cache.errors import StoreUnavailableError
from model_cache.keys.buckets import Place
from model_cache.protocols import Clock, StatefulStore, Timed, Write
from model_cache.stores.packing import (
    ELSEWHERE,
    Batch,
    Packing,
    delete_command,
    get_request,
    place_at,
    taken_apart,
    unpacked,
)
from model_cache.stores.plain import PlainRequests
from model_cache.stores.replies import Replies, Request
from model_cache.stores.requests import get_request as get_key_request
from model_cache.stores.requests import get_with_ttl_requests, request_of

Found = TypeVar("Found", bytes | None, Timed)

_MOST_ENDED = 1000
_REMOVED_AT_ONCE = 8


class PackedStore:
    """Keeps small entries in buckets, and large ones under keys of their own.

    Keys that are not an entry's, such as leases, pass through.

    Args:
        inner: where the buckets are.
        packing: which place an entry has.
        clock: seconds, as `time.monotonic`.
    """

    def __init__(
        self, inner: StatefulStore, packing: Packing, clock: Clock = time.monotonic
    ) -> None:
        self._inner = inner
        self._packing = packing
        self._clock = clock

    @property
    def state(self) -> str:
        return self._inner.state

    def get(self, key: bytes, timeout: float) -> bytes | None:
        started = self._clock()
        entry = self._inner.get(self._packing.address(key), timeout)
        if entry != ELSEWHERE:
            return entry
        return self._inner.get(key, self._left(started, timeout))

    def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> None:
        self.set_many([(key, entry, ttl)], timeout)

    def set_if_absent(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> bool:
        """Keep `entry` under a key of its own: it is a lease or a generation."""
        return self._inner.set_if_absent(key, entry, ttl, timeout)

    def append(self, key: bytes, piece: bytes, timeout: float) -> int:
        """Append to a key of its own: this is for generations."""
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
        started = self._clock()
        found = get(list(map(self._packing.address, keys)), timeout)
        large = elsewhere(keys, found)
        return completed(found, get(large, self._left(started, timeout))) if large else found

    def _left(self, started: float, timeout: float) -> float:
        return remaining(started + timeout - self._clock())


def remaining(left: float) -> float:
    """Return the seconds that are left.

    Raises:
        StoreUnavailableError: there are none.
    """
    if left <= 0:
        raise StoreUnavailableError("timed out", "timeout")
    return left


def elsewhere(keys: Sequence[bytes], found: Sequence[Found]) -> list[bytes]:
    """Return the keys whose entries are too large for a bucket, by what was found there."""
    return [key for key, each in zip(keys, found, strict=True) if _is_elsewhere(each)]


def completed(found: Sequence[Found], large: Sequence[Found]) -> list[Found]:
    """Return what was found, with the large entries in their places."""
    left = iter(large)
    return [next(left) if _is_elsewhere(each) else each for each in found]


def _is_elsewhere(found: bytes | Timed | None) -> bool:
    return (found[0] if isinstance(found, tuple) else found) == ELSEWHERE


class BucketRequests(PlainRequests):
    """The requests to one server that keeps entries at places in buckets, besides plain keys.

    Args:
        longest_ttl: the longest time that an entry may claim to have left, in milliseconds; None
            for any.
        proxied: whether the server is behind a proxy.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        longest_ttl: int | None = None,
        *,
        proxied: bool = False,
        clock: Clock = time.time,
    ) -> None:
        super().__init__(proxied=proxied)
        self._longest_ttl = longest_ttl
        self._clock = clock
        # To be removed with a later write. If such an entry is written anew before, by another
        # process, it is lost: a miss.
        self._ended: deque[Place] = deque(maxlen=_MOST_ENDED)

    def get(self, key: bytes) -> Request[bytes | None]:
        place = place_at(key)
        if place is None:
            return super().get(key)
        return Request([get_request(place)], lambda replies, got: self._entry(replies, got[0]))

    def get_many(self, keys: Sequence[bytes]) -> Request[list[bytes | None]]:
        places = [place_at(key) for key in keys]

        def read(replies: Replies, got: list[Any]) -> list[bytes | None]:
            return [
                replies.entry(reply) if place is None else self._entry(replies, reply)
                for reply, place in zip(got, places, strict=True)
            ]

        commands = [
            get_key_request(key) if place is None else get_request(place)
            for key, place in zip(keys, places, strict=True)
        ]
        return Request(commands, read)

    def get_with_ttl(self, keys: Sequence[bytes]) -> Request[list[Timed]]:
        places = [place_at(key) for key in keys]

        def read(replies: Replies, got: list[Any]) -> list[Timed]:
            left = iter(got)
            return [
                self._entry_and_ttl(replies, next(left), next(left))
                if place is None
                else self._entry_and_end(replies, next(left))
                for place in places
            ]

        commands = [
            command
            for key, place in zip(keys, places, strict=True)
            for command in (get_with_ttl_requests([key]) if place is None else [get_request(place)])
        ]
        return Request(commands, read)

    def set(self, key: bytes, entry: bytes, ttl: int | None) -> Request[None]:
        if place_at(key) is None:
            return super().set(key, entry, ttl)
        return self.set_many([(key, entry, ttl)])

    def set_many(self, entries: Sequence[Write]) -> Request[None]:
        batch = self._batch(entries)

        def read(replies: Replies, got: list[Any]) -> None:
            self._check(batch, replies, got)

        return Request([request_of(*command) for command in batch.commands], read)

    def set_watching(self, entries: Sequence[Write], watched: bytes) -> Request[bytes | None]:
        batch = self._batch(entries)

        def read(replies: Replies, got: list[Any]) -> bytes | None:
            self._check(batch, replies, got[:-1])
            return replies.entry(got[-1])

        commands = [request_of(*command) for command in batch.commands]
        return Request([*commands, get_key_request(watched)], read)

    def delete(self, keys: Iterable[bytes]) -> Request[int]:
        """Return the request that deletes entries, in buckets or not, and whole buckets."""
        places = [(key, place_at(key)) for key in keys]
        removals = [request_of(*delete_command(place)) for _, place in places if place is not None]
        plain = super().delete(key for key, place in places if place is None)

        def read(replies: Replies, got: list[Any]) -> int:
            fields = len(removals)
            return replies.count(got[:fields]) + plain.read(replies, got[fields:])

        return Request([*removals, *plain.commands], read)

    def _batch(self, entries: Sequence[Write]) -> Batch:
        removals = list(self._take_ended())
        return Batch(entries, removals, self._clock(), proxied=self._is_proxied)

    def _check(self, batch: Batch, replies: Replies, got: Sequence[Any]) -> None:
        written, over = batch.outcome(got)
        self._ended.extend(over)
        replies.check_written(written)

    def _entry(self, replies: Replies, reply: Any) -> bytes | None:
        value = replies.entry(reply)
        return None if value is None else unpacked(value, self._clock(), self._longest_ttl)

    def _entry_and_end(self, replies: Replies, reply: Any) -> Timed:
        value = replies.entry(reply)
        now = self._clock()
        entry = None if value is None else unpacked(value, now, self._longest_ttl)
        parts = None if entry is None or value is None else taken_apart(value)
        end = None if parts is None else parts[1]
        return entry, None if end is None else max(0, int(end - 1000 * now))

    def _take_ended(self) -> Iterator[Place]:
        for _ in range(_REMOVED_AT_ONCE):
            try:
                yield self._ended.popleft()
            except IndexError:
                return

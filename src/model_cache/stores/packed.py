"""The packed layout: small entries as fields of bucket hashes, a third of the memory or less.

`PackedStore` is around all servers and says where an entry lives; a `BucketStore` is around each
server and speaks the commands of hashes. In between, a place is a key like any other.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from model_cache.errors import StoreUnavailableError
from model_cache.keys.buckets import Buckets, Place
from model_cache.protocols import Clock, StatefulStore
from model_cache.stores.dialing import request_of
from model_cache.stores.packing import (
    ELSEWHERE,
    Batch,
    Command,
    Packing,
    Write,
    delete_command,
    get_request,
    place_at,
    taken_apart,
    unpacked,
)
from model_cache.stores.server import RedisStore

_MOST_ENDED = 1000
_REMOVED_AT_ONCE = 8


class PackedStore:
    """Keeps small entries in buckets, and large ones under keys of their own.

    Keys that are not an entry's, such as leases, pass through.

    Args:
        inner: where the buckets are.
        buckets: which place an entry has.
        clock: seconds, as `time.monotonic`.
    """

    def __init__(
        self, inner: StatefulStore, buckets: Buckets, clock: Clock = time.monotonic
    ) -> None:
        self._inner = inner
        self._packing = Packing(buckets)
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

    def set_if_absent(self, key: bytes, entry: bytes, ttl: int, timeout: float) -> bool:
        """Keep `entry` under a key of its own: this is for leases."""
        return self._inner.set_if_absent(key, entry, ttl, timeout)

    def get_many(self, keys: Sequence[bytes], timeout: float) -> list[bytes | None]:
        started = self._clock()
        found = self._inner.get_many(list(map(self._packing.address, keys)), timeout)
        large = [key for key, entry in zip(keys, found, strict=True) if entry == ELSEWHERE]
        if not large:
            return found
        elsewhere = self._inner.get_many(large, self._left(started, timeout))
        entries = dict(zip(large, elsewhere, strict=True))
        return [
            entries[key] if entry == ELSEWHERE else entry
            for key, entry in zip(keys, found, strict=True)
        ]

    def get_with_ttl(
        self, keys: Sequence[bytes], timeout: float
    ) -> list[tuple[bytes | None, int | None]]:
        started = self._clock()
        found = self._inner.get_with_ttl(list(map(self._packing.address, keys)), timeout)
        large = [key for key, (entry, _) in zip(keys, found, strict=True) if entry == ELSEWHERE]
        if not large:
            return found
        elsewhere = self._inner.get_with_ttl(large, self._left(started, timeout))
        entries = dict(zip(large, elsewhere, strict=True))
        return [
            entries[key] if each[0] == ELSEWHERE else each
            for key, each in zip(keys, found, strict=True)
        ]

    def set_watching(
        self,
        entries: Sequence[tuple[bytes, bytes, int | None]],
        watched: bytes,
        timeout: float,
    ) -> bytes | None:
        return self._inner.set_watching(self._packing.writes(entries), watched, timeout)

    def set_many(self, entries: Sequence[tuple[bytes, bytes, int | None]], timeout: float) -> None:
        writes = self._packing.writes(entries)
        if len(writes) == 1:
            self._inner.set(*writes[0], timeout)
        else:
            self._inner.set_many(writes, timeout)

    def delete(self, keys: Iterable[bytes], timeout: float) -> int:
        """Delete entries, in a bucket or not, and whole buckets; return how many entries."""
        return self._inner.delete(self._packing.addresses(keys), timeout)

    def scan(self, pattern: bytes, timeout: float) -> Iterator[bytes]:
        """Yield the keys that match: of buckets, and of entries with a key of their own."""
        return self._inner.scan(pattern, timeout)

    def close(self) -> None:
        self._inner.close()

    def _left(self, started: float, timeout: float) -> float:
        left = started + timeout - self._clock()
        if left <= 0:
            raise StoreUnavailableError("no time is left", "timeout")
        return left


class BucketStore:
    """A server that keeps entries at places in buckets, besides plain keys.

    Args:
        server: the server.
        longest_ttl: the longest time that an entry may claim to have left, in milliseconds; None
            for any.
        clock: seconds since 1970.
    """

    def __init__(
        self, server: RedisStore, longest_ttl: int | None = None, clock: Clock = time.time
    ) -> None:
        self._server = server
        self._longest_ttl = longest_ttl
        self._clock = clock
        # To be removed with a later write. If such an entry is written anew before, by another
        # process, it is lost: a miss.
        self._ended: deque[Place] = deque(maxlen=_MOST_ENDED)

    def get(self, key: bytes, timeout: float) -> bytes | None:
        place = place_at(key)
        if place is None:
            return self._server.get(key, timeout)
        return self._entry(self._server.send(get_request(place), timeout))

    def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> None:
        if place_at(key) is None:
            self._server.set(key, entry, ttl, timeout)
        else:
            self.set_many([(key, entry, ttl)], timeout)

    def set_if_absent(self, key: bytes, entry: bytes, ttl: int, timeout: float) -> bool:
        return self._server.set_if_absent(key, entry, ttl, timeout)

    def get_many(self, keys: Sequence[bytes], timeout: float) -> list[bytes | None]:
        places = [place_at(key) for key in keys]
        requests = [
            request_of(b"GET", key) if place is None else get_request(place)
            for key, place in zip(keys, places, strict=True)
        ]
        replies = self._server.send_each(requests, timeout)
        return [
            self._server.entry_of(reply) if place is None else self._entry(reply)
            for reply, place in zip(replies, places, strict=True)
        ]

    def get_with_ttl(
        self, keys: Sequence[bytes], timeout: float
    ) -> list[tuple[bytes | None, int | None]]:
        places = [place_at(key) for key in keys]
        requests = [
            request
            for key, place in zip(keys, places, strict=True)
            for request in (
                [request_of(b"GET", key), request_of(b"PTTL", key)]
                if place is None
                else [get_request(place)]
            )
        ]
        replies = iter(self._server.send_each(requests, timeout))
        return [
            self._server.entry_and_ttl_of(next(replies), next(replies))
            if place is None
            else self._entry_and_ttl(next(replies))
            for place in places
        ]

    def set_watching(
        self,
        entries: Sequence[tuple[bytes, bytes, int | None]],
        watched: bytes,
        timeout: float,
    ) -> bytes | None:
        *_, found = self._write(entries, [(b"GET", watched)], timeout)
        return self._server.entry_of(found)

    def set_many(self, entries: Sequence[tuple[bytes, bytes, int | None]], timeout: float) -> None:
        self._write(entries, [], timeout)

    def _write(
        self, entries: Sequence[Write], more: Sequence[Command], timeout: float
    ) -> Sequence[Any]:
        """Write entries, and return the replies to more commands."""
        removals = list(self._take_ended())
        batch = Batch(entries, removals, self._clock(), proxied=self._server.proxied)
        replies = self._server.execute_many(timeout, [*batch.commands, *more])
        written, over = batch.outcome(replies)
        self._ended.extend(over)
        self._server.check_written(written)
        return replies[len(batch.commands) :]

    def delete(self, keys: Iterable[bytes], timeout: float) -> int:
        plain: list[bytes] = []
        places: list[Place] = []
        for key in keys:
            place = place_at(key)
            if place is None:
                plain.append(key)
            else:
                places.append(place)
        deleted = self._server.delete(plain, timeout) if plain else 0
        replies = self._server.execute_many(timeout, [delete_command(place) for place in places])
        return deleted + self._server.count_of(replies)

    def scan(self, pattern: bytes, timeout: float) -> Iterator[bytes]:
        return self._server.scan(pattern, timeout)

    def close(self) -> None:
        self._server.close()

    def _entry(self, reply: Any) -> bytes | None:
        value = self._server.entry_of(reply)
        return None if value is None else unpacked(value, self._clock(), self._longest_ttl)

    def _entry_and_ttl(self, reply: Any) -> tuple[bytes | None, int | None]:
        value = self._server.entry_of(reply)
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

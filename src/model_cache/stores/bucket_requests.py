"""The packed layout: requests to one server that keeps entries at places in buckets.

Without I/O: the stores that wait and those that await share them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from model_cache.keys.buckets import Place
from model_cache.protocols import Clock, Timed, Write
from model_cache.stores.packing import (
    Batch,
    delete_command,
    field_command,
    place_at,
    taken_apart,
    unpacked,
)
from model_cache.stores.plain import (
    PlainRequests,
    Request,
    get_command,
    get_with_ttl_commands,
)
from model_cache.stores.replies import Replies

_MOST_ENDED = 1000
_REMOVED_AT_ONCE = 8


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
        return super().get(key) if place is None else ([field_command(place)], self._entry)

    def get_many(self, keys: Sequence[bytes]) -> Request[list[bytes | None]]:
        places = [place_at(key) for key in keys]

        def read(replies: Replies, *got: object) -> list[bytes | None]:
            return [
                replies.entry(reply) if place is None else self._entry(replies, reply)
                for reply, place in zip(got, places, strict=True)
            ]

        commands = [
            get_command(key) if place is None else field_command(place)
            for key, place in zip(keys, places, strict=True)
        ]
        return commands, read

    def get_with_ttl(self, keys: Sequence[bytes]) -> Request[list[Timed]]:
        places = [place_at(key) for key in keys]

        def read(replies: Replies, *got: object) -> list[Timed]:
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
            for command in (get_with_ttl_commands(key) if place is None else [field_command(place)])
        ]
        return commands, read

    def set(self, key: bytes, entry: bytes, ttl: int | None) -> Request[None]:
        if place_at(key) is None:
            return super().set(key, entry, ttl)
        return self.set_many([(key, entry, ttl)])

    def set_many(self, entries: Sequence[Write]) -> Request[None]:
        batch = self._batch(entries)

        def read(replies: Replies, *got: object) -> None:
            self._check(batch, replies, got)

        return batch.commands, read

    def set_watching(self, entries: Sequence[Write], watched: bytes) -> Request[bytes | None]:
        batch = self._batch(entries)

        def read(replies: Replies, *got: object) -> bytes | None:
            self._check(batch, replies, got[:-1])
            return replies.entry(got[-1])

        return [*batch.commands, get_command(watched)], read

    def delete(self, keys: Iterable[bytes]) -> Request[int]:
        """Return the request that deletes entries, in buckets or not, and whole buckets."""
        places = [(key, place_at(key)) for key in keys]
        fields = [delete_command(place) for _, place in places if place is not None]
        others, read_others = super().delete(key for key, place in places if place is None)

        def read(replies: Replies, *got: object) -> int:
            count = len(fields)
            return replies.count(*got[:count]) + read_others(replies, *got[count:])

        return fields + others, read

    def _batch(self, entries: Sequence[Write]) -> Batch:
        removals = list(self._take_ended())
        return Batch(entries, removals, self._clock(), proxied=self._is_proxied)

    def _check(self, batch: Batch, replies: Replies, got: Sequence[object]) -> None:
        written, over = batch.outcome(got)
        self._ended.extend(over)
        replies.check_written(*written)

    def _entry(self, replies: Replies, reply: object) -> bytes | None:
        value = replies.entry(reply)
        return None if value is None else unpacked(value, self._clock(), self._longest_ttl)

    def _entry_and_end(self, replies: Replies, reply: object) -> Timed:
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

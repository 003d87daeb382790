"""The packed layout: requests to one server that keeps entries at places in buckets.

No I/O, so the stores for threads and those for event loops share them. `packing` defines what a
field of a bucket holds.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from model_cache.keys.buckets import Place
from model_cache.protocols import Clock, Timed, Write
from model_cache.stores.connection import command_of
from model_cache.stores.packing import is_over, packed, place_at, taken_apart, unpacked
from model_cache.stores.plain import (
    PlainRequests,
    Request,
    get_command,
    get_with_ttl_commands,
    set_command,
)
from model_cache.stores.replies import Replies

_MOST_ENDED = 1000
_REMOVED_AT_ONCE = 8
# Each write reads this many fields of its bucket, and expired ones are removed with a later write.
# In the long run, at most about a third of a bucket's fields have expired.
_SAMPLE = b"4"


class BucketRequests(PlainRequests):
    """The requests to one server that keeps entries in buckets or under keys of their own.

    Args:
        longest_ttl: the longest time that an entry may claim to have left, in milliseconds; None
            for no limit.
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
        # To be removed with a later write. If another process replaces such an entry before that,
        # the new entry is lost, and the next lookup is a miss.
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
                else self._entry_and_time(replies, next(left))
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
        return None if value is None else unpacked(value, self._clock(), self._longest_ttl)[0]

    def _entry_and_time(self, replies: Replies, reply: object) -> Timed:
        value = replies.entry(reply)
        if value is None:
            return None, None
        return unpacked(value, self._clock(), self._longest_ttl)

    def _take_ended(self) -> Iterator[Place]:
        for _ in range(_REMOVED_AT_ONCE):
            try:
                yield self._ended.popleft()
            except IndexError:
                return


class Batch:
    """The commands that write entries, at places and under plain keys, in one round trip.

    Args:
        writes: the entries.
        removals: places of expired entries. They go first, because a write may use one of them
            again.
        now: seconds since 1970.
        proxied: whether the server is behind a proxy, which rejects options of PEXPIRE.
    """

    def __init__(
        self,
        writes: Iterable[Write],
        removals: Sequence[Place],
        now: float,
        *,
        proxied: bool = False,
    ) -> None:
        self._removals = len(removals)
        self._now = now
        plain: list[bytes] = []
        by_bucket: dict[bytes, dict[bytes, Write]] = {}
        for write in writes:
            place = place_at(write[0])
            if place is None:
                plain.append(set_command(*write))
            else:
                by_bucket.setdefault(place.bucket, {})[place.field] = write
        self._plain = len(plain)
        self._groups = [
            (bucket, _set_commands(bucket, fields, now, proxied=proxied))
            for bucket, fields in by_bucket.items()
        ]
        self.commands = [
            *map(delete_command, removals),
            *plain,
            *(command for _, group in self._groups for command in group),
        ]

    def outcome(self, replies: Sequence[Any]) -> tuple[list[Any], list[Place]]:
        """Return the replies to the writes, and the places to remove with a later write."""
        left = iter(replies[self._removals :])
        written = [next(left) for _ in range(self._plain)]
        over: list[Place] = []
        for bucket, group in self._groups:
            *done, sample = [next(left) for _ in group]
            written += done
            over += ended(bucket, sample, self._now)
        return written, over


def field_command(place: Place) -> bytes:
    """Return the command that reads an entry."""
    bucket, field = place
    return b"*3\r\n$4\r\nHGET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
        *(len(bucket), bucket),
        *(len(field), field),
    )


def delete_command(place: Place) -> bytes:
    """Return the command that deletes an entry."""
    return command_of(b"HDEL", place.bucket, place.field)


def _set_commands(
    bucket: bytes, fields: Mapping[bytes, Write], now: float, *, proxied: bool
) -> list[bytes]:
    """Return the commands that write to one bucket.

    They delete what is erased, set the other fields, and make the bucket live as long as the entry
    that expires last. The last command returns a sample of the fields.
    """
    erased = [field for field, (_, _, ttl) in fields.items() if is_over(ttl)]
    written = {field: write for field, write in fields.items() if not is_over(write[2])}
    words = [
        word
        for field, (_, entry, ttl) in written.items()
        for word in (field, packed(entry, ttl, now))
    ]
    commands = [command_of(b"HDEL", bucket, *erased)] if erased else []
    if written:
        commands.append(command_of(b"HSET", bucket, *words))
        commands += _expiry(bucket, [ttl for _, _, ttl in written.values()], proxied=proxied)
    return [*commands, command_of(b"HRANDFIELD", bucket, _SAMPLE, b"WITHVALUES")]


def _expiry(bucket: bytes, ttls: Iterable[int | None], *, proxied: bool) -> list[bytes]:
    """Return the commands that make a bucket live as long as the entry that expires last."""
    longest = 0
    for ttl in ttls:
        if ttl is None:
            return [command_of(b"PERSIST", bucket)]
        longest = max(longest, ttl)
    milliseconds = b"%d" % longest
    if proxied:
        # The last write decides: if ttls differ, other entries may expire early.
        return [command_of(b"PEXPIRE", bucket, milliseconds)]
    # For GT, a key without expiry lives forever, so NX comes first.
    return [command_of(b"PEXPIRE", bucket, milliseconds, option) for option in (b"NX", b"GT")]


def ended(bucket: bytes, sample: Any, now: float) -> list[Place]:
    """Return the places of the expired entries in a sample of a bucket.

    Args:
        bucket: its key.
        sample: the reply to HRANDFIELD, which may be an error.
        now: seconds since 1970.
    """
    if not isinstance(sample, list):
        return []
    places = []
    for field, value in zip(sample[::2], sample[1::2], strict=False):
        parts = taken_apart(value) if isinstance(value, bytes) else None
        if parts is not None and parts[1] is not None and parts[1] <= 1000 * now:
            places.append(Place(bucket, field))
    return places

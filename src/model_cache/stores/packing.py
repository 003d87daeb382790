"""Entries as fields of bucket hashes: the values, the commands, and what the replies mean.

Without I/O: the stores that wait and those that await share it. Hash fields have no expiry of
their own on most servers, so each value begins with the time when its entry ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from model_cache.keys.buckets import Buckets, Place
from model_cache.protocols import Write
from model_cache.stores.connection import command_of
from model_cache.stores.plain import set_command

LARGEST = 58
"""Bytes of the largest entry that goes into a bucket. One value above 64 bytes, its time included,
turns a whole bucket into a hash table."""

ELSEWHERE = b"\0"
"""In the place of an entry that is too large for a bucket, and so has a key of its own."""

_FOREVER = b"\0"
_TIME_SIZE = 5
# A time is in units of 4 milliseconds since 1970: five bytes last until 2109.
_UNIT = 4
# Each write looks at so many fields of its bucket and removes those that have ended, so that at
# most about a third of a bucket's fields are dead in the long run.
_SAMPLE = b"4"


class Packing:
    """Which keys stores are asked for, in the place of the keys of entries.

    Args:
        buckets: says which place an entry has.
    """

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets

    def address(self, key: bytes) -> bytes:
        """Return the place of an entry, as one key; any other key stays as it is."""
        place = self._buckets.place(key)
        return key if place is None else address_of(place)

    def addresses(self, keys: Iterable[bytes]) -> list[bytes]:
        """Return all the keys that may hold something of these entries."""
        return [each for key in keys for each in dict.fromkeys((key, self.address(key)))]

    def writes(self, entries: Iterable[Write]) -> list[Write]:
        """Return what to write for entries: the large ones under keys of their own."""
        writes: list[Write] = []
        for key, entry, ttl in entries:
            address = self.address(key)
            is_packed = address != key
            is_large = is_packed and (len(entry) > LARGEST or entry == ELSEWHERE)
            # An empty entry erases: a large one, too.
            if is_large or (is_packed and not entry):
                writes.append((key, entry, ttl))
            writes.append((address, ELSEWHERE if is_large else entry, ttl))
        return writes


class Batch:
    """The commands that write entries, at places and under plain keys, by one round trip.

    Args:
        writes: the entries.
        removals: places of entries that have ended. They go first, since one of them may be
            written anew.
        now: seconds since 1970.
        proxied: whether there is a proxy in between, which knows no options of PEXPIRE.
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
        """Return the replies that say whether all was written, and places to be removed later."""
        left = iter(replies[self._removals :])
        written = [next(left) for _ in range(self._plain)]
        over: list[Place] = []
        for bucket, group in self._groups:
            *done, sample = [next(left) for _ in group]
            written += done
            over += ended(bucket, sample, self._now)
        return written, over


def address_of(place: Place) -> bytes:
    """Return a place as one key, which stores pass on; a cluster finds the bucket's slot by it."""
    return b"{%b}/%b" % place


def place_at(address: bytes) -> Place | None:
    """Return the place that a key stands for; None if it is a plain key."""
    end = address.find(b"}/") if address[:1] == b"{" else -1
    return None if end < 0 else Place(address[1:end], address[end + 2 :])


def packed(entry: bytes, ttl: int | None, now: float) -> bytes:
    """Return the value of a field.

    Args:
        entry: the entry.
        ttl: its time to live in milliseconds; None for until evicted.
        now: seconds since 1970.
    """
    if ttl is None:
        return _FOREVER + entry
    return ((int(1000 * now) + ttl) // _UNIT).to_bytes(_TIME_SIZE) + entry


def taken_apart(value: bytes) -> tuple[bytes, int | None] | None:
    """Return a field's entry and its end, in milliseconds since 1970; None if it has none.

    The value may be anything at all: what no writer has written is None.
    """
    if value[:1] == _FOREVER:
        return value[1:], None
    if len(value) < _TIME_SIZE:
        return None
    return value[_TIME_SIZE:], _UNIT * int.from_bytes(value[:_TIME_SIZE])


def unpacked(value: bytes, now: float, longest_ttl: int | None = None) -> bytes | None:
    """Return the entry that a field holds; None if there is none, or it has ended.

    Args:
        value: the field's value.
        now: seconds since 1970.
        longest_ttl: the longest time that an entry may claim to have left, in milliseconds; None
            for any. A writer whose clock is ahead can't make its entries live much longer.
    """
    parts = taken_apart(value)
    if parts is None:
        return None
    entry, end = parts
    if end is None:
        return entry
    left = end - 1000 * now
    return entry if left > 0 and (longest_ttl is None or left <= longest_ttl) else None


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

    The first sets the fields, the last returns a sample of fields; those in between make the
    bucket live as long as its longest entry.
    """
    words = [
        word
        for field, (_, entry, ttl) in fields.items()
        for word in (field, packed(entry, ttl, now))
    ]
    return [
        command_of(b"HSET", bucket, *words),
        *_expiry(bucket, fields.values(), proxied=proxied),
        command_of(b"HRANDFIELD", bucket, _SAMPLE, b"WITHVALUES"),
    ]


def _expiry(bucket: bytes, writes: Iterable[Write], *, proxied: bool) -> list[bytes]:
    """Return the commands that make a bucket live as long as its longest entry."""
    longest = 0
    for _, entry, ttl in writes:
        if ttl is None:
            return [command_of(b"PERSIST", bucket)]
        # Without GT, to erase an entry would end the bucket.
        longest = max(longest, ttl if entry or not proxied else 0)
    milliseconds = b"%d" % longest
    if proxied:
        # As long as the last one: if ttls differ, others may end early.
        return [command_of(b"PEXPIRE", bucket, milliseconds)] if longest else []
    # GT takes a key without expiry for one that lives for ever, hence NX first.
    return [command_of(b"PEXPIRE", bucket, milliseconds, option) for option in (b"NX", b"GT")]


def ended(bucket: bytes, sample: Any, now: float) -> list[Place]:
    """Return the places of a sample of a bucket whose entries have ended.

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

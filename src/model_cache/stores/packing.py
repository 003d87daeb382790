"""Entries as fields of bucket hashes: their places, and the values of the fields.

On most servers, hash fields have no expiry of their own, so each value begins with the time when
its entry expires.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from model_cache.keys.buckets import Buckets, Place
from model_cache.protocols import Timed, Write

LARGEST = 58
"""Bytes of the largest entry that goes into a bucket. One value above 64 bytes, its time included,
turns a whole bucket into a hash table."""

# With which a reference begins: no entry does.
_REFERENCE = b"\0"
_DIGEST_SIZE = 8
_FOREVER = b"\0"
_TIME_SIZE = 5
# A time is in units of 4 milliseconds since 1970: five bytes last until 2109.
_UNIT = 4


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
            is_large = is_packed and (len(entry) > LARGEST or entry[:1] == _REFERENCE)
            # An empty entry erases: a large one, too.
            if is_large or (is_packed and not entry):
                writes.append((key, entry, ttl))
            writes.append((address, reference_to(entry) if is_large else entry, ttl))
        return writes


def address_of(place: Place) -> bytes:
    """Return a place as one key, which stores pass on; a cluster finds the bucket's slot by it."""
    return b"{%b}/%b" % place


def place_at(address: bytes) -> Place | None:
    """Return the place that a key stands for; None if it is a plain key."""
    end = address.find(b"}/") if address[:1] == b"{" else -1
    return None if end < 0 else Place(address[1:end], address[end + 2 :])


def reference_to(entry: bytes) -> bytes:
    """Return what stands in a bucket for an entry that is too large for it, and has its own key.

    It names the entry by a digest. The two are written and evicted one by one, so the key may hold
    an older entry: of before the one in the bucket became small, for example.
    """
    return _REFERENCE + hashlib.blake2b(entry, digest_size=_DIGEST_SIZE).digest()


def is_reference(found: bytes | None) -> bool:
    """Return whether what was found in a bucket is a reference to a large entry."""
    return found is not None and found[:1] == _REFERENCE


def is_over(ttl: int | None) -> bool:
    """Return whether an entry with a ttl has ended when it arrives, as one that erases."""
    return ttl is not None and ttl < _UNIT


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


def unpacked(value: bytes, now: float, longest_ttl: int | None = None) -> Timed:
    """Return a field's entry and its time left; None and None if there is none, or it has expired.

    Args:
        value: the field's value.
        now: seconds since 1970.
        longest_ttl: the longest time that an entry may claim to have left, in milliseconds; None
            for any. A writer whose clock is ahead can't make its entries live much longer.
    """
    parts = taken_apart(value)
    if parts is None:
        return None, None
    entry, end = parts
    if end is None:
        return entry, None
    left = end - 1000 * now
    is_alive = left > 0 and (longest_ttl is None or left <= longest_ttl)
    return (entry, int(left)) if is_alive else (None, None)

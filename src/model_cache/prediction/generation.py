"""Generations, which tell a process about purges by other processes.

Each namespace has a key next to its entries, its generation, which `purge()` changes. A prediction
that began in another generation is not stored, and an entry read in another one is not served from
the near cache. If the key is missing, it is created: between two looks that find nothing, there
may have been a purge whose generation was evicted.

`forget()` and `refresh()` append records to the generation, each of which outdates a single entry:
an APPEND is atomic, so none is lost, and the other entries stay in the near caches.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Sequence
from typing import Any, Final, Protocol
from weakref import ref

from model_cache.errors import StoreUnavailableError
from model_cache.forks import renew_after_fork
from model_cache.keys.key import Namespace

# After this many seconds, the near cache checks the generation before it serves an entry.
_RECENT_SECONDS = 1.0
_BETWEEN_REFUSALS = 1.0
# Every lookup reads the generation for this long after another process has outdated a write.
_WATCHED_SECONDS = 60.0
_NAME = b"generation"

LONGEST = 4096
"""The most bytes of a generation. Every write of an entry reads it, so after about 120
forgets or refreshes it begins anew, which clears the near caches."""

_VALUE_SIZE = 8
_MARK_SIZE = 11  # 64 bits of a digest
_RECORD_SIZE = 16  # so that a purge's value is no whole number of records
_STAMP_SIZE, _LENGTH_SIZE = 16, 4
_ALL = b"all entries"  # in the place of a mark; no key has a space

MOST_RECORDS = 60
"""How many entries to record one by one: twice as many records leave room in a generation."""


class _Unknown:
    """The value of a generation before the first check."""


UNKNOWN: Final = _Unknown()
Value = bytes | None | _Unknown


class NearEntries(Protocol):
    """What a near cache does for a generation."""

    def drop(self, key: bytes) -> None:
        """Remove an entry."""
        ...

    def clear(self) -> None:
        """Remove all entries."""
        ...


class Generation:
    """The generation of one namespace.

    Attributes:
        key: where it is in the store.
        current: the value that was seen last, and its stamp; in one attribute, so that no thread
            sees one without the other.
        trusted_until: until when the near cache may serve entries without another look.
        refused_until: until when not to try again to create it, since Redis has refused.
        watched_until: until when every lookup reads it, because it changes often.
        near: by its prefix, each binding that may have entries in a near cache, as long as it
            exists, with that near cache.
    """

    __slots__ = (
        *("__weakref__", "_asked", "_lock"),
        *("current", "key", "near", "refused_until", "trusted_until", "watched_until"),
    )

    def __init__(self, namespace: Namespace) -> None:
        self.key = namespace.raw + _NAME
        self.current: tuple[Value, bytes] = UNKNOWN, b""
        self.trusted_until = self.refused_until = self.watched_until = float("-inf")
        self._asked = float("-inf")
        self.near: dict[bytes, tuple[ref[Any], NearEntries]] = {}
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Replace the lock, which another thread of the parent may have held."""
        self._lock = threading.RLock()

    def has_near(self, prefix: bytes, binding: object, near: NearEntries) -> None:
        """Note that a binding may have entries in a near cache, under its prefix."""
        forget = self.near.pop
        self.near[prefix] = ref(binding, lambda _: forget(prefix, None)), near

    def drop_near(self, canonical: bytes | None) -> None:
        """Drop an entry from all near caches; all entries if its canonical bytes are unknown."""
        for prefix in list(self.near):
            _, near = self.near.get(prefix, (None, None))
            if near is not None and canonical is not None:
                near.drop(prefix + canonical)
            elif near is not None:
                near.clear()

    def saw(self, value: bytes | None, asked: float) -> None:
        """Record the value in the store.

        Args:
            value: the value.
            asked: when the request for it began. The reply may be late, and out of order.
        """
        with self._lock:
            if asked >= self._asked:
                self._asked = asked
                if value != self.value:
                    self.current = value, stamp_of(value)
                self.trusted_until = asked + _RECENT_SECONDS

    def changed(self, value: bytes, now: float) -> None:
        """Record that this process has set a new value; replies on their way are older."""
        with self._lock:
            self.current, self._asked = (value, stamp_of(value)), now
            self.trusted_until = float("-inf")

    @property
    def value(self) -> Value:
        """The value that was seen last; None if there was nothing."""
        return self.current[0]

    def stamp_of(self, seen: Value) -> bytes:
        """Return the stamp of a value that was seen; of the last one, it is known."""
        value, stamp = self.current
        return stamp if seen == value else stamp_of(seen)

    def appended(self, now: float) -> None:
        """Record that this process has appended a record; replies on their way are older."""
        with self._lock:
            self._asked = now
            self.trusted_until = float("-inf")

    def missed(self, error: StoreUnavailableError, asked: float) -> None:
        """Record a failed check. As long as nothing listens at the address, nobody can purge."""
        if isinstance(error.__cause__, ConnectionRefusedError):
            with self._lock:
                self.trusted_until = max(self.trusted_until, asked + _RECENT_SECONDS)

    def refused(self, now: float) -> None:
        """Record that Redis has refused to create it."""
        self.refused_until = now + _BETWEEN_REFUSALS

    def overtook(self, now: float) -> None:
        """Record that it has outdated a write of this process.

        Lookups then read it for a while. Without a near cache, a process otherwise learns of a
        change only from the reply to a write. If others change it all the time, all writes would
        be dropped.
        """
        self.watched_until = now + _WATCHED_SECONDS

    def is_recent(self, now: float) -> bool:
        """Whether the last look is recent enough for the near cache."""
        return now <= self.trusted_until


class Generations:
    """The generations of the namespaces in a store, one for each version of a model.

    None is dropped: others hold it, and would not see what is recorded in another one.
    """

    def __init__(self) -> None:
        self._generations: dict[bytes, Generation] = {}

    def of(self, namespace: Namespace) -> Generation:
        """Return the generation of a namespace."""
        generation = self._generations.get(namespace.raw)
        if generation is None:
            generation = self._generations.setdefault(namespace.raw, Generation(namespace))
        return generation


def is_generation(key: bytes) -> bool:
    """Return whether a key has the form of a generation's."""
    return key.endswith(b"/" + _NAME) and key.count(b"/") >= 2


def new_value() -> bytes:
    """Return a value that no generation has used before."""
    return secrets.token_bytes(_VALUE_SIZE)


def mark_of(key: bytes) -> bytes:
    """Return what stands for the key of an entry in a record."""
    return key[-_MARK_SIZE:]


def records_of(keys: Sequence[bytes]) -> bytes:
    """Return records to append to a generation when entries are forgotten or refreshed.

    If there are many, it is one record, which outdates all entries.
    """
    return b"".join(map(_record_of, [_ALL] if len(keys) > MOST_RECORDS else map(mark_of, keys)))


def records_of_erased(keys: Sequence[bytes]) -> bytes:
    """Return records that writes have been erased; they outdate what near caches have read.

    They are no reason to erase other writes. If they were, writes that overlap could erase each
    other forever.
    """
    marks = [_ALL] if len(keys) > MOST_RECORDS else map(mark_of, keys)
    return b"".join(_record_of(_mark_of_erased(mark)) for mark in marks)


def _record_of(mark: bytes) -> bytes:
    return mark + secrets.token_bytes(_RECORD_SIZE - _MARK_SIZE)


def _mark_of_erased(mark: bytes) -> bytes:
    return mark[::-1]


def stamp_of(value: Value) -> bytes:
    """Return what stands for a value in near caches, where thousands of values would be large."""
    if not isinstance(value, bytes):
        return b""
    digest = hashlib.blake2b(value, digest_size=_STAMP_SIZE - _LENGTH_SIZE).digest()
    return len(value).to_bytes(_LENGTH_SIZE) + digest


def is_outdated_nearby(mark: bytes, stamp: bytes, value: Value) -> bool:
    """Return whether an entry of a near cache is outdated, also by a write that was erased.

    Args:
        mark: what stands for its key.
        stamp: that of the value of the generation when it was read.
        value: the value of the generation now.
    """
    length = int.from_bytes(stamp[:_LENGTH_SIZE])
    if not isinstance(value, bytes) or stamp_of(value[:length]) != stamp:
        return True
    marks = mark, _ALL
    return _has_record((*marks, *map(_mark_of_erased, marks)), value[length:])


def is_purge(before: Value, now: Value) -> bool:
    """Return whether there was a purge between two looks. A forget appends to the value."""
    if not isinstance(now, bytes):
        return False
    return not isinstance(before, bytes) or now[:_VALUE_SIZE] != before[:_VALUE_SIZE]


def is_outdated(mark: bytes, seen: Value, value: Value) -> bool:
    """Return whether an entry is from before a purge, or a forget of it.

    Args:
        mark: what stands for its key.
        seen: the value of the generation when it was read, or when its computation began.
        value: the value of the generation now.
    """
    if seen == value:
        return False
    before = b"" if seen is None else seen
    if isinstance(before, _Unknown) or not isinstance(value, bytes):
        return True
    added = value[len(before) :]
    return not added or not value.startswith(before) or _has_record((mark, _ALL), added)


def _has_record(marks: tuple[bytes, ...], added: bytes) -> bool:
    """Return whether what was added to a value is no records, or has one with one of some marks."""
    if len(added) % _RECORD_SIZE:
        return True
    records = (added[start:] for start in range(0, len(added), _RECORD_SIZE))
    return any(record.startswith(marks) for record in records)

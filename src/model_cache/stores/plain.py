"""The plain layout: requests to one server that keeps each entry under a key of its own.

No I/O, so the stores for threads and those for event loops share them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Concatenate, TypeAlias, TypeVar

from model_cache.keys.buckets import is_bucket
from model_cache.protocols import Timed, Write
from model_cache.stores.connection import ErrorReply, command_of
from model_cache.stores.replies import Replies

T = TypeVar("T")

Request: TypeAlias = tuple[list[bytes], Callable[Concatenate[Replies, ...], T]]
"""Commands for one round trip, encoded as RESP, and a function that returns the answer.

The function receives `Replies`, and the reply to each command.
"""

# For fewer keys, GETs are as fast as MGET, which the login may not be allowed to use.
_LEAST_MGET = 4
_SCAN_COUNT = b"1000"
_ASKING = command_of(b"ASKING")


class PlainRequests:
    """The requests to one server.

    Args:
        proxied: whether the server is behind a proxy.
        in_cluster: whether it is a node of a cluster, where the keys of a command must share a
            slot.
    """

    def __init__(self, *, proxied: bool = False, in_cluster: bool = False) -> None:
        self._is_proxied = proxied
        self._in_cluster = in_cluster
        self._may_read_ttls = True

    def get(self, key: bytes) -> Request[bytes | None]:
        """Return the request for an entry."""
        return [get_command(key)], Replies.entry

    def get_many(self, keys: Sequence[bytes]) -> Request[list[bytes | None]]:
        """Return the request for entries."""
        if self._in_cluster or len(keys) < _LEAST_MGET:
            return list(map(get_command, keys)), Replies.entries
        return [command_of(b"MGET", *keys)], lambda replies, got: replies.listed(got, len(keys))

    def get_with_ttl(self, keys: Sequence[bytes]) -> Request[list[Timed]]:
        """Return the request for entries and their remaining ttls, as far as they may be read."""
        if self._may_read_ttls:
            commands = [each for key in keys for each in get_with_ttl_commands(key)]
            return commands, self._entries_and_ttls
        return list(map(get_command, keys)), _entries_without_ttls

    def set(self, key: bytes, entry: bytes, ttl: int | None) -> Request[None]:
        """Return the request that writes an entry."""
        return [set_command(key, entry, ttl)], Replies.check_written

    def set_many(self, entries: Sequence[Write]) -> Request[None]:
        """Return the request that writes entries."""
        return [set_command(*entry) for entry in entries], Replies.check_written

    def set_watching(self, entries: Sequence[Write], watched: bytes) -> Request[bytes | None]:
        """Return the request that writes entries and then reads a key."""
        writes = [set_command(*entry) for entry in entries]
        return [*writes, get_command(watched)], Replies.watched

    def set_if_absent(self, key: bytes, entry: bytes, ttl: int | None) -> Request[bool]:
        """Return the request that writes unless the key exists."""
        expiry = () if ttl is None else (b"PX", b"%d" % ttl)
        return [command_of(b"SET", key, entry, *expiry, b"NX")], Replies.was_set

    def append(self, key: bytes, piece: bytes) -> Request[int]:
        """Return the request that appends to a key."""
        return [command_of(b"APPEND", key, piece)], Replies.length

    def delete(self, keys: Iterable[bytes]) -> Request[int]:
        """Return the request that deletes keys; its answer counts entries: a bucket holds many."""
        keys = list(keys)
        buckets = list(filter(is_bucket, keys))
        command = b"DEL" if self._is_proxied else b"UNLINK"
        sizes = [command_of(b"HLEN", bucket) for bucket in buckets]
        removals = [command_of(command, key) for key in keys]

        def read(replies: Replies, *got: object) -> int:
            return replies.deleted(keys, dict(zip(buckets, got, strict=False)), got[len(buckets) :])

        return sizes + removals, read

    def add_counts(
        self, key: bytes, amounts: Mapping[bytes, int]
    ) -> Request[Mapping[bytes, bytes]]:
        """Return the request that adds to the fields of a hash and reads all of them."""
        added = [command_of(b"HINCRBY", key, field, b"%d" % amounts[field]) for field in amounts]
        return [*added, command_of(b"HGETALL", key)], Replies.counts

    def scan(self, cursor: bytes, pattern: bytes) -> Request[tuple[bytes, list[bytes]]]:
        """Return the request for a page of keys; its answer has the cursor of the next one."""
        command = command_of(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", _SCAN_COUNT)
        return [command], Replies.page

    def _entry_and_ttl(self, replies: Replies, entry: object, left: object) -> Timed:
        """Return what the replies to GET and PTTL hold; no time left if PTTL is not allowed."""
        found = replies.entry(entry)
        if type(left) is int:
            # -1: it does not expire. -2: it expired after the GET.
            return found, None if left == -1 else max(0, left)
        if not (isinstance(left, ErrorReply) and left.code == "NOPERM"):
            raise replies.failure(left)
        if self._may_read_ttls:
            self._may_read_ttls = False
            replies.warn_of_pttl()
        return found, 0

    def _entries_and_ttls(self, replies: Replies, *got: object) -> list[Timed]:
        pairs = zip(got[::2], got[1::2], strict=True)
        return [self._entry_and_ttl(replies, entry, left) for entry, left in pairs]


def get_command(key: bytes) -> bytes:
    """Return a GET."""
    return b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key)


def set_command(key: bytes, entry: bytes, ttl: int | None) -> bytes:
    """Return a SET, with a ttl in milliseconds, if any."""
    if ttl is None:
        parts = len(key), key, len(entry), entry
        return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % parts
    time = b"%d" % ttl
    timed = len(key), key, len(entry), entry, len(time), time
    return b"*5\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$2\r\nPX\r\n$%d\r\n%b\r\n" % timed


def get_with_ttl_commands(key: bytes) -> list[bytes]:
    """Return a GET and a PTTL."""
    return [get_command(key), command_of(b"PTTL", key)]


def _entries_without_ttls(replies: Replies, *got: object) -> list[Timed]:
    return [(entry, 0) for entry in replies.entries(*got)]


def asking(request: Request[T]) -> Request[T]:
    """Return a request that a cluster node answers even for keys that are being migrated to it."""
    commands, read = request

    def read_every_other(replies: Replies, *got: Any) -> T:
        return read(replies, *got[1::2])

    # Before each command, because ASKING applies only to the next one.
    return [each for command in commands for each in (_ASKING, command)], read_every_other

"""The plain layout: requests to one server that keeps each entry under a key of its own.

Without I/O: the stores that wait and those that await share them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from model_cache.protocols import Timed, Write
from model_cache.stores.connection import ErrorReply
from model_cache.stores.replies import Replies, Request
from model_cache.stores.requests import (
    append_request,
    delete_requests,
    get_request,
    get_with_ttl_requests,
    request_of,
    set_if_absent_request,
    set_request,
)

# For fewer keys, GETs are as fast as MGET, which the login may not be allowed to use.
_LEAST_MGET = 4


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
        return Request([get_request(key)], _entry)

    def get_many(self, keys: Sequence[bytes]) -> Request[list[bytes | None]]:
        """Return the request for entries."""
        if self._in_cluster or len(keys) < _LEAST_MGET:
            return Request(list(map(get_request, keys)), Replies.entries)
        return Request([request_of(b"MGET", *keys)], lambda replies, got: replies.listed(got, keys))

    def get_with_ttl(self, keys: Sequence[bytes]) -> Request[list[Timed]]:
        """Return the request for entries and their remaining ttls, as far as they may be read."""
        if self._may_read_ttls:
            return Request(get_with_ttl_requests(keys), self._entries_and_ttls)
        return Request(list(map(get_request, keys)), _entries_without_ttls)

    def set(self, key: bytes, entry: bytes, ttl: int | None) -> Request[None]:
        """Return the request that writes an entry."""
        return Request([set_request(key, entry, ttl)], Replies.check_written)

    def set_many(self, entries: Sequence[Write]) -> Request[None]:
        """Return the request that writes entries."""
        return Request([set_request(*entry) for entry in entries], Replies.check_written)

    def set_watching(self, entries: Sequence[Write], watched: bytes) -> Request[bytes | None]:
        """Return the request that writes entries and then reads a key."""
        writes = [set_request(*entry) for entry in entries]
        return Request([*writes, get_request(watched)], Replies.watched)

    def set_if_absent(self, key: bytes, entry: bytes, ttl: int | None) -> Request[bool]:
        """Return the request that writes unless the key exists."""
        return Request([set_if_absent_request(key, entry, ttl)], Replies.was_set)

    def append(self, key: bytes, piece: bytes) -> Request[int]:
        """Return the request that appends to a key."""
        return Request([append_request(key, piece)], Replies.length)

    def delete(self, keys: Iterable[bytes]) -> Request[int]:
        """Return the request that deletes keys; its answer counts entries: a bucket holds many."""
        keys = list(keys)
        commands = delete_requests(keys, proxied=self._is_proxied)
        return Request(commands, lambda replies, got: replies.deleted(keys, got))

    def add_counts(
        self, key: bytes, amounts: Mapping[bytes, int]
    ) -> Request[Mapping[bytes, bytes]]:
        """Return the request that adds to the fields of a hash and reads all of them."""
        added = [request_of(b"HINCRBY", key, field, b"%d" % amounts[field]) for field in amounts]
        return Request([*added, request_of(b"HGETALL", key)], Replies.counts)

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

    def _entries_and_ttls(self, replies: Replies, got: Sequence[object]) -> list[Timed]:
        pairs = zip(got[::2], got[1::2], strict=True)
        return [self._entry_and_ttl(replies, entry, left) for entry, left in pairs]


def _entry(replies: Replies, got: Sequence[Any]) -> bytes | None:
    return replies.entry(got[0])


def _entries_without_ttls(replies: Replies, got: Sequence[object]) -> list[Timed]:
    return [(entry, 0) for entry in replies.entries(got)]

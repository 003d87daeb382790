"""Requests, encoded as RESP."""

from __future__ import annotations

from collections.abc import Sequence

from model_cache.keys.buckets import is_bucket

_ASKING = b"*1\r\n$6\r\nASKING\r\n"


def request_of(*words: bytes) -> bytes:
    """Return a command encoded as RESP."""
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


def asking(commands: Sequence[bytes]) -> bytes:
    """Return commands that a cluster node answers even for keys that are being migrated to it.

    Each has two replies, of which the second counts: ASKING is for one command only.
    """
    return b"".join(_ASKING + command for command in commands)


def get_request(key: bytes) -> bytes:
    """Return a GET."""
    return b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key)


def set_request(key: bytes, entry: bytes, ttl: int | None) -> bytes:
    """Return a SET, with a ttl in milliseconds, if any."""
    if ttl is None:
        parts = len(key), key, len(entry), entry
        return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % parts
    time = b"%d" % ttl
    timed = len(key), key, len(entry), entry, len(time), time
    return b"*5\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$2\r\nPX\r\n$%d\r\n%b\r\n" % timed


def set_if_absent_request(key: bytes, entry: bytes, ttl: int | None) -> bytes:
    """Return a SET that does nothing if the key exists."""
    if ttl is None:
        return request_of(b"SET", key, entry, b"NX")
    return request_of(b"SET", key, entry, b"PX", b"%d" % ttl, b"NX")


def append_request(key: bytes, piece: bytes) -> bytes:
    """Return an APPEND."""
    return request_of(b"APPEND", key, piece)


def get_with_ttl_requests(keys: Sequence[bytes]) -> list[bytes]:
    """Return a GET and a PTTL for each key."""
    return [each for key in keys for each in (get_request(key), request_of(b"PTTL", key))]


def delete_requests(keys: Sequence[bytes], *, proxied: bool) -> list[bytes]:
    """Return the commands that delete keys, after those that count the entries in buckets."""
    command = b"DEL" if proxied else b"UNLINK"
    counts = [request_of(b"HLEN", key) for key in keys if is_bucket(key)]
    return counts + [request_of(command, key) for key in keys]

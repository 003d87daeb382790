"""Requests in the bytes of Redis' protocol (RESP)."""

from __future__ import annotations


def request_of(*words: bytes) -> bytes:
    """Return a command in the bytes of the protocol."""
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


def get_request(key: bytes) -> bytes:
    """Return a GET."""
    return b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key)


def set_request(key: bytes, entry: bytes, ttl: int | None) -> bytes:
    """Return a SET, with a time to live in milliseconds if there is one."""
    if ttl is None:
        return request_of(b"SET", key, entry)
    return request_of(b"SET", key, entry, b"PX", b"%d" % ttl)


def set_if_absent_request(key: bytes, entry: bytes, ttl: int) -> bytes:
    """Return a SET that does nothing if the key is there."""
    return request_of(b"SET", key, entry, b"PX", b"%d" % ttl, b"NX")


ASKING = b"*1\r\n$6\r\nASKING\r\n"

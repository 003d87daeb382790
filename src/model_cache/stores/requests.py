"""Commands, encoded as RESP."""

from __future__ import annotations


def request_of(*words: bytes) -> bytes:
    """Return a command encoded as RESP."""
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


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

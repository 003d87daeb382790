"""Redis as a store: each method one round trip, in the bytes of its protocol (RESP).

Every failure leaves as `StoreUnavailableError`, within the time that the caller gave. Whether
to ask at all is for others to say.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import redis

from model_cache.endpoint import Endpoint
from model_cache.errors import StoreUnavailableError, WriteRefusedError
from model_cache.protocols import Clock
from model_cache.stores.connections import ConnectionPool, ErrorReply, connector

_SCAN_COUNT = b"1000"
_DELETE_AT_ONCE = 500


class RedisStore:
    """One Redis server.

    Args:
        endpoint: where it is.
        timeout: seconds for each step of a connect.
        max_connections: how many connections may be open.
        clock: seconds, as `time.monotonic`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout: float = 0.1,
        max_connections: int = 50,
        clock: Clock = time.monotonic,
    ) -> None:
        self._place = endpoint.path or f"{endpoint.host}:{endpoint.port}"
        self._pool = ConnectionPool(connector(endpoint, timeout), max_connections, clock)

    def get(self, key: bytes, timeout: float) -> bytes | None:
        request = b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key)
        reply = self._exchange(request, 1, timeout)[0]
        if reply is None or type(reply) is bytes:
            return reply
        if isinstance(reply, ErrorReply) and reply.code == "WRONGTYPE":
            return None  # a key of another type: a miss, and SET overwrites it
        raise self._failure(reply)

    def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> None:
        self._check_written(self._exchange(_set_request(key, entry, ttl), 1, timeout))

    def get_many(self, keys: Sequence[bytes], timeout: float) -> list[bytes | None]:
        if not keys:
            return []
        reply = self._exchange(_request(b"MGET", *keys), 1, timeout)[0]
        if isinstance(reply, list) and len(reply) == len(keys):
            return [item if type(item) is bytes else None for item in reply]
        raise self._failure(reply)

    def set_many(self, entries: Sequence[tuple[bytes, bytes, int | None]], timeout: float) -> None:
        if entries:
            request = b"".join([_set_request(*entry) for entry in entries])
            self._check_written(self._exchange(request, len(entries), timeout))

    def delete(self, keys: Iterable[bytes], timeout: float) -> int:
        waiting, deleted = list(keys), 0
        while waiting:
            batch, waiting = waiting[:_DELETE_AT_ONCE], waiting[_DELETE_AT_ONCE:]
            reply = self._exchange(_request(b"UNLINK", *batch), 1, timeout)[0]
            if type(reply) is not int:
                raise self._failure(reply)
            deleted += reply
        return deleted

    def scan(self, pattern: bytes, timeout: float) -> Iterator[bytes]:
        cursor = b"0"
        while True:
            request = _request(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", _SCAN_COUNT)
            reply = self._exchange(request, 1, timeout)[0]
            if not isinstance(reply, list):
                raise self._failure(reply)
            cursor, keys = reply
            yield from keys
            if cursor == b"0":
                return

    def close(self) -> None:
        self._pool.close()

    def _exchange(self, request: bytes, replies: int, timeout: float) -> list[Any]:
        try:
            return self._pool.exchange(request, replies, timeout)
        except (TimeoutError, redis.TimeoutError) as error:
            message = f"{self._place}: no answer within {timeout:.3g} s"
            raise StoreUnavailableError(message, "timeout") from error
        except Exception as error:  # OSError, redis-py's own, a reply that is no RESP
            raise StoreUnavailableError(f"{self._place}: {error}", _kind(error)) from error

    def _check_written(self, replies: list[Any]) -> None:
        for reply in replies:
            if isinstance(reply, ErrorReply):
                raise WriteRefusedError(f"{self._place}: {reply}", reply.code)
            if reply != b"OK":
                raise self._failure(reply)

    def _failure(self, reply: object) -> StoreUnavailableError:
        """The server can't be read from now, or does not speak our language."""
        # Say it was "max number of clients reached": the server is about to close, too.
        self._pool.close_idle()
        kind = reply.code if isinstance(reply, ErrorReply) else "protocol"
        return StoreUnavailableError(f"{self._place}: {reply!s:.200}", kind)


def _request(*words: bytes) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


def _set_request(key: bytes, entry: bytes, ttl: int | None) -> bytes:
    if ttl is None:
        return _request(b"SET", key, entry)
    return _request(b"SET", key, entry, b"PX", b"%d" % ttl)


def _kind(error: Exception) -> str:
    """One word for what went wrong: an error reply's code, else "connection"."""
    word = str(error).partition(" ")[0]
    is_code = isinstance(error, redis.RedisError) and word.isalpha() and word.isupper()
    if isinstance(error, redis.AuthenticationError):
        return word if is_code else "WRONGPASS"
    return word if is_code else "connection"

"""Redis as a store: each method makes one round trip over RESP.

Every failure is raised as `StoreUnavailableError`, within the caller's timeout. Circuit breaking
is in `guarded`.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import hiredis

from model_cache.errors import (
    ConfigurationError,
    StoreAnsweredError,
    StoreUnavailableError,
    WriteRefusedError,
)
from model_cache.interruptions import reraise_interruption
from model_cache.keys.buckets import is_bucket
from model_cache.protocols import Clock
from model_cache.stores.connection import ErrorReply, printable
from model_cache.stores.dialing import Dialer, request_of, tls_hint
from model_cache.stores.pool import ConnectionPool
from model_cache.stores.url import Address, Endpoint

_SCAN_COUNT = b"1000"
# For up to this many keys, GETs are as fast as MGET, which the login may not be allowed to use.
_LEAST_MGET = 4
_ASKING = b"*1\r\n$6\r\nASKING\r\n"
# What the socket, the parser and our own code may raise.
# Not `Exception`: a caller's soft time limit must get through.
_FAILURES = (
    OSError,
    hiredis.HiredisError,
    ArithmeticError,
    AttributeError,
    BufferError,
    LookupError,
    MemoryError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
)
_REDIRECTION = re.compile(r"(MOVED|ASK) \d+ (.*):(\d{1,5})")

Role: TypeAlias = Literal["primary", "replica", "asking"]


class RedirectedError(StoreAnsweredError):
    """A cluster node redirects a key to another node.

    Attributes:
        address: the other node.
        for_good: True if the slot has moved (MOVED), False if only this key has (ASK).
    """

    def __init__(self, message: str, kind: str, address: Address) -> None:
        super().__init__(message, kind)
        self.address = address
        self.for_good = kind == "MOVED"


class RedisStore:
    """A Redis server, the primary behind Sentinels, or a proxy.

    Args:
        endpoint: the address and login.
        timeout: seconds for each request to a Sentinel; connecting may take longer.
        max_connections: the most open connections.
        max_connection_age: seconds after which a connection is replaced.
        clock: seconds, as `time.monotonic`.
        role: how to use a cluster node: a "replica" answers reads itself; an "asking" node
            answers for keys that are being migrated to it.
        dialer: opens the connections; by default a new one.
        hint: added to errors until the first successful connection.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout: float = 0.1,
        max_connections: int = 50,
        max_connection_age: float = math.inf,
        clock: Clock = time.monotonic,
        role: Role | None = None,
        dialer: Dialer | None = None,
        hint: str = "",
    ) -> None:
        self._place = str(endpoint)
        self._endpoint = endpoint
        self._role = role
        self._hint = hint
        dialer = dialer or Dialer(endpoint.tls, timeout)
        connect = dialer.connector(endpoint, reads_replica=role == "replica")
        self._pool = ConnectionPool(connect, max_connections, clock, max_connection_age)

    @property
    def proxied(self) -> bool:
        """Whether Redis is behind a proxy, which disconnects on commands that it does not know."""
        return self._endpoint.proxied

    def get(self, key: bytes, timeout: float) -> bytes | None:
        request = b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key)
        reply = self.send(request, timeout)
        return reply if type(reply) is bytes else self.entry_of(reply)

    def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> None:
        self.check_written([self.send(_set_request(key, entry, ttl), timeout)])

    def get_many(self, keys: Sequence[bytes], timeout: float) -> list[bytes | None]:
        if self._role is None and len(keys) >= _LEAST_MGET:
            reply = self.send(request_of(b"MGET", *keys), timeout)
            if not (isinstance(reply, list) and len(reply) == len(keys)):
                raise self._failure(reply)
            return reply
        # Pipelined GETs instead of an MGET, whose keys must share a slot in a cluster.
        replies = self.send_each([request_of(b"GET", key) for key in keys], timeout)
        return [self.entry_of(reply) for reply in replies]

    def get_with_ttl(
        self, keys: Sequence[bytes], timeout: float
    ) -> list[tuple[bytes | None, int | None]]:
        requests = [request_of(word, key) for key in keys for word in (b"GET", b"PTTL")]
        replies = self.send_each(requests, timeout)
        pairs = zip(replies[::2], replies[1::2], strict=True)
        return [self.entry_and_ttl_of(entry, left) for entry, left in pairs]

    def set_watching(
        self,
        entries: Sequence[tuple[bytes, bytes, int | None]],
        watched: bytes,
        timeout: float,
    ) -> bytes | None:
        requests = [_set_request(*entry) for entry in entries]
        *written, found = self.send_each([*requests, request_of(b"GET", watched)], timeout)
        self.check_written(written)
        return self.entry_of(found)

    def set_many(self, entries: Sequence[tuple[bytes, bytes, int | None]], timeout: float) -> None:
        requests = [_set_request(*entry) for entry in entries]
        self.check_written(self.send_each(requests, timeout))

    def set_if_absent(self, key: bytes, entry: bytes, ttl: int, timeout: float) -> bool:
        request = request_of(b"SET", key, entry, b"PX", b"%d" % ttl, b"NX")
        reply = self.send(request, timeout)
        if reply is None:
            return False
        self.check_written([reply])
        return True

    def delete(self, keys: Iterable[bytes], timeout: float) -> int:
        """Delete keys; return how many entries there were: a bucket holds many."""
        command = b"DEL" if self._endpoint.proxied else b"UNLINK"
        keys = list(keys)
        buckets = [key for key in keys if is_bucket(key)]
        commands = [(b"HLEN", key) for key in buckets] + [(command, key) for key in keys]
        replies = self.execute_many(timeout, commands)
        sizes = dict(zip(buckets, replies, strict=False))
        deleted = replies[len(buckets) :]
        self.count_of(deleted)
        return sum(
            size if reply and isinstance(size := sizes.get(key), int) else reply
            for key, reply in zip(keys, deleted, strict=True)
        )

    def scan(self, pattern: bytes, timeout: float) -> Iterator[bytes]:
        if self._endpoint.proxied:
            raise ConfigurationError(
                "proxied", "the proxy does not support SCAN, so keys can't be listed or purged"
            )
        cursor = b"0"
        while True:
            reply = self.execute(timeout, b"SCAN", cursor, b"MATCH", pattern, b"COUNT", _SCAN_COUNT)
            if not (isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], list)):
                raise self._failure(reply)
            cursor, keys = reply
            yield from keys
            if cursor == b"0":
                return

    def execute(self, timeout: float, *words: bytes) -> Any:
        """Return the reply to any command; an `ErrorReply` is returned, not raised."""
        return self.execute_many(timeout, [words])[0]

    def execute_many(self, timeout: float, commands: Sequence[Sequence[bytes]]) -> list[Any]:
        """Return the replies to commands in one round trip; an `ErrorReply` is not raised."""
        return self.send_each([request_of(*words) for words in commands], timeout)

    def send(self, request: bytes, timeout: float) -> Any:
        """Return the reply to a command in the bytes of the protocol, maybe an `ErrorReply`."""
        if self._role == "asking":
            return self._exchange(_ASKING + request, 2, timeout)[1]
        return self._exchange(request, 1, timeout)[0]

    def send_each(self, requests: list[bytes], timeout: float) -> list[Any]:
        """Return the replies to commands in the bytes of the protocol, by one round trip."""
        if not requests:
            return []
        if self._role != "asking":
            return self._exchange(b"".join(requests), len(requests), timeout)
        # Before each, since it counts for one command only.
        return self._exchange(
            b"".join(_ASKING + each for each in requests), 2 * len(requests), timeout
        )[1::2]

    def close(self) -> None:
        self._pool.close()

    def _exchange(self, request: bytes, replies: int, timeout: float) -> list[Any]:
        try:
            return self._pool.exchange(request, replies, timeout)
        except StoreUnavailableError as error:  # connecting failed
            reraise_interruption(error)
            raise self._unavailable(str(error), error.kind, error) from error.__cause__
        except _FAILURES as error:
            reraise_interruption(error)
            if isinstance(error, TimeoutError):
                raise self._unavailable("timed out", "timeout", error) from error
            problem = f"{error or type(error).__name__}"
            raise self._unavailable(problem, "connection", error) from error

    def _unavailable(self, problem: str, kind: str, error: Exception) -> StoreUnavailableError:
        hint = "" if self._pool.has_answered else tls_hint(error, self._endpoint)
        if self._hint and not self._pool.has_connected:
            hint += f"; {self._hint}"
        return StoreUnavailableError(self._endpoint.masked(f"{self._place}: {problem}{hint}"), kind)

    def entry_of(self, reply: object) -> bytes | None:
        """Return the entry that a reply holds, or None.

        Raises:
            StoreUnavailableError: the reply is an error.
        """
        if type(reply) is bytes:
            return reply
        # A key of another type is also a miss; SET overwrites it.
        if reply is None or (isinstance(reply, ErrorReply) and reply.code == "WRONGTYPE"):
            return None
        raise self._failure(reply)

    def entry_and_ttl_of(self, entry: object, left: object) -> tuple[bytes | None, int | None]:
        """Return what the replies to GET and PTTL hold.

        Raises:
            StoreUnavailableError: one of them is an error.
        """
        if type(left) is not int:
            raise self._failure(left)
        return self.entry_of(entry), left if left >= 0 else None

    def count_of(self, replies: Iterable[Any]) -> int:
        """Return the sum of replies that are numbers.

        Raises:
            StoreUnavailableError: one of them is an error.
        """
        count = 0
        for reply in replies:
            if type(reply) is not int:
                raise self._failure(reply)
            count += reply
        return count

    def check_written(self, replies: Iterable[Any]) -> None:
        """Raise unless the replies say that everything was written.

        Raises:
            StoreUnavailableError: one of them is an error.
        """
        for reply in replies:
            if reply == b"OK" or type(reply) is int:
                continue
            if not isinstance(reply, ErrorReply) or reply.code in ("MOVED", "ASK"):
                raise self._failure(reply)
            if reply.code == "READONLY":
                self._pool.retire()  # no longer the primary; its name may resolve to the new one
            raise WriteRefusedError(f"{self._place}: {printable(reply)}", reply.kind)

    def _failure(self, reply: object) -> StoreUnavailableError:
        """Return the error for a redirection, an error reply, or a reply of the wrong type."""
        redirection = _REDIRECTION.fullmatch(str(reply)) if isinstance(reply, ErrorReply) else None
        if redirection is not None:
            kind, host, port = redirection.groups()
            if self._role is not None:
                return RedirectedError(printable(reply), kind, Address(host, int(port)))
            message = f"{self._place} is a node of a Redis Cluster; use redis+cluster://"
            return StoreUnavailableError(message, kind)
        # After "max number of clients reached", for example, the server closes the connection.
        self._pool.close_idle()
        kind = reply.kind if isinstance(reply, ErrorReply) else "protocol"
        return StoreUnavailableError(f"{self._place}: {printable(reply)}", kind)


def _set_request(key: bytes, entry: bytes, ttl: int | None) -> bytes:
    if ttl is None:
        return request_of(b"SET", key, entry)
    return request_of(b"SET", key, entry, b"PX", b"%d" % ttl)

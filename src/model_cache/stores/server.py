"""Redis as a store: each method one round trip, in the bytes of its protocol (RESP).

Every failure leaves as `StoreUnavailableError`, within the time that the caller gave. Whether
to ask at all is for others to say.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from model_cache.errors import ConfigurationError, StoreUnavailableError
from model_cache.protocols import Clock
from model_cache.stores.dialing import Dialer
from model_cache.stores.pool import ConnectionPool
from model_cache.stores.replies import FAILURES, Replies, Role
from model_cache.stores.requests import (
    ASKING,
    get_request,
    request_of,
    set_if_absent_request,
    set_request,
)
from model_cache.stores.url import Endpoint

_SCAN_COUNT = b"1000"


class RedisStore:
    """One Redis server, or the primary that Sentinels know, or what a proxy stands for.

    Args:
        endpoint: where it is.
        timeout: seconds for each question to a Sentinel; connecting may take longer.
        max_connections: how many connections may be open.
        max_connection_age: seconds after which a connection is replaced.
        clock: seconds, as `time.monotonic`.
        role: of a cluster's node, which may redirect: a "replica" answers reads itself, and one
            that is "asking" answers for keys that are on their way to it.
        dialer: opens the connections; by default one of its own.
        hint: is added to errors as long as no connection could be made.
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
        self._endpoint = endpoint
        self._role = role
        dialer = dialer or Dialer(endpoint.tls, timeout)
        connect = dialer.connector(endpoint, reads_replica=role == "replica")
        self._pool = ConnectionPool(connect, max_connections, clock, max_connection_age)
        self._replies = Replies(endpoint, self._pool, role, hint)

    @property
    def proxied(self) -> bool:
        """Whether there is a proxy in between, which closes on commands that it does not know."""
        return self._endpoint.proxied

    def get(self, key: bytes, timeout: float) -> bytes | None:
        reply = self._exchange(get_request(key), 1, timeout)[0]
        return reply if type(reply) is bytes else self._replies.entry(reply)

    def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> None:
        self._replies.check_written(self._exchange(set_request(key, entry, ttl), 1, timeout))

    def get_many(self, keys: Sequence[bytes], timeout: float) -> list[bytes | None]:
        # GETs in a row, not an MGET, whose keys a cluster wants in one slot.
        requests = [get_request(key) for key in keys]
        return self._replies.entries(self._exchange_each(requests, timeout))

    def set_many(self, entries: Sequence[tuple[bytes, bytes, int | None]], timeout: float) -> None:
        requests = [set_request(*entry) for entry in entries]
        self._replies.check_written(self._exchange_each(requests, timeout))

    def set_if_absent(self, key: bytes, entry: bytes, ttl: int, timeout: float) -> bool:
        request = set_if_absent_request(key, entry, ttl)
        return self._replies.was_set(self._exchange(request, 1, timeout)[0])

    def delete(self, keys: Iterable[bytes], timeout: float) -> int:
        command = b"DEL" if self._endpoint.proxied else b"UNLINK"
        requests = [request_of(command, key) for key in keys]
        return self._replies.count(self._exchange_each(requests, timeout))

    def scan(self, pattern: bytes, timeout: float) -> Iterator[bytes]:
        if self._endpoint.proxied:
            raise ConfigurationError(
                "proxied", "a proxy knows no SCAN, so keys can't be listed nor purged through it"
            )
        cursor = b"0"
        while True:
            reply = self.execute(timeout, b"SCAN", cursor, b"MATCH", pattern, b"COUNT", _SCAN_COUNT)
            if not (isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], list)):
                raise self._replies.failure(reply)
            cursor, keys = reply
            yield from keys
            if cursor == b"0":
                return

    def execute(self, timeout: float, *words: bytes) -> Any:
        """Return the reply to any command; an `ErrorReply` is returned, too."""
        return self.execute_many(timeout, [words])[0]

    def execute_many(self, timeout: float, commands: Sequence[Sequence[bytes]]) -> list[Any]:
        """Return the replies to commands, by one round trip; each `ErrorReply` among them."""
        return self._exchange_each([request_of(*words) for words in commands], timeout)

    def close(self) -> None:
        self._pool.close()

    def _exchange(self, request: bytes, replies: int, timeout: float) -> list[Any]:
        try:
            if self._role == "asking":
                return self._pool.exchange(ASKING + request, 1 + replies, timeout)[1:]
            return self._pool.exchange(request, replies, timeout)
        except StoreUnavailableError as error:  # there is no connection
            raise self._replies.unavailable(error) from error.__cause__
        except FAILURES as error:
            raise self._replies.unavailable(error) from error

    def _exchange_each(self, requests: list[bytes], timeout: float) -> list[Any]:
        return self._exchange(b"".join(requests), len(requests), timeout) if requests else []

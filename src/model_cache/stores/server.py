"""Redis as a store: each method makes one round trip over RESP.

Every failure is raised as `StoreUnavailableError`, within the caller's timeout. Circuit breaking
is in `guarded`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from model_cache.errors import ConfigurationError, StoreUnavailableError
from model_cache.interruptions import reraise_interruption
from model_cache.protocols import Clock
from model_cache.stores.dialing import Dialer
from model_cache.stores.pool import ConnectionPool
from model_cache.stores.replies import FAILURES, Replies, Request, Role
from model_cache.stores.requests import (
    ASKING,
    LEAST_MGET,
    append_request,
    delete_requests,
    get_request,
    request_of,
    set_if_absent_request,
    set_request,
)
from model_cache.stores.url import Endpoint

T = TypeVar("T")

_SCAN_COUNT = b"1000"


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
        self._endpoint = endpoint
        self._role = role
        dialer = dialer or Dialer(endpoint.tls, timeout)
        connect = dialer.connector(endpoint, reads_replica=role == "replica")
        self._pool = ConnectionPool(connect, max_connections, clock, max_connection_age)
        self._replies = Replies(endpoint, self._pool, role, hint)

    @property
    def proxied(self) -> bool:
        """Whether Redis is behind a proxy, which disconnects on commands that it does not know."""
        return self._endpoint.proxied

    def get(self, key: bytes, timeout: float) -> bytes | None:
        reply = self._exchange(get_request(key), 1, timeout)[0]
        return reply if type(reply) is bytes else self._replies.entry(reply)

    def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> None:
        self._replies.check_written(self._exchange(set_request(key, entry, ttl), 1, timeout))

    def get_many(self, keys: Sequence[bytes], timeout: float) -> list[bytes | None]:
        if self._role is None and len(keys) >= LEAST_MGET:
            reply = self._exchange(request_of(b"MGET", *keys), 1, timeout)[0]
            return self._replies.listed(reply, len(keys))
        # Pipelined GETs instead of an MGET, whose keys must share a slot in a cluster.
        requests = [get_request(key) for key in keys]
        return self._replies.entries(self._exchange_each(requests, timeout))

    def get_with_ttl(
        self, keys: Sequence[bytes], timeout: float
    ) -> list[tuple[bytes | None, int | None]]:
        return self.ask(self._replies.get_with_ttl(keys), timeout)

    def set_watching(
        self,
        entries: Sequence[tuple[bytes, bytes, int | None]],
        watched: bytes,
        timeout: float,
    ) -> bytes | None:
        requests = [set_request(*entry) for entry in entries]
        requests.append(get_request(watched))
        return self._replies.watched(self._exchange_each(requests, timeout))

    def set_many(self, entries: Sequence[tuple[bytes, bytes, int | None]], timeout: float) -> None:
        requests = [set_request(*entry) for entry in entries]
        self._replies.check_written(self._exchange_each(requests, timeout))

    def set_if_absent(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> bool:
        request = set_if_absent_request(key, entry, ttl)
        return self._replies.was_set(self._exchange(request, 1, timeout)[0])

    def append(self, key: bytes, piece: bytes, timeout: float) -> int:
        return self._replies.length(self._exchange(append_request(key, piece), 1, timeout)[0])

    def delete(self, keys: Iterable[bytes], timeout: float) -> int:
        """Delete keys; return how many entries there were: a bucket holds many."""
        keys = list(keys)
        requests = delete_requests(keys, proxied=self.proxied)
        return self._replies.deleted(keys, self._exchange_each(requests, timeout))

    def add_counts(
        self, key: bytes, amounts: Mapping[bytes, int], timeout: float
    ) -> dict[bytes, bytes]:
        commands = [(b"HINCRBY", key, field, b"%d" % amounts[field]) for field in amounts]
        *added, reply = self.execute_many(timeout, [*commands, (b"HGETALL", key)])
        return self._replies.counts(added, reply)

    def scan(self, pattern: bytes, timeout: float) -> Iterator[bytes]:
        if self._endpoint.proxied:
            raise ConfigurationError(
                "proxied", "the proxy does not support SCAN, so keys can't be listed or purged"
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
        """Return the reply to any command; an `ErrorReply` is returned, not raised."""
        return self.execute_many(timeout, [words])[0]

    def execute_many(self, timeout: float, commands: Sequence[Sequence[bytes]]) -> list[Any]:
        """Return the replies to commands in one round trip; an `ErrorReply` is not raised."""
        return self._exchange_each([request_of(*words) for words in commands], timeout)

    def ask(self, request: Request[T], timeout: float) -> T:
        """Return the answer to a request, in one round trip."""
        return request.read(self._replies, self._exchange_each(request.commands, timeout))

    def close(self) -> None:
        self._pool.close()

    def _exchange(self, request: bytes, replies: int, timeout: float) -> list[Any]:
        try:
            if self._role == "asking":
                return self._pool.exchange(ASKING + request, 1 + replies, timeout)[1:]
            return self._pool.exchange(request, replies, timeout)
        except StoreUnavailableError as error:  # connecting failed
            reraise_interruption(error)
            raise self._replies.unavailable(error) from error.__cause__
        except FAILURES as error:
            reraise_interruption(error)
            raise self._replies.unavailable(error) from error

    def _exchange_each(self, requests: list[bytes], timeout: float) -> list[Any]:
        """Return the replies to commands in the bytes of the protocol."""
        if not requests:
            return []
        if self._role != "asking":
            return self._exchange(b"".join(requests), len(requests), timeout)
        # ASKING before each, since it counts for one command only.
        return self._exchange(ASKING.join(requests), 2 * len(requests) - 1, timeout)[::2]

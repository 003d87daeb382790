"""Redis as a store for event loops, behind circuit breakers; `server` is for threads."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, TypeVar

from model_cache.errors import StoreUnavailableError
from model_cache.interruptions import reraise_interruption
from model_cache.protocols import Timed, Write
from model_cache.stores.breaker import CircuitBreaker
from model_cache.stores.dialing import Dialer
from model_cache.stores.guarded import Guard, circuit_open
from model_cache.stores.links import Links
from model_cache.stores.plain import PlainRequests
from model_cache.stores.replies import FAILURES, Replies, Request, Role
from model_cache.stores.requests import asking
from model_cache.stores.url import Endpoint

T = TypeVar("T")


class AsyncRedisStore:
    """A Redis server, the primary behind Sentinels, or a proxy.

    Args:
        endpoint: the address and login.
        guard: the server's circuit breakers.
        requests: what to send to it; by default those of the plain layout.
        timeout: seconds for each request to a Sentinel; connecting may take longer.
        max_connection_age: seconds after which a connection is replaced.
        role: how to use a cluster node; see `RedisStore`.
        dialer: opens the connections; by default a new one.
        hint: added to errors until the first successful connection.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        guard: Guard,
        *,
        requests: PlainRequests | None = None,
        timeout: float = 0.1,
        max_connection_age: float = math.inf,
        role: Role | None = None,
        dialer: Dialer | None = None,
        hint: str = "",
    ) -> None:
        self._guard = guard
        self._requests = requests or PlainRequests(
            proxied=endpoint.proxied, in_cluster=role is not None
        )
        self._role = role
        dialer = dialer or Dialer(endpoint.tls, timeout)
        connect = dialer.connector(endpoint, reads_replica=role == "replica")
        self._links = Links(connect, max_age=max_connection_age)
        self._replies = Replies(endpoint, self._links, role, hint)

    def get(self, key: bytes, timeout: float) -> Awaitable[bytes | None]:
        return self._ask(self._guard.reads, self._requests.get(key), timeout)

    def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> Awaitable[None]:
        return self._ask(self._guard.writes, self._requests.set(key, entry, ttl), timeout)

    def set_if_absent(
        self, key: bytes, entry: bytes, ttl: int | None, timeout: float
    ) -> Awaitable[bool]:
        request = self._requests.set_if_absent(key, entry, ttl)
        return self._ask(self._guard.writes, request, timeout)

    def append(self, key: bytes, piece: bytes, timeout: float) -> Awaitable[int]:
        return self._ask(self._guard.writes, self._requests.append(key, piece), timeout)

    def get_many(self, keys: Sequence[bytes], timeout: float) -> Awaitable[list[bytes | None]]:
        return self._ask(self._guard.reads, self._requests.get_many(keys), timeout)

    def get_with_ttl(self, keys: Sequence[bytes], timeout: float) -> Awaitable[list[Timed]]:
        return self._ask(self._guard.reads, self._requests.get_with_ttl(keys), timeout)

    def set_watching(
        self, entries: Sequence[Write], watched: bytes, timeout: float
    ) -> Awaitable[bytes | None]:
        request = self._requests.set_watching(entries, watched)
        return self._ask(self._guard.writes, request, timeout)

    def set_many(self, entries: Sequence[Write], timeout: float) -> Awaitable[None]:
        return self._ask(self._guard.writes, self._requests.set_many(entries), timeout)

    def delete(self, keys: Iterable[bytes], timeout: float) -> Awaitable[int]:
        return self._ask(self._guard.writes, self._requests.delete(keys), timeout)

    def close(self) -> None:
        self._links.close()

    async def _ask(self, breaker: CircuitBreaker, request: Request[T], timeout: float) -> T:
        """Send a request if the circuit is closed, and read the replies.

        A caller that is cancelled counts neither as a success nor as a failure.
        """
        if not request.commands:
            return request.read(self._replies, [])
        guard = self._guard
        if not breaker.allows():
            raise circuit_open()
        try:
            replies = await self._exchange(request.commands, timeout)
        except (StoreUnavailableError, *FAILURES) as error:
            reraise_interruption(error)
            failure = self._replies.unavailable(error)
            guard.failed(breaker, failure)
            try:
                raise failure from error
            finally:
                del failure  # its traceback refers to this frame
        try:
            answer = request.read(self._replies, replies)
        except StoreUnavailableError as error:
            guard.failed(breaker, error)
            raise
        guard.succeeded(breaker)
        return answer

    async def _exchange(self, commands: list[bytes], timeout: float) -> list[Any]:
        count = len(commands)
        if self._role == "asking":
            replies = await self._links.exchange(asking(commands), 2 * count, timeout)
            return list(replies[1::2])
        found = await self._links.exchange(b"".join(commands), count, timeout)
        return [found] if count == 1 else list(found)

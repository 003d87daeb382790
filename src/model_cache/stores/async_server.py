"""Redis as a store for event loops, behind circuit breakers; `server` is for threads."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from model_cache.errors import StoreUnavailableError
from model_cache.stores.breaker import CircuitBreaker
from model_cache.stores.dialing import Dialer
from model_cache.stores.guarded import Guard, not_asked
from model_cache.stores.links import Links
from model_cache.stores.replies import FAILURES, Replies, Role
from model_cache.stores.requests import (
    ASKING,
    get_request,
    request_of,
    set_if_absent_request,
    set_request,
)
from model_cache.stores.url import Endpoint

T = TypeVar("T")


class AsyncRedisStore:
    """One Redis server, or the primary that Sentinels know, or what a proxy stands for.

    Args:
        endpoint: where it is.
        guard: the server's circuit breakers.
        timeout: seconds for each question to a Sentinel; connecting may take longer.
        max_connection_age: seconds after which a connection is replaced.
        role: of a cluster's node, which may redirect; see `RedisStore`.
        dialer: opens the connections; by default one of its own.
        hint: is added to errors as long as no connection could be made.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        guard: Guard,
        *,
        timeout: float = 0.1,
        max_connection_age: float = math.inf,
        role: Role | None = None,
        dialer: Dialer | None = None,
        hint: str = "",
    ) -> None:
        self.guard = guard
        self._delete = b"DEL" if endpoint.proxied else b"UNLINK"
        dialer = dialer or Dialer(endpoint.tls, timeout)
        is_asking = role == "asking"
        self._links = Links(
            dialer.connector(endpoint, reads_replica=role == "replica"),
            max_age=max_connection_age,
            prefix=ASKING if is_asking else b"",
            skip=int(is_asking),
        )
        self._replies = Replies(endpoint, self._links, role, hint)

    def get(self, key: bytes, timeout: float) -> Awaitable[bytes | None]:
        return self._ask(self.guard.reads, get_request(key), 1, timeout, self._replies.entry)

    async def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> None:
        await self._ask_each(
            self.guard.writes, [set_request(key, entry, ttl)], timeout, self._replies.check_written
        )

    def set_if_absent(self, key: bytes, entry: bytes, ttl: int, timeout: float) -> Awaitable[bool]:
        request = set_if_absent_request(key, entry, ttl)
        return self._ask(self.guard.writes, request, 1, timeout, self._replies.was_set)

    async def get_many(self, keys: Sequence[bytes], timeout: float) -> list[bytes | None]:
        requests = [get_request(key) for key in keys]
        return await self._ask_each(self.guard.reads, requests, timeout, self._replies.entries)

    async def set_many(
        self, entries: Sequence[tuple[bytes, bytes, int | None]], timeout: float
    ) -> None:
        requests = [set_request(*entry) for entry in entries]
        await self._ask_each(self.guard.writes, requests, timeout, self._replies.check_written)

    async def delete(self, keys: Iterable[bytes], timeout: float) -> int:
        requests = [request_of(self._delete, key) for key in keys]
        return await self._ask_each(self.guard.writes, requests, timeout, self._replies.count)

    def close(self) -> None:
        self._links.close()

    async def _ask(
        self,
        breaker: CircuitBreaker,
        request: bytes,
        replies: int,
        timeout: float,
        read: Callable[[Any], T],
    ) -> T:
        """Send a request if the guard allows it, and read the reply.

        A caller that is cancelled counts neither as a success nor as a failure.
        """
        guard = self.guard
        if not breaker.allows():
            raise not_asked()
        try:
            reply = await self._links.exchange(request, replies, timeout)
        except (StoreUnavailableError, *FAILURES) as error:
            failure = self._replies.unavailable(error)
            guard.failed(breaker, failure)
            raise failure from error
        try:
            answer = read(reply)
        except StoreUnavailableError as error:
            guard.failed(breaker, error)
            raise
        guard.succeeded(breaker)
        return answer

    async def _ask_each(
        self,
        breaker: CircuitBreaker,
        requests: list[bytes],
        timeout: float,
        read: Callable[[list[Any]], T],
    ) -> T:
        if len(requests) == 1:  # its reply is not in a list
            return await self._ask(breaker, requests[0], 1, timeout, lambda reply: read([reply]))
        if not requests:
            return read([])
        return await self._ask(breaker, b"".join(requests), len(requests), timeout, read)

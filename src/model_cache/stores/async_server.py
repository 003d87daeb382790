"""Redis as a store for event loops, behind circuit breakers; `server` is for threads."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from model_cache.errors import StoreUnavailableError
from model_cache.interruptions import reraise_interruption
from model_cache.stores.breaker import CircuitBreaker
from model_cache.stores.dialing import Dialer
from model_cache.stores.guarded import Guard, circuit_open
from model_cache.stores.links import Links
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


class AsyncRedisStore:
    """A Redis server, the primary behind Sentinels, or a proxy.

    Args:
        endpoint: the address and login.
        guard: the server's circuit breakers.
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
        timeout: float = 0.1,
        max_connection_age: float = math.inf,
        role: Role | None = None,
        dialer: Dialer | None = None,
        hint: str = "",
    ) -> None:
        self.guard = guard
        self._is_proxied = endpoint.proxied
        self._role = role
        dialer = dialer or Dialer(endpoint.tls, timeout)
        self._links = Links(
            dialer.connector(endpoint, reads_replica=role == "replica"),
            max_age=max_connection_age,
            prefix=ASKING if role == "asking" else b"",
            skip=int(role == "asking"),
        )
        self._replies = Replies(endpoint, self._links, role, hint)

    def get(self, key: bytes, timeout: float) -> Awaitable[bytes | None]:
        return self._ask(self.guard.reads, get_request(key), 1, timeout, self._replies.entry)

    async def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> None:
        await self._ask_each(
            self.guard.writes, [set_request(key, entry, ttl)], timeout, self._replies.check_written
        )

    def set_if_absent(
        self, key: bytes, entry: bytes, ttl: int | None, timeout: float
    ) -> Awaitable[bool]:
        request = set_if_absent_request(key, entry, ttl)
        return self._ask(self.guard.writes, request, 1, timeout, self._replies.was_set)

    def append(self, key: bytes, piece: bytes, timeout: float) -> Awaitable[int]:
        request = append_request(key, piece)
        return self._ask(self.guard.writes, request, 1, timeout, self._replies.length)

    async def get_many(self, keys: Sequence[bytes], timeout: float) -> list[bytes | None]:
        replies, count = self._replies, len(keys)
        if self._role is None and count >= LEAST_MGET:  # as in `RedisStore.get_many`
            request = request_of(b"MGET", *keys)
            return await self._ask(
                self.guard.reads, request, 1, timeout, lambda reply: replies.listed(reply, count)
            )
        requests = [get_request(key) for key in keys]
        return await self._ask_each(self.guard.reads, requests, timeout, self._replies.entries)

    async def get_with_ttl(
        self, keys: Sequence[bytes], timeout: float
    ) -> list[tuple[bytes | None, int | None]]:
        return await self.ask(self.guard.reads, self._replies.get_with_ttl(keys), timeout)

    async def set_watching(
        self,
        entries: Sequence[tuple[bytes, bytes, int | None]],
        watched: bytes,
        timeout: float,
    ) -> bytes | None:
        requests = [*(set_request(*entry) for entry in entries), get_request(watched)]
        return await self._ask_each(self.guard.writes, requests, timeout, self._replies.watched)

    async def set_many(
        self, entries: Sequence[tuple[bytes, bytes, int | None]], timeout: float
    ) -> None:
        requests = [set_request(*entry) for entry in entries]
        await self._ask_each(self.guard.writes, requests, timeout, self._replies.check_written)

    async def delete(self, keys: Iterable[bytes], timeout: float) -> int:
        """Delete keys; return how many entries there were: a bucket holds many."""
        keys = list(keys)
        requests = delete_requests(keys, proxied=self._is_proxied)
        return await self._ask_each(
            self.guard.writes, requests, timeout, partial(self._replies.deleted, keys)
        )

    async def ask(self, breaker: CircuitBreaker, request: Request[T], timeout: float) -> T:
        """Return the answer to a request, in one round trip."""
        read = partial(request.read, self._replies)
        return await self._ask_each(breaker, request.commands, timeout, read)

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
        """Send a request if the circuit is closed, and read the reply.

        A caller that is cancelled counts neither as a success nor as a failure.
        """
        guard = self.guard
        if not breaker.allows():
            raise circuit_open()
        try:
            reply = await self._links.exchange(request, replies, timeout)
        except (StoreUnavailableError, *FAILURES) as error:
            reraise_interruption(error)
            failure = self._replies.unavailable(error)
            guard.failed(breaker, failure)
            try:
                raise failure from error
            finally:
                del failure  # its traceback refers to this frame
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
        count = len(requests)
        if self._role != "asking":
            return await self._ask(breaker, b"".join(requests), count, timeout, read)
        # ASKING before each, since it counts for one command only.
        return await self._ask(
            breaker, ASKING.join(requests), 2 * count - 1, timeout, lambda each: read(each[::2])
        )

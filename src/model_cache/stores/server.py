"""Redis as a store, for threads and for event loops; each method makes one round trip over RESP.

Every failure is raised as `StoreUnavailableError`, within the caller's timeout. Circuit breakers
block requests for a while after repeated failures.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from model_cache.errors import ConfigurationError, StoreUnavailableError
from model_cache.interruptions import reraise_interruption
from model_cache.protocols import Clock, Timed, Write
from model_cache.stores.breaker import AlwaysClosed, CircuitBreaker
from model_cache.stores.connection import command_of
from model_cache.stores.dialing import Dialer
from model_cache.stores.guard import Guard, State, circuit_open, unguarded
from model_cache.stores.links import Links
from model_cache.stores.plain import PlainRequests, Request, asking
from model_cache.stores.pool import Begun, ConnectionPool
from model_cache.stores.replies import FAILURES, Replies, Role
from model_cache.stores.url import Endpoint

T = TypeVar("T")

_UNCOUNTED = AlwaysClosed()
"""The circuit breaker of requests whose failures say nothing about predictions."""


class RedisStore:
    """A Redis server, the primary behind Sentinels, or a proxy.

    Args:
        endpoint: the address and login.
        guard: the server's circuit breakers; by default, nothing is blocked.
        requests: the requests to send; by default those of the plain layout.
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
        guard: Guard | None = None,
        *,
        requests: PlainRequests | None = None,
        max_connections: int = 50,
        max_connection_age: float = math.inf,
        clock: Clock = time.monotonic,
        role: Role | None = None,
        dialer: Dialer | None = None,
        hint: str = "",
    ) -> None:
        self._endpoint = endpoint
        self._guard = guard or unguarded()
        self._role = role
        self._requests = requests or PlainRequests(
            proxied=endpoint.proxied, in_cluster=role is not None
        )
        self._connect = (dialer or Dialer(endpoint.tls)).connector(
            endpoint, reads_replica=role == "replica"
        )
        self._max_connection_age = max_connection_age
        self._hint = hint
        self._pool = ConnectionPool(self._connect, max_connections, clock, max_connection_age)
        self._replies = Replies(endpoint, self._pool, role, hint)

    @property
    def proxied(self) -> bool:
        """Whether Redis is behind a proxy, which disconnects on commands that it does not know."""
        return self._endpoint.proxied

    @property
    def state(self) -> State:
        """Whether requests are sent; see `Guard.state`."""
        return self._guard.state

    def get(self, key: bytes, timeout: float) -> bytes | None:
        return self._ask(self._guard.reads, self._requests.get(key), timeout)

    def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> None:
        self._ask(self._guard.writes, self._requests.set(key, entry, ttl), timeout)

    def set_if_absent(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> bool:
        request = self._requests.set_if_absent(key, entry, ttl)
        return self._ask(self._guard.writes, request, timeout)

    def append(self, key: bytes, piece: bytes, timeout: float) -> int:
        return self._ask(self._guard.writes, self._requests.append(key, piece), timeout)

    def get_many(self, keys: Sequence[bytes], timeout: float) -> list[bytes | None]:
        return self._ask(self._guard.reads, self._requests.get_many(keys), timeout)

    def get_with_ttl(self, keys: Sequence[bytes], timeout: float) -> list[Timed]:
        return self._ask(self._guard.reads, self._requests.get_with_ttl(keys), timeout)

    def set_watching(
        self, entries: Sequence[Write], watched: bytes, timeout: float
    ) -> bytes | None:
        request = self._requests.set_watching(entries, watched)
        return self._ask(self._guard.writes, request, timeout)

    def set_many(self, entries: Sequence[Write], timeout: float) -> None:
        self._ask(self._guard.writes, self._requests.set_many(entries), timeout)

    def delete(self, keys: Iterable[bytes], timeout: float) -> int:
        return self._ask(self._guard.writes, self._requests.delete(keys), timeout)

    def add_counts(
        self, key: bytes, amounts: Mapping[bytes, int], timeout: float
    ) -> Mapping[bytes, bytes]:
        if self._guard.reads.state == "open" or self._guard.writes.state == "open":
            raise circuit_open()
        return self._ask(_UNCOUNTED, self._requests.add_counts(key, amounts), timeout)

    def scan(self, pattern: bytes, timeout: float) -> Iterator[bytes]:
        if self._endpoint.proxied:
            raise ConfigurationError(
                "proxied", "the proxy does not support SCAN, so keys can't be listed or purged"
            )
        cursor = b"0"
        while True:
            request = self._requests.scan(cursor, pattern)
            cursor, keys = self._ask(self._guard.reads, request, timeout)
            yield from keys
            if cursor == b"0":
                return

    def execute(self, timeout: float, *words: bytes) -> Any:
        """Return the reply to any command; an `ErrorReply` is returned, not raised."""
        return self.execute_many(timeout, [words])[0]

    def execute_many(self, timeout: float, commands: Sequence[Sequence[bytes]]) -> list[Any]:
        """Return the replies to commands in one round trip; an `ErrorReply` is not raised."""
        encoded = [command_of(*words) for words in commands]
        return self._ask(_UNCOUNTED, (encoded, lambda _, *replies: list(replies)), timeout)

    def close(self) -> None:
        self._pool.close()

    def _ask(self, breaker: CircuitBreaker, request: Request[T], timeout: float) -> T:
        """Send a request if the circuit is closed, and read the replies."""
        commands, read = asking(request) if self._role == "asking" else request
        if not commands:
            return read(self._replies)
        if not breaker.allows():
            raise circuit_open()
        sent, count = b"".join(commands), len(commands)
        return self._answer(breaker, read, lambda: self._pool.exchange(sent, count, timeout))

    def _answer(
        self, breaker: CircuitBreaker, read: Callable[..., T], exchange: Callable[[], list[Any]]
    ) -> T:
        """Return what the replies of an exchange say, and tell the circuit breaker."""
        try:
            try:
                replies = exchange()
            except StoreUnavailableError as error:  # connecting failed
                reraise_interruption(error)
                raise self._replies.unavailable(error) from error.__cause__
            except FAILURES as error:
                reraise_interruption(error)
                raise self._replies.unavailable(error) from error
            answer = read(self._replies, *replies)
        except StoreUnavailableError as error:
            self._guard.failed(breaker, error)
            raise
        self._guard.succeeded(breaker)
        return answer


class SendingRedisStore:
    """The same for several servers at once.

    Each method sends its request, and returns what waits for the answer.

    Args:
        twin: the store whose connections and circuit breakers it uses.
    """

    def __init__(self, twin: RedisStore) -> None:
        self._twin = twin
        self._guard, self._requests, self._pool = twin._guard, twin._requests, twin._pool

    def get_many(self, keys: Sequence[bytes], timeout: float) -> Begun[list[bytes | None]]:
        return self._begin(self._guard.reads, self._requests.get_many(keys), timeout)

    def get_with_ttl(self, keys: Sequence[bytes], timeout: float) -> Begun[list[Timed]]:
        return self._begin(self._guard.reads, self._requests.get_with_ttl(keys), timeout)

    def set_many(self, entries: Sequence[Write], timeout: float) -> Begun[None]:
        return self._begin(self._guard.writes, self._requests.set_many(entries), timeout)

    def delete(self, keys: Iterable[bytes], timeout: float) -> Begun[int]:
        return self._begin(self._guard.writes, self._requests.delete(keys), timeout)

    def _begin(self, breaker: CircuitBreaker, request: Request[T], timeout: float) -> Begun[T]:
        commands, read = request
        if not breaker.allows():
            raise circuit_open()
        begun = self._pool.begin(b"".join(commands), len(commands), timeout)
        return Begun(lambda: self._twin._answer(breaker, read, begun.end), begun.is_sent)


class AsyncRedisStore:
    """The same for event loops, each of which has one connection.

    Args:
        twin: the store for threads. They have the same circuit breakers, and send the same.
    """

    def __init__(self, twin: RedisStore) -> None:
        self._guard, self._requests, self._role = twin._guard, twin._requests, twin._role
        self._links = Links(twin._connect, max_age=twin._max_connection_age)
        self._replies = Replies(twin._endpoint, self._links, twin._role, twin._hint)

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
        commands, read = asking(request) if self._role == "asking" else request
        if not commands:
            return read(self._replies)
        if not breaker.allows():
            raise circuit_open()
        try:
            try:
                replies = await self._links.exchange(b"".join(commands), len(commands), timeout)
            except (StoreUnavailableError, *FAILURES) as error:
                reraise_interruption(error)
                raise self._replies.unavailable(error) from error
            answer = read(self._replies, *replies)
        except StoreUnavailableError as error:
            self._guard.failed(breaker, error)
            raise
        self._guard.succeeded(breaker)
        return answer

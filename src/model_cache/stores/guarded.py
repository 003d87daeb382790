"""A store behind circuit breakers, which block requests for a while after repeated failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypeVar

from model_cache.errors import StoreAnsweredError, StoreUnavailableError, WriteRefusedError
from model_cache.observing.events import Hook, StoreFound, StoreLost
from model_cache.protocols import CountingStore, Timed, Write
from model_cache.stores.breaker import CircuitBreaker

T = TypeVar("T")
State: TypeAlias = Literal["closed", "open", "partly_open", "read_only"]


class Guard:
    """The circuit breakers of one server, for threads and for event loops.

    Args:
        make_breaker: creates a circuit breaker; called once for reads and once for writes.
        hook: receives `StoreLost` and `StoreFound`.
        place: the store's address, for these events.
    """

    def __init__(
        self, make_breaker: Callable[[], CircuitBreaker], hook: Hook, place: str = ""
    ) -> None:
        # Writes can fail while reads work, and must not block them.
        self.reads, self.writes = make_breaker(), make_breaker()
        self._place = place
        self._hook = hook
        self._refuses_writes = False

    @property
    def state(self) -> State:
        """Whether requests go through ("closed") or not ("open"), or only reads ("read_only")."""
        if self._refuses_writes and self.reads.state == "closed":
            return "read_only"
        return self.reads.state

    def succeeded(self, breaker: CircuitBreaker) -> None:
        """Record a request that succeeded."""
        if breaker is self.writes:
            self._refuses_writes = False
        if breaker.succeeded():
            self._closed(breaker)

    def failed(self, breaker: CircuitBreaker, error: StoreUnavailableError) -> None:
        """Record a request that failed."""
        if isinstance(error, StoreAnsweredError):  # the server is up
            if isinstance(error, WriteRefusedError):
                self._refuses_writes = True
            if breaker.succeeded():
                self._closed(breaker)
        elif breaker.failed() and breaker is self.reads:
            self._hook(StoreLost(str(error)))

    def _closed(self, breaker: CircuitBreaker) -> None:
        if breaker is self.reads:
            self._hook(StoreFound(self._place))


def circuit_open() -> StoreUnavailableError:
    """Return the error to raise when a circuit breaker blocks a request."""
    return StoreUnavailableError("circuit open after repeated failures", "circuit_open")


class GuardedStore:
    """Calls the inner store only while the circuit is closed.

    Args:
        inner: the store.
        guard: its circuit breakers.
    """

    def __init__(self, inner: CountingStore, guard: Guard) -> None:
        self._inner = inner
        self.guard = guard

    @property
    def state(self) -> State:
        """Whether requests go through; see `Guard.state`."""
        return self.guard.state

    def get(self, key: bytes, timeout: float) -> bytes | None:
        return self._call(self.guard.reads, self._inner.get, key, timeout)

    def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> None:
        self._call(self.guard.writes, self._inner.set, key, entry, ttl, timeout)

    def set_if_absent(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> bool:
        return self._call(self.guard.writes, self._inner.set_if_absent, key, entry, ttl, timeout)

    def append(self, key: bytes, piece: bytes, timeout: float) -> int:
        return self._call(self.guard.writes, self._inner.append, key, piece, timeout)

    def get_many(self, keys: Sequence[bytes], timeout: float) -> list[bytes | None]:
        return self._call(self.guard.reads, self._inner.get_many, keys, timeout)

    def get_with_ttl(self, keys: Sequence[bytes], timeout: float) -> list[Timed]:
        return self._call(self.guard.reads, self._inner.get_with_ttl, keys, timeout)

    def set_watching(
        self, entries: Sequence[Write], watched: bytes, timeout: float
    ) -> bytes | None:
        return self._call(self.guard.writes, self._inner.set_watching, entries, watched, timeout)

    def set_many(self, entries: Sequence[Write], timeout: float) -> None:
        self._call(self.guard.writes, self._inner.set_many, entries, timeout)

    def delete(self, keys: Iterable[bytes], timeout: float) -> int:
        return self._call(self.guard.writes, self._inner.delete, keys, timeout)

    def add_counts(
        self, key: bytes, amounts: Mapping[bytes, int], timeout: float
    ) -> Mapping[bytes, bytes]:
        """Add up counts. How that goes says nothing about predictions, so no breaker hears it."""
        if self.guard.reads.state == "open" or self.guard.writes.state == "open":
            raise circuit_open()
        return self._inner.add_counts(key, amounts, timeout)

    def scan(self, pattern: bytes, timeout: float) -> Iterator[bytes]:
        yield from self._call(self.guard.reads, lambda: list(self._inner.scan(pattern, timeout)))

    def close(self) -> None:
        self._inner.close()

    def _call(self, breaker: CircuitBreaker, ask: Callable[..., T], *arguments: Any) -> T:
        guard = self.guard
        if not breaker.allows():
            raise circuit_open()
        try:
            answer = ask(*arguments)
        except StoreUnavailableError as error:
            guard.failed(breaker, error)
            raise
        if breaker.recent or breaker is guard.writes:
            guard.succeeded(breaker)
        return answer

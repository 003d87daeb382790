"""A store behind circuit breakers, which block requests for a while after repeated failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeAlias, TypeVar

from model_cache.errors import StoreAnsweredError, StoreUnavailableError, WriteRefusedError
from model_cache.observing.events import Hook, StoreFound, StoreLost
from model_cache.protocols import Store
from model_cache.stores.breaker import CircuitBreaker

T = TypeVar("T")
State: TypeAlias = Literal["closed", "open", "partly_open", "read_only"]


class GuardedStore:
    """Calls the inner store only while the circuit is closed.

    Args:
        inner: the store.
        make_breaker: creates a circuit breaker; called once for reads and once for writes.
        hook: receives `StoreLost` and `StoreFound`.
        place: the store's address, for these events.
    """

    def __init__(
        self,
        inner: Store,
        make_breaker: Callable[[], CircuitBreaker],
        hook: Hook,
        place: str = "",
    ) -> None:
        self._inner = inner
        self._place = place
        # Writes can fail while reads work, and must not block them.
        self._reads, self._writes = make_breaker(), make_breaker()
        self._hook = hook
        self._refuses_writes = False

    @property
    def state(self) -> State:
        """Whether requests go through ("closed") or not ("open"), or only reads ("read_only")."""
        if self._refuses_writes and self._reads.state == "closed":
            return "read_only"
        return self._reads.state

    def get(self, key: bytes, timeout: float) -> bytes | None:
        return self._call(self._reads, self._inner.get, key, timeout)

    def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> None:
        self._call(self._writes, self._inner.set, key, entry, ttl, timeout)

    def set_if_absent(self, key: bytes, entry: bytes, ttl: int, timeout: float) -> bool:
        return self._call(self._writes, self._inner.set_if_absent, key, entry, ttl, timeout)

    def get_many(self, keys: Sequence[bytes], timeout: float) -> list[bytes | None]:
        return self._call(self._reads, self._inner.get_many, keys, timeout)

    def get_with_ttl(
        self, keys: Sequence[bytes], timeout: float
    ) -> list[tuple[bytes | None, int | None]]:
        return self._call(self._reads, self._inner.get_with_ttl, keys, timeout)

    def set_watching(
        self,
        entries: Sequence[tuple[bytes, bytes, int | None]],
        watched: bytes,
        timeout: float,
    ) -> bytes | None:
        return self._call(self._writes, self._inner.set_watching, entries, watched, timeout)

    def set_many(self, entries: Sequence[tuple[bytes, bytes, int | None]], timeout: float) -> None:
        self._call(self._writes, self._inner.set_many, entries, timeout)

    def delete(self, keys: Iterable[bytes], timeout: float) -> int:
        return self._call(self._writes, self._inner.delete, keys, timeout)

    def scan(self, pattern: bytes, timeout: float) -> Iterator[bytes]:
        yield from self._call(self._reads, lambda: list(self._inner.scan(pattern, timeout)))

    def close(self) -> None:
        self._inner.close()

    def _call(self, breaker: CircuitBreaker, ask: Callable[..., T], *arguments: Any) -> T:
        if not breaker.allows():
            raise StoreUnavailableError("circuit open after repeated failures", "circuit_open")
        try:
            answer = ask(*arguments)
        except StoreAnsweredError as error:  # the server is up
            if isinstance(error, WriteRefusedError):
                self._refuses_writes = True
            if breaker.succeeded():
                self._closed(breaker)
            raise
        except StoreUnavailableError as error:
            if breaker.failed() and breaker is self._reads:
                self._hook(StoreLost(str(error)))
            raise
        if breaker is self._writes:
            self._refuses_writes = False
        if breaker.succeeded():
            self._closed(breaker)
        return answer

    def _closed(self, breaker: CircuitBreaker) -> None:
        if breaker is self._reads:
            self._hook(StoreFound(self._place))

"""A store behind a circuit breaker: when it keeps failing, it is left alone for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeAlias, TypeVar

from model_cache.errors import StoreAnsweredError, StoreUnavailableError, WriteRefusedError
from model_cache.observing.events import Hook, StoreFound, StoreLost
from model_cache.protocols import Store
from model_cache.stores.breaker import CircuitBreaker

T = TypeVar("T")
State: TypeAlias = Literal["closed", "open", "partly_open", "read_only"]


class Guard:
    """The circuit breakers of one server, whoever asks it: threads or event loops.

    Args:
        make_breaker: makes what counts failures: one for reads, one for writes.
        hook: hears when the store is lost, and when it is found again.
        place: what to call the store then.
    """

    def __init__(
        self, make_breaker: Callable[[], CircuitBreaker], hook: Hook, place: str = ""
    ) -> None:
        # Writes may hang, or fail, where reads do not, and must not close the road for them.
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
        """Note that a request went through."""
        if breaker is self.writes:
            self._refuses_writes = False
        if breaker.succeeded():
            self._closed(breaker)

    def failed(self, breaker: CircuitBreaker, error: StoreUnavailableError) -> None:
        """Note that a request failed."""
        if isinstance(error, StoreAnsweredError):  # the server is alive
            if isinstance(error, WriteRefusedError):
                self._refuses_writes = True
            if breaker.succeeded():
                self._closed(breaker)
        elif breaker.failed() and breaker is self.reads:
            self._hook(StoreLost(str(error)))

    def _closed(self, breaker: CircuitBreaker) -> None:
        if breaker is self.reads:
            self._hook(StoreFound(self._place))


def not_asked() -> StoreUnavailableError:
    """Return the error to raise where a circuit breaker allows no request."""
    return StoreUnavailableError("not asked, since it kept failing", "circuit_open")


class GuardedStore:
    """Asks the store inside only while its guard allows it.

    Args:
        inner: the store.
        guard: its circuit breakers.
    """

    def __init__(self, inner: Store, guard: Guard) -> None:
        self._inner = inner
        self.guard = guard

    @property
    def state(self) -> State:
        """Return the guard's state."""
        return self.guard.state

    def get(self, key: bytes, timeout: float) -> bytes | None:
        return self._call(self.guard.reads, self._inner.get, key, timeout)

    def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> None:
        self._call(self.guard.writes, self._inner.set, key, entry, ttl, timeout)

    def set_if_absent(self, key: bytes, entry: bytes, ttl: int, timeout: float) -> bool:
        return self._call(self.guard.writes, self._inner.set_if_absent, key, entry, ttl, timeout)

    def get_many(self, keys: Sequence[bytes], timeout: float) -> list[bytes | None]:
        return self._call(self.guard.reads, self._inner.get_many, keys, timeout)

    def set_many(self, entries: Sequence[tuple[bytes, bytes, int | None]], timeout: float) -> None:
        self._call(self.guard.writes, self._inner.set_many, entries, timeout)

    def delete(self, keys: Iterable[bytes], timeout: float) -> int:
        return self._call(self.guard.writes, self._inner.delete, keys, timeout)

    def scan(self, pattern: bytes, timeout: float) -> Iterator[bytes]:
        yield from self._call(self.guard.reads, lambda: list(self._inner.scan(pattern, timeout)))

    def close(self) -> None:
        self._inner.close()

    def _call(self, breaker: CircuitBreaker, ask: Callable[..., T], *arguments: Any) -> T:
        guard = self.guard
        if not breaker.allows():
            raise not_asked()
        try:
            answer = ask(*arguments)
        except StoreUnavailableError as error:
            guard.failed(breaker, error)
            raise
        guard.succeeded(breaker)
        return answer

"""The circuit breakers of a server, which block requests for a while after repeated failures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from model_cache.errors import StoreAnsweredError, StoreUnavailableError, WriteRefusedError
from model_cache.observing.events import Hook, StoreFound, StoreLost
from model_cache.protocols import Clock
from model_cache.stores.breaker import AlwaysClosed, CircuitBreaker

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
        """Whether requests are sent ("closed") or blocked ("open"); "read_only": writes fail."""
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


def unguarded() -> Guard:
    """Return a guard that blocks nothing, for administrative requests."""
    return Guard(AlwaysClosed, lambda _: None)


def seconds_left(deadline: float, clock: Clock) -> float:
    """Return the seconds until a deadline.

    Raises:
        StoreUnavailableError: there are none. A request now would count as a failure of the server.
    """
    left = deadline - clock()
    if left <= 0:
        raise StoreUnavailableError("timed out", "timeout")
    return left

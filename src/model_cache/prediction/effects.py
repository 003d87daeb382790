"""What the steps of a prediction ask of their driver; a driver decides only who waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeAlias, TypeVar

from pydantic import BaseModel

from model_cache.binding import Bound
from model_cache.errors import StoreUnavailableError
from model_cache.prediction.single_flight import Landing
from model_cache.protocols import Clock, Store

T = TypeVar("T")


class Ask(NamedTuple):
    """Send a request to the store; the result is its answer.

    Attributes:
        request: calls a method of the store with the time that it may take, and returns what the
            method returns: the answer, or in an event loop its awaitable.
        seconds: that time.
    """

    request: Callable[[Store, float], Any]
    seconds: float


class Predict(NamedTuple):
    """Call the model; the result is its prediction."""

    binding: Bound
    data: BaseModel


class Wait(NamedTuple):
    """Wait for another caller's computation; the result is how it ended, or None if too late."""

    landing: Landing
    seconds: float


class Pause(NamedTuple):
    """Do nothing for so many seconds."""

    seconds: float


class Later(NamedTuple):
    """Take steps after the answer; the result is whether there was room in the queue.

    Attributes:
        steps: the steps.
        size: bytes that they hold in memory.
    """

    steps: Steps[object]
    size: int


Effect: TypeAlias = Ask | Predict | Wait | Pause | Later
Steps: TypeAlias = Generator[Effect, Any, T]


class Budget:
    """The time that one prediction may lose to the store, all requests together.

    Args:
        seconds: how long that is.
        clock: seconds, as `time.perf_counter`.

    Attributes:
        left: the seconds that are left.
    """

    __slots__ = ("_clock", "left")

    def __init__(self, seconds: float, clock: Clock = time.perf_counter) -> None:
        self.left = seconds
        self._clock = clock

    def ask(self, request: Callable[[Store, float], T]) -> Steps[T]:
        """Send a request within the time that is left, and take off what it took.

        Raises:
            StoreUnavailableError: no time is left, or the store failed.
        """
        if self.left <= 0:
            raise StoreUnavailableError("no time is left for the store", "timeout")
        started = self._clock()
        try:
            answer: T = yield Ask(request, self.left)
            return answer
        finally:
            self.left -= self._clock() - started

"""The effects that the steps of a prediction yield to their driver.

Drivers differ only in how they wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

from model_cache.binding import Bound
from model_cache.errors import StoreUnavailableError
from model_cache.prediction.single_flight import Landing
from model_cache.protocols import Clock, Store

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Ask:
    """Send a request to the store; the result is its reply.

    Attributes:
        request: calls a method of the store with a timeout, and returns what the method returns:
            the reply, or in an event loop an awaitable.
        seconds: the timeout.
    """

    request: Callable[[Store, float], Any]
    seconds: float


@dataclass(slots=True, eq=False)
class Predict:
    """Call the model; the result is its prediction."""

    binding: Bound
    data: Any


@dataclass(slots=True, eq=False)
class PredictMany:
    """Call the model once for many inputs; the result is a prediction for each."""

    binding: Bound
    inputs: list[Any]


@dataclass(slots=True, eq=False)
class Wait:
    """Wait for another caller's computation; the result is how it ended, or None on a timeout."""

    landing: Landing
    seconds: float


@dataclass(slots=True, eq=False)
class Pause:
    """Sleep for the given seconds."""

    seconds: float


@dataclass(slots=True, eq=False)
class Later:
    """Run steps in the background; the result is whether the queue accepted them.

    Attributes:
        work: whether they compute an entry anew, or verify a hit.
        steps: the steps.
        size: how many bytes they keep in memory.
    """

    work: Literal["revalidate", "verify"]
    steps: Steps[object]
    size: int


@dataclass(slots=True, eq=False)
class WriteLater:
    """Write entries in the background; the result is whether the queue accepted them.

    Attributes:
        place: where to write them; entries for equal places may be written in one request.
        write: returns the steps that write entries there.
        writes: the entries.
        size: how many bytes they keep in memory.
    """

    place: object
    write: Callable[[Sequence[Any]], Steps[object]]
    writes: Sequence[Any]
    size: int


Effect: TypeAlias = Ask | Predict | PredictMany | Wait | Pause | Later | WriteLater
Steps: TypeAlias = Generator[Effect, Any, T]


class Budget:
    """The time that one prediction may spend on the store, in all its requests.

    Args:
        seconds: the total time.
        clock: seconds, as `time.perf_counter`.

    Attributes:
        left: the remaining seconds.
    """

    __slots__ = ("_clock", "left")

    def __init__(self, seconds: float, clock: Clock = time.perf_counter) -> None:
        self.left = seconds
        self._clock = clock

    def ask(self, request: Callable[[Store, float], T]) -> Steps[T]:
        """Send a request within the remaining time, and subtract its duration.

        Raises:
            StoreUnavailableError: no time remains, or the store failed.
        """
        if self.left <= 0:
            raise StoreUnavailableError("the timeout is used up", "timeout")
        started = self._clock()
        try:
            answer: T = yield Ask(request, self.left)
            return answer
        finally:
            self.left -= self._clock() - started

"""The time that one prediction may lose to the store, all its questions together."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from model_cache.errors import StoreUnavailableError
from model_cache.protocols import Clock

T = TypeVar("T")


class Budget:
    """Seconds that are spent on questions, and not in between.

    Args:
        seconds: how many there are.
        clock: seconds, as `time.perf_counter`.
    """

    __slots__ = ("_clock", "left")

    def __init__(self, seconds: float, clock: Clock = time.perf_counter) -> None:
        self.left = seconds
        self._clock = clock

    def spend(self, ask: Callable[[float], T]) -> T:
        """Ask, within the seconds that are left, and take off those that it took.

        Raises:
            StoreUnavailableError: nothing is left, or whatever `ask` raises.
        """
        if self.left <= 0:
            raise StoreUnavailableError("the time for the store is spent", "timeout")
        started = self._clock()
        try:
            return ask(self.left)
        finally:
            self.left -= self._clock() - started

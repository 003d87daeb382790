"""A circuit breaker: after repeated failures it blocks all calls except one probe at a time.

See Michael Nygard, "Release It!". The breaker never makes the calls itself, so it does not
serialise them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal, TypeAlias

from model_cache.forks import renew_after_fork
from model_cache.protocols import Clock

State: TypeAlias = Literal["closed", "open"]


class CircuitBreaker:
    """Counts failures and decides whether a call may be made.

    Args:
        clock: seconds, as `time.monotonic`.
        random: returns a number from 0 to 1, as `random.random`; spreads the probes of a fleet.
        threshold: how many consecutive failures open it.
        window: how many calls to count after a failure; if half of them fail, it opens.
        first_pause: seconds between opening and the first probe.
        longest_pause: the most seconds between two probes; the pause doubles up to this.

    Attributes:
        recent: whether each call since the failure that began the window succeeded. While it is
            empty, successful calls need not be reported.
    """

    def __init__(
        self,
        clock: Clock,
        random: Callable[[], float],
        *,
        threshold: int = 3,
        window: int = 20,
        first_pause: float = 0.1,
        longest_pause: float = 1.0,
    ) -> None:
        self._clock = clock
        self._random = random
        self._threshold = threshold
        self._window = window
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._failures = 0  # in a row
        self.recent: list[bool] = []
        self._pause = first_pause
        self._next_probe: float | None = None  # None: closed
        self._is_probing = False
        self._lock = threading.RLock()  # a signal handler may predict while this thread reports
        renew_after_fork(self)

    @property
    def state(self) -> State:
        """Whether calls go through ("closed") or are blocked ("open")."""
        return "closed" if self._next_probe is None else "open"

    def allows(self) -> bool:
        """Return whether to make a call now. The caller then reports its outcome."""
        if self._next_probe is None:
            return True
        with self._lock:
            now = self._clock()
            if self._next_probe is None or now < self._next_probe:
                return self._next_probe is None
            # Schedule the next probe now: if this one is interrupted, it never reports.
            self._next_probe = now + self._jittered()
            self._is_probing = True
            return True

    def succeeded(self) -> bool:
        """Report a successful call; return whether it closed the circuit."""
        if not self.recent:
            return False
        with self._lock:
            was_open = self._next_probe is not None
            self._failures, self._pause, self._next_probe = 0, self._first_pause, None
            self._is_probing = False
            self._note(True, forget=was_open)
        return was_open

    def failed(self) -> bool:
        """Report a failed call; return whether it opened the circuit."""
        with self._lock:
            self._failures += 1
            self._note(False)
            was_open = self._next_probe is not None
            if was_open:
                if not self._is_probing:  # a call from before it opened, as are many at once
                    return False
                self._is_probing = False
                self._pause = min(2 * self._pause, self._longest_pause)
            elif self._failures < self._threshold and not self._half_failed():
                return False
            self._next_probe = self._clock() + self._jittered()
        return not was_open

    def _note(self, success: bool, *, forget: bool = False) -> None:
        if forget or len(self.recent) >= self._window:
            self.recent = []
        if self.recent or not success:
            self.recent.append(success)

    def _half_failed(self) -> bool:
        return 2 * self.recent.count(False) >= self._window

    def _jittered(self) -> float:
        return self._pause * (0.5 + 0.5 * self._random())

    def after_fork(self) -> None:
        """Replace the lock."""
        self._lock = threading.RLock()


class AlwaysClosed(CircuitBreaker):
    """A circuit breaker that never blocks a call, for administrative requests."""

    def __init__(self) -> None:
        super().__init__(time.monotonic, lambda: 1.0)

    def failed(self) -> bool:
        return False

"""Threads that an interruption can't leave half started.

`threading.Thread.start` waits on a `Condition`, which is Python code. If a signal handler raises
there, the exception is replaced by "release unlocked lock", and the thread may stay in a list for
ever. This module starts a thread, and waits for it, with a single call into C.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable


def start_thread(function: Callable[[], object]) -> None:
    """Run a function on a daemon thread.

    Raises:
        RuntimeError: the thread limit is reached, or the interpreter is shutting down.
    """
    _thread.start_new_thread(function, ())


def held_lock() -> _thread.LockType:
    """Return a lock whose release wakes the thread that waits for it."""
    lock = _thread.allocate_lock()
    lock.acquire()
    return lock


class Task:
    """A function that runs on a thread and can be waited for."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._running = held_lock()
        self.is_done = False
        self._subscribers: list[Callable[[bool], object]] = []

    def start(self) -> None:
        """Run the function; see `start_thread`."""
        start_thread(self._run)

    def _run(self) -> None:
        try:
            self._function()
        finally:
            self.is_done = True
            self._running.release()
            for notify in self._subscribers:
                notify(True)

    def subscribe(self, notify: Callable[[bool], object]) -> None:
        """Call `notify`, once or twice, when the function has ended; from any thread."""
        self._subscribers.append(notify)
        if self.is_done:
            notify(True)

    def wait(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for the function to return."""
        if not self.is_done and self._running.acquire(timeout=timeout):
            self._running.release()

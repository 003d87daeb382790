"""Threads that an interruption can't leave half started.

`threading.Thread.start` waits on a `Condition`, in Python. An exception of a signal handler that
falls in there is replaced by "release unlocked lock", and may leave the thread in a list for good.
Here a thread is started, and waited for, by one call into C.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable


def start_thread(function: Callable[[], object]) -> None:
    """Run a function on a thread that does not hold up the end of the process.

    Raises:
        RuntimeError: there can be no more threads, or the interpreter is about to end.
    """
    _thread.start_new_thread(function, ())


class Task:
    """A function on a thread, for whose end others may wait."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._running = _thread.allocate_lock()
        self._running.acquire()
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
        """Wait for the end of the function, but no longer than so many seconds."""
        if not self.is_done and self._running.acquire(timeout=timeout):
            self._running.release()

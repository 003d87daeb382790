"""Jobs done off the path of a prediction: a bounded queue, and one thread that empties it.

What is written, and where, is unknown here.

A signal handler may interrupt any line that runs in the main thread, with an exception or with
a prediction of its own. So nothing is counted: how much waits is read off the queue itself, and
only locks that are taken and released in C are used, never a `threading.Condition`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import TypeAlias

from model_cache.exits import run_at_exit
from model_cache.forks import renew_after_fork

logger = logging.getLogger("model_cache")

Job: TypeAlias = Callable[[], object]

# A thread without work ends, so that a decorator that nobody uses any more can be collected.
_IDLE_SECONDS = 1.0
_POLL_SECONDS = 0.001


@dataclass(frozen=True, slots=True, eq=False)
class _Submitted:
    job: Job
    size: int


_size_of = attrgetter("size")


class BackgroundWriter:
    """Does jobs in their order, on a thread of its own.

    Args:
        max_jobs: how many jobs may wait; more are not taken.
        max_bytes: the sum of their sizes; a job that waits alone may be larger.
        flush_seconds: how long `flush` waits by default, and at the end of the process.
    """

    def __init__(
        self, max_jobs: int = 1000, max_bytes: int = 64 * 2**20, flush_seconds: float = 2.0
    ) -> None:
        self._max_jobs = max_jobs
        self._max_bytes = max_bytes
        self._flush_seconds = flush_seconds
        self.after_fork()
        renew_after_fork(self)
        # Servers that a signal stops skip this: they close the decorator when they shut down.
        run_at_exit(self)

    def after_fork(self) -> None:
        """Forget the jobs: they are the parent's, which does them."""
        self._lock = threading.RLock()  # of C, as all that is used below
        self._waiting: deque[_Submitted] = deque()
        self._current: _Submitted | None = None
        self._thread: threading.Thread | None = None
        self._bell = threading.Lock()  # released to wake the thread
        self._bell.acquire()

    def submit(self, job: Job, size: int = 0) -> bool:
        """Queue a job, which must not raise; return False if it was not taken.

        Args:
            job: what to do.
            size: how many bytes it keeps in memory.

        Returns:
            False if too many jobs wait, or too many bytes, or if no thread can be started.
        """
        with self._lock:
            if not self._has_thread() or self._is_full(size):
                return False
            self._waiting.append(_Submitted(job, size))
        # If this is interrupted, the thread wakes up by itself, a little later.
        with contextlib.suppress(RuntimeError):  # it rings already
            self._bell.release()
        return True

    def drop(self) -> None:
        """Forget the jobs that wait. One may be under way: `flush` waits for it."""
        with self._lock:
            dropped, self._waiting = self._waiting, deque()
        dropped.clear()  # outside the lock: it may run finalizers of the jobs' objects

    def flush(self, seconds: float | None = None) -> bool:
        """Wait until all jobs that were submitted before this call are done or dropped.

        Args:
            seconds: how long to wait at most; `flush_seconds` by default.

        Returns:
            Whether they are.
        """
        deadline = time.monotonic() + (self._flush_seconds if seconds is None else seconds)
        with self._lock:
            newest = self._waiting[-1] if self._waiting else self._current
        while newest is not None and not self._is_done(newest):
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def at_exit(self) -> None:
        """Do what waits, within a bound."""
        self.flush()

    def _is_full(self, size: int) -> bool:
        waiting = self._waiting
        if not waiting:
            return self._max_jobs < 1
        too_many = len(waiting) >= self._max_jobs
        return too_many or sum(map(_size_of, waiting)) + size > self._max_bytes

    def _is_done(self, submitted: _Submitted) -> bool:
        with self._lock:
            return submitted is not self._current and submitted not in self._waiting

    def _has_thread(self) -> bool:
        """Return whether there is a thread, which is started if need be."""
        if self._thread is None or not self._thread.is_alive():
            # Known before it starts: an interrupted `start` may have started it all the same.
            self._thread = thread = threading.Thread(target=self._work, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads, or the interpreter is about to end
                if self._thread is thread:
                    self._thread = None
                return False
        return True

    def _work(self) -> None:
        while (submitted := self._next()) is not None:
            try:
                submitted.job()
            except BaseException:  # a hook that exits, say; those who wait are not to blame
                logger.exception("a background job raised")
            del submitted  # it holds on to the decorator

    def _next(self) -> _Submitted | None:
        """Return the next job; None if the thread is to end."""
        rang = True
        while True:
            with self._lock:
                if self._thread is not threading.current_thread():
                    return None  # replaced, after a start that was interrupted
                self._current = None
                if self._waiting:
                    self._current = self._waiting.popleft()
                    return self._current
                if not rang:
                    self._thread = None
                    return None
            rang = self._bell.acquire(timeout=_IDLE_SECONDS)

"""Jobs done off the path of a prediction: a bounded queue, and one thread that empties it.

What is written, and where, is unknown here.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeAlias
from weakref import WeakMethod

from model_cache.forks import renew_after_fork

Job: TypeAlias = Callable[[], None]

# A thread without work ends, so that a decorator that nobody uses any more can be collected.
_IDLE_SECONDS = 1.0


class BackgroundWriter:
    """Does jobs in their order, on a thread of its own.

    Args:
        size: how many jobs may wait; more are not taken.
        flush_seconds: how long `flush` waits at most, at the end of the process, too.
    """

    def __init__(self, size: int = 1000, flush_seconds: float = 2.0) -> None:
        self._size = size
        self._flush_seconds = flush_seconds
        self.after_fork()
        renew_after_fork(self)
        # Servers that a signal stops skip this: they close the decorator when they shut down.
        flush = WeakMethod(self.flush)
        atexit.register(lambda: (method := flush()) and method())

    def after_fork(self) -> None:
        """Forget the jobs: they are the parent's, which does them."""
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._lock = threading.RLock()
        self._undone = 0  # waiting, or being done
        self._has_thread = False

    def submit(self, job: Job) -> bool:
        """Take a job, which must not raise; return False if too many wait, or none can be done."""
        with self._lock:
            if self._jobs.qsize() >= self._size:
                return False
            if not self._has_thread:
                try:
                    threading.Thread(target=self._work, daemon=True).start()
                except RuntimeError:  # no more threads, or the interpreter is about to end
                    return False
                self._has_thread = True
            self._undone += 1
            self._jobs.put(job)
        return True

    def drop(self) -> None:
        """Forget the jobs that wait."""
        with contextlib.suppress(Empty):
            while True:
                self._jobs.get_nowait()
                self._done()

    def flush(self) -> None:
        """Wait until all jobs are done, but no longer than `flush_seconds`."""
        deadline = time.monotonic() + self._flush_seconds
        while self._undone and time.monotonic() < deadline:
            time.sleep(0.001)

    def _done(self) -> None:
        with self._lock:
            self._undone -= 1

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=_IDLE_SECONDS)
            except Empty:
                with self._lock:
                    if self._jobs.qsize() == 0:
                        self._has_thread = False
                        return
                continue
            try:
                job()
            except BaseException:
                with self._lock:
                    self._has_thread = False  # the next job gets another one
                raise
            finally:
                self._done()
            del job  # it holds on to the decorator

"""A background thread with a bounded queue of jobs.

A signal handler may interrupt any line in the main thread, with an exception or with a prediction
of its own. So there are no counters: the queue itself shows how much is waiting. Only locks that
are acquired and released in C are used, never a `threading.Condition`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeAlias

from model_cache.exits import run_at_exit
from model_cache.forks import renew_after_fork
from model_cache.interruptions import reraise_interruption
from model_cache.stores.threads import held_lock, start_thread

logger = logging.getLogger("model_cache")

Job: TypeAlias = Callable[[], object]

# An idle thread ends, so that an unused decorator can be garbage-collected.
_IDLE_SECONDS = 1.0
_POLL_SECONDS = 0.001
# How long the thread waits after it is woken: jobs come in bursts, and waking it for each would
# interrupt the predictions that submit them more often.
_LINGER_SECONDS = 0.001
# How many items to do together, at most.
_MOST_TOGETHER = 50


class _Submitted:
    """A job in the queue.

    Attributes:
        job: the job.
        start: the bytes of the jobs before it, since the queue was last empty.
        end: the same with its own.
    """

    __slots__ = ("end", "job", "start")

    def __init__(self, job: Job, start: int, end: int) -> None:
        self.job = job
        self.start = start
        self.end = end


class BackgroundWriter:
    """Runs jobs in order on its own thread.

    Args:
        max_jobs: the most jobs that may wait; further ones are rejected.
        max_bytes: the limit of their total size; a single job may exceed it.
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
        # Not called in servers that a signal stops: these close the decorator on shutdown.
        run_at_exit(self)

    def after_fork(self) -> None:
        """Drop the jobs, which the parent runs."""
        self._lock = threading.RLock()  # implemented in C, like everything below
        self._waiting: deque[_Submitted] = deque()
        self._current: _Submitted | None = None
        self._worker: object | None = None  # identifies the thread

    def submit(self, job: Job, size: int = 0) -> bool:
        """Queue a job, which must not raise; return whether it was accepted.

        Args:
            job: the function to call.
            size: how many bytes it keeps in memory.

        Returns:
            False if the queue is full, by jobs or by bytes, or if no thread can be started.
        """
        with self._lock:
            if not self._has_thread() or self._is_full(size):
                return False
            start = self._waiting[-1].end if self._waiting else 0
            self._waiting.append(_Submitted(job, start, start + size))
            is_busy = self._current is not None  # and will look for further jobs
        # If this is interrupted, the thread wakes up on its own a little later.
        if not is_busy and self._bell.locked():
            with contextlib.suppress(RuntimeError):  # released meanwhile
                self._bell.release()
        return True

    def waiting(self, most: int) -> list[Job]:
        """Return the first jobs that wait."""
        with self._lock:
            first = list(islice(self._waiting, most))
        return [each.job for each in first]

    def drop(self) -> None:
        """Drop the waiting jobs. One may be running: `flush` waits for it."""
        with self._lock:
            dropped, self._waiting = self._waiting, deque()
        dropped.clear()  # outside the lock, since it may run finalizers

    def flush(self, seconds: float | None = None) -> bool:
        """Wait until all jobs submitted before this call are done or dropped.

        Args:
            seconds: the longest time to wait; `flush_seconds` by default.

        Returns:
            False if the time ran out.
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
        """Run the waiting jobs, within `flush_seconds`."""
        self.flush()

    def _is_full(self, size: int) -> bool:
        waiting = self._waiting
        if not waiting:
            return self._max_jobs < 1
        too_many = len(waiting) >= self._max_jobs
        return too_many or waiting[-1].end - waiting[0].start + size > self._max_bytes

    def _is_done(self, submitted: _Submitted) -> bool:
        with self._lock:
            return submitted is not self._current and submitted not in self._waiting

    def _has_thread(self) -> bool:
        """Start the thread if necessary, holding the lock; return whether it runs."""
        if self._worker is None:
            # Not an older one: gevent may have patched locks since, in a preloaded worker.
            worker, self._bell = object(), held_lock()
            try:
                start_thread(partial(self._work, worker))
            except RuntimeError as error:  # no more threads, or the interpreter is shutting down
                reraise_interruption(error)
                return False
            # The thread waits for the lock. If this is interrupted, it finds out and ends.
            self._worker = worker
        return True

    def _work(self, worker: object) -> None:
        try:
            self._run_jobs(worker)
        finally:  # whatever ends the thread, another one can be started
            with self._lock:
                if self._worker is worker:
                    self._worker = self._current = None

    def _run_jobs(self, worker: object) -> None:
        while (submitted := self._next(worker)) is not None:
            try:
                submitted.job()
            except BaseException:  # a hook that exits, for example; the other jobs go on
                with contextlib.suppress(Exception):  # from a logging filter
                    logger.exception("Background job failed")
            del submitted  # it refers to the decorator

    def _next(self, worker: object) -> _Submitted | None:
        """Return the next job; None if the thread should end."""
        rang = True
        while True:
            with self._lock:
                if self._worker is not worker:
                    return None  # its start was interrupted
                self._current = None
                if self._waiting:
                    self._current = self._waiting.popleft()
                    return self._current
                if not rang:
                    self._worker = None
                    return None
            rang = self._bell.acquire(timeout=_IDLE_SECONDS)
            if rang:
                time.sleep(_LINGER_SECONDS)


class Together:
    """A job that also does the items of those that wait behind it for the same place.

    Args:
        writer: runs it.
        place: what the items are for.
        act: does the items of one or more jobs.
        items: its own items.
    """

    def __init__(
        self,
        writer: BackgroundWriter,
        place: object,
        act: Callable[[Sequence[Any]], object],
        items: Sequence[Any],
    ) -> None:
        self._writer = writer
        self._place = place
        self._act = act
        self._items = items
        self._is_done = False

    def __call__(self) -> None:
        if self._is_done:
            return
        items = [*self._items]
        # They stay in the queue, so that `flush` waits for them, and find that they are done.
        for job in self._writer.waiting(_MOST_TOGETHER):
            if not isinstance(job, Together) or job._place != self._place:
                break
            if len(items) + len(job._items) > _MOST_TOGETHER:
                break
            items += job._items
            job._is_done = True
        self._act(items)

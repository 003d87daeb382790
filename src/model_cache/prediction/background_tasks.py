"""Background jobs in tasks of an event loop; `background` is for threads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from asyncio import AbstractEventLoop, Semaphore, Task, get_running_loop
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, NamedTuple

from model_cache.forks import renew_after_fork
from model_cache.interruptions import reraise_interruption

logger = logging.getLogger("model_cache")


class _Jobs(NamedTuple):
    """The jobs of one loop, whose thread alone changes them."""

    sizes: dict[Task[None], int]
    turns: Semaphore


class BackgroundTasks:
    """Runs jobs in tasks of the running event loop.

    Args:
        max_jobs: the most jobs that one loop may have; further ones are rejected.
        max_bytes: the limit of their total size; a single job may exceed it.
        drain_seconds: how long `drain` waits.
        at_once: how many of a loop's jobs run at once.
    """

    def __init__(
        self,
        max_jobs: int = 1000,
        max_bytes: int = 64 * 2**20,
        drain_seconds: float = 2.0,
        at_once: int = 1000,
    ) -> None:
        self._max_jobs = max_jobs
        self._max_bytes = max_bytes
        self._drain_seconds = drain_seconds
        self._at_once = at_once
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Drop the tasks, which the parent runs."""
        self._jobs: dict[AbstractEventLoop, _Jobs] = {}

    def submit(self, job: Callable[[], Coroutine[Any, Any, object]], size: int = 0) -> bool:
        """Run a job; return False if the loop has too many of them, or too many bytes."""
        loop = get_running_loop()
        jobs = self._jobs.get(loop)
        if jobs is None:
            for other in [each for each in list(self._jobs) if each.is_closed()]:
                self._jobs.pop(other, None)
            jobs = self._jobs[loop] = _Jobs({}, Semaphore(self._at_once))
        sizes = jobs.sizes
        if sizes or self._max_jobs < 1:
            too_many = len(sizes) >= self._max_jobs
            if too_many or sum(sizes.values()) + size > self._max_bytes:
                return False
        # In a context of its own, as in a thread: it is no part of the caller's prediction.
        task = loop.create_task(_run(job, jobs.turns), context=Context())
        sizes[task] = size
        task.add_done_callback(sizes.pop)
        return True

    async def drain(self) -> None:
        """Wait for the running loop's jobs, and cancel those that take too long."""
        jobs = self._jobs.get(get_running_loop())
        if jobs is None or not jobs.sizes:
            return
        _, late = await asyncio.wait(list(jobs.sizes), timeout=self._drain_seconds)
        for task in late:
            task.cancel()


async def _run(job: Callable[[], Coroutine[Any, Any, object]], turns: Semaphore) -> None:
    try:
        async with turns:
            await job()
    except Exception as error:  # from a hook, for example
        reraise_interruption(error)
        with contextlib.suppress(Exception):  # from a logging filter
            logger.exception("Background job failed")

"""Jobs that an event loop does after an answer, in tasks; bounded, and drained at the end."""

from __future__ import annotations

import asyncio
import logging
from asyncio import AbstractEventLoop, Task, get_running_loop
from collections.abc import Callable, Coroutine
from typing import Any

from model_cache.forks import renew_after_fork
from model_cache.interruptions import reraise_interruption

logger = logging.getLogger("model_cache")


class BackgroundTasks:
    """Runs jobs in tasks of the running event loop.

    Args:
        max_jobs: how many jobs may be under way in one loop; more are not taken.
        max_bytes: the sum of their sizes; a job that is alone may be larger.
        drain_seconds: how long `drain` waits.
    """

    def __init__(
        self, max_jobs: int = 1000, max_bytes: int = 64 * 2**20, drain_seconds: float = 2.0
    ) -> None:
        self._max_jobs = max_jobs
        self._max_bytes = max_bytes
        self._drain_seconds = drain_seconds
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Forget the tasks: they are the parent's."""
        # Each loop's tasks with their sizes; only the loop's own thread changes them.
        self._under_way: dict[AbstractEventLoop, dict[Task[None], int]] = {}

    def submit(self, job: Callable[[], Coroutine[Any, Any, object]], size: int = 0) -> bool:
        """Run a job; return False if too many are under way, or too many bytes."""
        loop = get_running_loop()
        under_way = self._under_way.get(loop)
        if under_way is None:
            for other in [each for each in list(self._under_way) if each.is_closed()]:
                self._under_way.pop(other, None)
            under_way = self._under_way[loop] = {}
        if under_way or self._max_jobs < 1:
            too_many = len(under_way) >= self._max_jobs
            if too_many or sum(under_way.values()) + size > self._max_bytes:
                return False
        task = loop.create_task(_run(job))
        under_way[task] = size
        task.add_done_callback(under_way.pop)
        return True

    async def drain(self) -> None:
        """Wait for the running loop's jobs; those that take too long are cancelled."""
        tasks = list(self._under_way.get(get_running_loop(), ()))
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=self._drain_seconds)
        for task in late:
            task.cancel()


async def _run(job: Callable[[], Coroutine[Any, Any, object]]) -> None:
    try:
        await job()
    except Exception as error:  # a hook's, say
        reraise_interruption(error)
        logger.exception("a background job raised")

"""A schedule: calls in progress, of which one at a time performs one effect.

The calls are those of real decorators on a real server. Each runs in a greenlet, and stops before
each request, reply, model call and wait until the schedule lets it go on. So the same schedule
always gives the same result.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from greenlet import greenlet

from model_cache.errors import StoreUnavailableError
from model_cache.prediction.effects import Ask, Effect, Later, Pause, Predict, PredictMany, Wait
from model_cache.prediction.single_flight import ABANDONED, Landed, Landing
from model_cache.steps import take

# How long the server may take, however long the call would wait for it.
_PATIENCE = 20.0
_WRITES = frozenset(("set", "set_if_absent", "append", "set_watching", "set_many", "delete"))
# After this time, a write that has timed out never reaches the server.
_LATEST_WRITE = 55.0


class Clock:
    """The time of a schedule; in place of the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        self.now += 1e-6  # no two readings are equal
        return self.now

    def time(self) -> float:
        return 1.7e9 + self.perf_counter()

    monotonic = perf_counter


def _always() -> bool:
    return True


class Task:
    """A call, or a job in the background.

    Args:
        owner: what the jobs in the background have in common with the call that began them.
        work: what it does.

    Attributes:
        is_ready: whether it can go on; it waits otherwise.
        how: how its effect ends; see `Schedule.go`.
    """

    def __init__(self, owner: Any, work: Callable[[], object]) -> None:
        self.owner = owner
        self.is_ready: Callable[[], bool] = _always
        self.how = "well"
        self.thread = greenlet(work)


class Schedule:
    """Tasks, and whose turn it is.

    Args:
        clock: the time, which only the schedule moves.
        moved: receives the owner of a task whenever one has gone on.
    """

    def __init__(self, clock: Clock, moved: Callable[[Any], object]) -> None:
        self.clock = clock
        self.tasks: list[Task] = []
        self._late: list[tuple[float, Task]] = []
        self._moved = moved
        self._current: Task | None = None

    @property
    def current(self) -> Task:
        """The task whose turn it is."""
        assert self._current is not None
        return self._current

    def begin(self, owner: Any, work: Callable[[], object]) -> Task:
        """Add a task, which does nothing before its first turn."""
        task = Task(owner, work)
        self.tasks.append(task)
        return task

    def go(self, task: Task, how: str = "well") -> None:
        """Let a task perform its effect, and go on to the next one.

        Args:
            task: the task.
            how: how the effect ends. A request: "well", "unsent", "lost" (its reply), or "late"
                (it times out, and arrives later). A model call: "well" or "raises". A wait: "well"
                or "timeout". A job in the background: "well" or "full".
        """
        task.how, self._current = how, task
        task.thread.switch()
        self._moved(task.owner)
        if task.thread.dead:
            self.tasks.remove(task)

    def stop(self, is_ready: Callable[[], bool] | None = None) -> str:
        """Wait for the next turn of the current task; return how its effect ends."""
        task = self.current
        task.is_ready = is_ready or _always
        assert task.thread.parent is not None
        task.thread.parent.switch()
        return task.how

    def ready(self) -> list[Task]:
        """Return the tasks that can go on."""
        return [task for task in self.tasks if task.is_ready()]

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.now += seconds
        for sent, task in list(self._late):
            if self.clock.now > sent + _LATEST_WRITE and task in self.tasks:
                self._late.remove((sent, task))
                self.tasks.remove(task)

    def run(self, task: Task, times: int) -> None:
        """Let a task perform some effects, unless it has ended or has to wait."""
        for _ in range(times):
            if task in self.tasks and task.is_ready():
                self.go(task)

    def finish(self) -> None:
        """Let all tasks go on until they have ended."""
        while self.tasks:
            ready = self.ready()
            for task in ready:
                if task in self.tasks and task.is_ready():
                    self.go(task)
            if not ready:
                self.go(self.tasks[0], "timeout")

    def end(self) -> None:
        """End all tasks where they are."""
        for task in self.tasks:
            self._current = task
            task.thread.throw()

    def late(self, write: Callable[[], object]) -> None:
        """Let a write of the current task, which has timed out, arrive later."""
        self._late.append((self.clock.now, self.begin(self.current.owner, write)))

    def sleep(self, seconds: float) -> None:
        """Wait in the middle of a task."""
        self.stop()
        self.clock.now += seconds


class ScheduledStore:
    """A store in front of which calls stop, before each request and before its reply.

    Args:
        inner: the store.
        schedule: the schedule.
        fails: told of each request that is made to fail.
    """

    def __init__(self, inner: Any, schedule: Schedule, fails: Callable[[], object]) -> None:
        self._inner = inner
        self._schedule = schedule
        self._fails = fails

    def __getattr__(self, name: str) -> Any:
        request = getattr(self._inner, name)
        return request if name in {"close", "state"} else lambda *given: self._ask(name, *given)

    def _ask(self, name: str, *given: Any) -> Any:
        schedule, clock = self._schedule, self._schedule.clock
        deadline = clock.now + given[-1]

        def request() -> Any:
            reply = getattr(self._inner, name)(*given[:-1], _PATIENCE)
            return list(reply) if name == "scan" else reply

        how = schedule.stop()
        if how == "unsent":
            raise self._failed("circuit_open")
        if how == "late" and name in _WRITES:
            schedule.late(request)
        if how not in {"late", "lost"}:
            reply = request()
            schedule.stop()
            if clock.now <= deadline:
                return reply
        elif how == "lost":
            request()
        raise self._failed("timeout")

    def _failed(self, kind: str) -> StoreUnavailableError:
        self._fails()
        return StoreUnavailableError("planned", kind)


class Performer:
    """Performs the effects of one decorator's calls.

    Args:
        schedule: the schedule.
        store: the decorator's store.
    """

    def __init__(self, schedule: Schedule, store: ScheduledStore) -> None:
        self._schedule = schedule
        self._store = store
        self._queues: dict[str, list[Task]] = {}

    def __call__(self, effect: Effect) -> Any:
        match effect:
            case Ask(request, seconds):
                return request(self._store, seconds)
            case Predict(binding, data):
                return binding.predict(data)
            case PredictMany(binding, inputs):
                return binding.predict_many(inputs)
            case Wait(landing, seconds):
                return self._wait(landing, seconds)
            case Pause(seconds):
                return self._schedule.sleep(seconds)
            case Later(work, steps, _):
                return self._later(work, lambda: take(steps, self))

    def _wait(self, landing: Landing, seconds: float) -> Landed | None:
        def has_ended() -> bool:
            return landing.landed is not None or landing.is_abandoned()

        self._schedule.stop(has_ended)
        if landing.landed is None and not landing.is_abandoned():
            self._schedule.clock.now += max(0.0, seconds)
            return None
        return landing.landed or ABANDONED

    def _later(self, work: str, job: Callable[[], object]) -> bool:
        if self._schedule.stop() == "full":
            return False
        queue = self._queues.setdefault(work, [])

        def run() -> None:
            try:
                job()
            finally:
                queue.remove(task)

        task = self._schedule.begin(self._schedule.current.owner, run)
        queue.append(task)
        task.is_ready = lambda: queue[0] is task
        return True

    def give_back(self, request: Callable[[Any, float], object]) -> None:
        """Release a lease in the background."""

        def release() -> None:
            with suppress(StoreUnavailableError):
                request(self._store, 0.2)

        self._schedule.begin(self._schedule.current.owner, release)


def set_clocks(root: object, clock: Clock, sleep: Callable[[float], None]) -> None:
    """Replace the clocks in all parts of the library that an object consists of."""
    waiting, seen = [root], {id(root)}
    replaced = {time.perf_counter: clock.perf_counter, time.time: clock.time, time.sleep: sleep}
    while waiting:
        attributes: dict[str, Any] = getattr(waiting.pop(), "__dict__", {})
        for name, value in list(attributes.items()):
            if callable(value) and value in replaced:
                attributes[name] = replaced[value]
            elif type(value).__module__.startswith("model_cache.") and id(value) not in seen:
                seen.add(id(value))
                waiting.append(value)

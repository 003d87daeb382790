"""Threads or tasks that predict without pause, and counts of the outcomes.

Which fault comes in between, and where, is unknown here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from model_cache import RedisCachingDecorator, last_outcome
from tests.faults.stalls import waited_for_a_core
from tests.models import Charges, FunctionModel, Person, Region, Sex, charge, person

INPUTS: tuple[Person, ...] = tuple(
    person(
        age=20 + number,
        sex=list(Sex)[number % 2],
        bmi=20.0 + number / 8,
        children=number % 5,
        smoker=number % 3 == 0,
        region=list(Region)[number % 4],
    )
    for number in range(24)
)
PATIENCE = 30.0  # seconds until a wait in a test is given up


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds} s still not: {what}")
        time.sleep(0.002)


# Of each thread: how long it has been in models.
_inside = threading.local()


class LoadModel(FunctionModel):
    """A model that knows all its answers.

    Args:
        offset: is added to each answer, to tell models apart.
        seconds: that each prediction takes.
    """

    def __init__(self, offset: float = 0.0, seconds: float = 0.0) -> None:
        super().__init__(version=f"1.{offset:.0f}")
        self.answers = tuple(Charges(charges=charge(data).charges + offset) for data in INPUTS)
        self.call_count = 0
        self._by_input = dict(zip(map(_fields, INPUTS), self.answers, strict=True))
        self._seconds = seconds

    def predict(self, data: Any) -> Any:
        started = time.perf_counter()
        self.call_count += 1
        if self._seconds:
            time.sleep(self._seconds)
        answer = self._by_input[_fields(data)]
        _inside.seconds += time.perf_counter() - started
        return answer.model_copy()


def _fields(data: Person) -> tuple[object, ...]:
    return tuple(data.__dict__.values())


@dataclass
class Tally:
    """What became of predictions.

    Attributes:
        predictions: how many were asked for.
        failed: how many raised instead of answering.
        wrong: how many answers were not the model's.
        worst: the longest that one took, the time in the model not counted; in seconds.
        first_error: the first that was raised, for whoever looks for the reason.
    """

    predictions: int = 0
    failed: int = 0
    wrong: int = 0
    worst: float = 0.0
    first_error: str = ""

    def add(self, other: Tally) -> None:
        """Count the other's, too."""
        self.predictions += other.predictions
        self.failed += other.failed
        self.wrong += other.wrong
        self.worst = max(self.worst, other.worst)
        self.first_error = self.first_error or other.first_error


class AsyncLoadModel(LoadModel):
    """The same for event loops, which it does not block."""

    async def apredict(self, data: Any) -> Any:
        self.call_count += 1
        if self._seconds:
            await asyncio.sleep(self._seconds)
        return self._by_input[_fields(data)].model_copy()


class Load:
    """Threads that predict the same few inputs over and over.

    Args:
        decorator: what to ask.
        threads: how many ask.
        model: to bind to.
    """

    def __init__(
        self, decorator: RedisCachingDecorator, threads: int = 2, model: LoadModel | None = None
    ) -> None:
        self.decorator = decorator
        self.models = [model or self.make_model()]  # all that there were, the newest last
        decorator.set_model(self.models[0])
        self.tallies: list[Tally] = []
        self._settled = 0  # the number of the first model that may still answer
        self._hit_at = [0.0] * len(INPUTS)
        self._go_on, self._over = threading.Event(), threading.Event()
        self._go_on.set()
        self._threads = [
            threading.Thread(target=self._work, args=(number,), daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def make_model(self, offset: float = 0.0) -> LoadModel:
        """Return a model that fits the load."""
        return LoadModel(offset)

    def tally(self) -> Tally:
        """Return a new tally, which counts."""
        tally = Tally()
        self.tallies.append(tally)
        return tally

    def predict(self, tally: Tally, number: int) -> None:
        """Predict one input, and count what became of it."""
        oldest, data = self._settled, INPUTS[number]
        tally.predictions += 1
        _inside.seconds = 0.0
        started = time.perf_counter()
        try:
            answer = self.decorator.predict(data)
        except Exception:
            tally.failed += 1
            tally.first_error = tally.first_error or traceback.format_exc()
            return
        self.note(tally, number, answer, started, oldest, _inside.seconds)

    def note(
        self, tally: Tally, number: int, answer: Any, started: float, oldest: int, inside: float
    ) -> None:
        """Count an answer; the model took `inside` seconds of the time since `started`."""
        seconds = time.perf_counter() - started
        if all(answer != model.answers[number] for model in self.models[oldest:]):
            tally.wrong += 1
            tally.first_error = tally.first_error or f"{answer!r} for {INPUTS[number]!r}"
        tally.worst = max(tally.worst, seconds - inside)
        if inside == 0.0:
            self._hit_at[number] = started

    def change_model(self, model: LoadModel) -> None:
        """Bind the decorator to another model."""
        self.models.append(model)
        self.decorator.set_model(model)
        self._settled = len(self.models) - 1

    def is_warm(self, since: float = 0.0, among: Collection[int] | None = None) -> bool:
        """Whether each input was a hit since a moment."""
        numbers = range(len(INPUTS)) if among is None else among
        return all(self._hit_at[number] > since for number in numbers)

    def key(self, number: int) -> str:
        """Return the key of an input."""
        return self.decorator.cache_key(INPUTS[number])

    def pause(self) -> None:
        """Let the threads be idle."""
        self._go_on.clear()

    def resume(self) -> None:
        """Let the threads go on."""
        self._go_on.set()

    def stop(self) -> None:
        """End the threads."""
        self._over.set()
        self._go_on.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in self._threads), "a prediction hangs"

    def _work(self, first: int) -> None:
        tally, number = self.tally(), 11 * first
        while not self._over.is_set():
            if not self._go_on.is_set():
                self._go_on.wait()
            self.predict(tally, number % len(INPUTS))
            number += 5


class AsyncLoad(Load):
    """Tasks that predict the same few inputs over and over, in one event loop.

    Attributes:
        longest_lag: how late the loop woke a task that only sleeps, at worst, less the time that
            this process waited for a core; in seconds.
        cancelled_share: of the predictions, to be cancelled at random moments.
        cancelled: how many were.
    """

    def __init__(
        self, decorator: RedisCachingDecorator, tasks: int = 50, model: LoadModel | None = None
    ) -> None:
        self.longest_lag = self.cancelled_share = 0.0
        self.cancelled = 0
        self._tasks = tasks
        super().__init__(decorator, 1, model)

    def make_model(self, offset: float = 0.0) -> LoadModel:
        return AsyncLoadModel(offset)

    def _work(self, first: int) -> None:
        asyncio.run(self._work_in_loop())

    async def _work_in_loop(self) -> None:
        lag = asyncio.create_task(self._measure_lag())
        await asyncio.gather(*(self._ask(number) for number in range(self._tasks)))
        await lag
        await self.decorator.aclose()

    async def _measure_lag(self) -> None:
        waited = waited_for_a_core()
        while not self._over.is_set():
            started, before = time.perf_counter(), waited
            await asyncio.sleep(0.005)
            late = time.perf_counter() - started - 0.005
            waited = waited_for_a_core()
            self.longest_lag = max(self.longest_lag, late - max(0.0, waited - before))

    async def _ask(self, first: int) -> None:
        tally, number = self.tally(), 11 * first
        while not self._over.is_set():
            while not self._go_on.is_set():
                await asyncio.sleep(0.005)
            prediction = self.apredict(tally, number % len(INPUTS))
            if random.random() < self.cancelled_share:
                await self._cancel(asyncio.create_task(prediction), tally)
            else:
                await prediction
            await asyncio.sleep(0)  # what does not wait for anything must not hold the loop
            number += 5

    async def _cancel(self, prediction: asyncio.Task[None], tally: Tally) -> None:
        await asyncio.sleep(random.choice((0, 0, 0.0005, 0.002)))
        prediction.cancel()
        try:
            await prediction
        except asyncio.CancelledError:
            self.cancelled += 1

    async def apredict(self, tally: Tally, number: int) -> None:
        """Predict one input, and count what became of it."""
        oldest = self._settled
        tally.predictions += 1
        started = time.perf_counter()
        try:
            answer = await self.decorator.apredict(INPUTS[number])
        except Exception:
            tally.failed += 1
            tally.first_error = tally.first_error or traceback.format_exc()
            return
        outcome = last_outcome()
        assert outcome is not None
        self.note(tally, number, answer, started, oldest, outcome.model_seconds)


@dataclass
class Run:
    """One run of one row of the matrix.

    Attributes:
        seconds: how long a fault lasts.
        tasks: how many tasks predict in an event loop; 0 if threads do.
        tally: of all predictions.
        recovery: seconds from the end of the fault until each input was a hit again.
        stall: the longest that the machine itself stood still, in seconds.
        lag: see `AsyncLoad.longest_lag`.
    """

    seconds: float
    tasks: int = 0
    tally: Tally = field(default_factory=Tally)
    recovery: float | None = None
    stall: float = 0.0
    lag: float = 0.0

    @contextlib.contextmanager
    def load(
        self,
        decorator: RedisCachingDecorator,
        *,
        threads: int = 2,
        model: LoadModel | None = None,
        warm: bool = True,
    ) -> Iterator[Load]:
        """Predict without pause while the block runs.

        Args:
            decorator: what to ask.
            threads: how many ask.
            model: to bind to.
            warm: whether to wait until each input is a hit.
        """
        load = AsyncLoad(decorator, self.tasks) if self.tasks else Load(decorator, threads, model)
        owner = os.getpid()
        try:
            if warm:
                wait_until(load.is_warm, "each input is a hit")
            yield load
        finally:
            if os.getpid() == owner:
                load.stop()
                decorator.close()
                if isinstance(load, AsyncLoad):
                    self.lag = max(self.lag, load.longest_lag)
                for tally in load.tallies:
                    self.tally.add(tally)

    def lasts(self, share: float = 1.0) -> None:
        """Let the fault last."""
        time.sleep(self.seconds * share)

    def recovers(self, load: Load, among: Collection[int] | None = None) -> None:
        """Take the time until each input, or each of some, is a hit again."""
        since = time.perf_counter()
        wait_until(lambda: load.is_warm(since, among), "each input is a hit again")
        self.recovery = max(self.recovery or 0.0, time.perf_counter() - since)


@dataclass(frozen=True)
class Row:
    """A fault.

    Attributes:
        fault: what happens.
        topology: to what.
        happen: makes it happen.
        threads: how many threads predict.
        tasks: how many tasks of an event loop predict instead.
        bounded: whether the worst extra latency is: with more busy threads than cores, the
            interpreter's lock decides.
        recovers_within: seconds from the end of the fault until hits return.
        extra: seconds that this fault may cost on top.
        in_short: whether it belongs to the short form of the matrix.
    """

    fault: str
    topology: str
    happen: Callable[[Run], None]
    threads: int = 2
    tasks: int = 0
    bounded: bool = True
    recovers_within: float = 2.0
    extra: float = 0.0
    in_short: bool = True

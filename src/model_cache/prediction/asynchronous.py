"""The driver that waits in an event loop; `sync` is for threads.

It never blocks the loop: a model without an `apredict` runs in the loop's thread pool.
"""

from __future__ import annotations

import inspect
import time
from asyncio import get_running_loop, sleep
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from typing import Any, Protocol, TypeVar, cast

from model_cache.binding import Bound, Current
from model_cache.errors import StoreUnavailableError
from model_cache.interruptions import is_interruption, reraise_interruption
from model_cache.observing.outcome import Outcome
from model_cache.prediction.background_tasks import BackgroundTasks
from model_cache.prediction.call import Call
from model_cache.prediction.effects import (
    Ask,
    Budget,
    Effect,
    Later,
    Pause,
    Predict,
    PredictMany,
    Steps,
    Wait,
    WriteLater,
)
from model_cache.prediction.flow import Flow
from model_cache.prediction.look_up import LookUps, Replies
from model_cache.prediction.many import ManyFlow
from model_cache.prediction.single_entries import SingleEntries
from model_cache.prediction.single_flight import ABANDONED, Landed, Landing
from model_cache.prediction.table_call import TableCall
from model_cache.prediction.tables import TableFlow
from model_cache.prediction.verifying import MOST_VERIFIED
from model_cache.protocols import AsyncStore, Store
from model_cache.steps import notified, take_async

T = TypeVar("T")

# Seconds until the first check, while waiting for a flight, that it still has a leader.
_ABANDONED_AFTER = 0.05


class AsyncPredictor(Protocol):
    """Answers predictions for a decorator in event loops."""

    async def predict(self, data: Any) -> Any:
        """Return the prediction for an input."""
        ...

    async def predict_many(
        self, inputs: Sequence[Any], *, return_exceptions: bool = False
    ) -> list[Any]:
        """Return the predictions for many inputs, in their order."""
        ...

    async def predict_table(self, call: TableCall) -> Any:
        """Return what a function returns for the rows of a table."""
        ...

    async def lookup(self, data: Any) -> Any:
        """Return the prediction in the cache, or None."""
        ...

    async def store(self, data: Any, prediction: Any) -> bool:
        """Store a prediction; return whether it was stored."""
        ...

    async def forget(self, inputs: Sequence[Any]) -> int:
        """Drop the entries of inputs; return how many there were."""
        ...

    async def drain(self) -> None:
        """Finish the background jobs of the running loop."""
        ...


class AsyncCachedPredictor:
    """Looks up predictions; computes and stores those that are missing.

    Args:
        flow: the steps of a prediction; shared with the driver for threads.
        many: the steps of a batch.
        tables: the steps of a table.
        entries: the steps for single entries.
        look_ups: finds entries in the near cache and in the store.
        store: the store with the entries.
        timeout: the most seconds that a prediction may spend on the store.
        tell: receives the outcome of each prediction.
        near: answers plain hits in the near cache, and returns None for all else.
    """

    def __init__(
        self,
        *,
        flow: Flow,
        many: ManyFlow,
        tables: TableFlow,
        entries: SingleEntries,
        look_ups: LookUps,
        store: AsyncStore,
        timeout: float,
        tell: Callable[[Outcome], None],
        near: Callable[[Any], Any | None] | None = None,
    ) -> None:
        self._flow = flow
        self._many = many
        self._tables = tables
        self._entries = entries
        self._look_ups = look_ups
        self._store = store
        self._timeout = timeout
        self._tell = tell
        self._near = near
        # One thread would recompute one stale entry at a time, too.
        self._later = {
            "write": BackgroundTasks(),
            "revalidate": BackgroundTasks(at_once=1),
            "verify": BackgroundTasks(max_jobs=MOST_VERIFIED, at_once=1),
        }

    async def predict(self, data: Any) -> Any:
        if self._near is not None and (prediction := self._near(data)) is not None:
            return prediction
        flow, call = self._flow, self._flow.calls.begin(data)
        try:
            if call.answer is not None:
                return call.answer
            if call.key is None:
                return await self._take(flow.compute(call))
            if call.must_check:
                found = await self._take(self._look_ups.check(call))
                if found is not None:
                    return found
            entry, failure = await self._look_up(call, call.key)
            if failure is not None:
                return await self._take(flow.do_without(call, failure))
            found = flow.read(call, entry)
            if found is not None:
                return found
            call.is_running = get_running_loop().is_running
            steps = flow.revalidate(call) if call.revalidates else flow.answer(call)
            return await self._take(steps)
        except GeneratorExit:  # abandoned, and closed in whatever context runs
            call.kind = None
            raise
        finally:
            if call.kind is not None:
                self._tell(call.outcome(time.perf_counter() - call.began))
            if flow.verifying.is_on:
                await self._take(flow.verifying.later([call]))

    async def predict_many(
        self, inputs: Sequence[Any], *, return_exceptions: bool = False
    ) -> list[Any]:
        began, calls = time.perf_counter(), self._flow.calls.begin_many(inputs)
        is_running = get_running_loop().is_running
        for call in calls:
            call.is_running = is_running
        steps = self._many.answer(calls, Budget(self._timeout), return_exceptions=return_exceptions)
        try:
            return await self._take(steps)
        except GeneratorExit:
            calls = []
            raise
        finally:
            self._many.tell(calls, time.perf_counter() - began, self._tell)

    async def predict_table(self, call: TableCall) -> Any:
        return await self._take(self._tables.answer(call))

    async def lookup(self, data: Any) -> Any:
        return await self._take(self._entries.lookup(data))

    async def store(self, data: Any, prediction: Any) -> bool:
        return await self._take(self._entries.store(data, prediction))

    async def forget(self, inputs: Sequence[Any]) -> int:
        return await self._take(self._entries.forget(inputs))

    async def _look_up(
        self, call: Call, key: bytes
    ) -> tuple[bytes | None, StoreUnavailableError | None]:
        """Return the entry, if there is one, or the store's error."""
        call.asked = time.perf_counter()
        try:
            entry = None
            if call.mode == "refresh":
                await self._take(self._look_ups.before_refresh([call], Budget(self._timeout)))
            if not call.renews:
                request = self._look_ups.request(call)
                if request is None:
                    return await self._store.get(key, self._timeout), None
                # With this store, a request returns an awaitable of the replies.
                asked = cast(Awaitable[Replies], request(cast(Store, self._store), self._timeout))
                entry = self._look_ups.take_in(call, await asked)
            if type(call.seen) is not bytes:
                left = self._timeout - (time.perf_counter() - call.asked)
                await self._take(self._look_ups.create_generation([call], Budget(left)))
            return entry, None
        except StoreUnavailableError as error:
            return None, error
        finally:
            call.store_seconds = time.perf_counter() - call.asked

    async def drain(self) -> None:
        for tasks in self._later.values():
            await tasks.drain()

    async def _take(self, steps: Steps[T]) -> T:
        return await take_async(steps, self._perform)

    async def _perform(self, effect: Effect) -> Any:
        match effect:
            case Predict(binding, data):
                return await predicted(binding, data)
            case PredictMany(binding, inputs):
                return await _predicted_many(binding, inputs)
            case Ask(request, seconds):
                # A request returns what the store's method returns: here, an awaitable.
                return await request(cast(Store, self._store), seconds)
            case Wait(landing, seconds):
                return await _landed(landing, seconds)
            case Pause(seconds):
                return await sleep(seconds)
            case Later(work, steps, size):
                return self._later[work].submit(lambda: self._take(steps), size)
            case WriteLater(_, write, writes, size):
                return self._later["write"].submit(lambda: self._take(write(writes)), size)


async def _landed(landing: Landing, seconds: float) -> Landed | None:
    landed = await notified(landing.subscribe, seconds, landing.is_abandoned, _ABANDONED_AFTER)
    return ABANDONED if landed is None and landing.is_abandoned() else landed


async def predicted(binding: Bound, data: Any) -> Any:
    """Return the model's own answer, without blocking the loop."""
    predict = binding.apredict
    prediction = await _in_thread(binding.predict, data) if predict is None else predict(data)
    # A decorator around the model may have returned its coroutine.
    return await prediction if inspect.isawaitable(prediction) else prediction


async def _predicted_many(binding: Bound, inputs: list[Any]) -> list[Any]:
    """Return the model's own answers to many inputs, without blocking the loop."""
    predict = binding.apredict_many
    made = await _in_thread(binding.predict_many, inputs) if predict is None else predict(inputs)
    return list(await made if inspect.isawaitable(made) else made)


async def _in_thread(predict: Callable[[T], Any], data: T) -> Any:
    """Predict in the loop's thread pool, in a copy of the context."""

    def run() -> tuple[Any, BaseException | None]:
        try:
            return predict(data), None
        except BaseException as error:  # a future can't hold a StopIteration
            return None, error

    try:
        running = get_running_loop().run_in_executor(None, copy_context().run, run)
    except RuntimeError:  # no more threads: better to block the loop than to fail
        return predict(data)
    prediction, error = await running
    if error is None:
        return prediction
    try:
        raise error
    finally:
        del error  # it refers to this frame, which refers to it


class AsyncDirectPredictor:
    """Predicts without a cache that is turned off; inputs are still rounded.

    Args:
        current: holds the binding for new predictions.
        tell: receives the outcome of each prediction.
    """

    def __init__(self, current: Current, tell: Callable[[Outcome], None]) -> None:
        self._current = current
        self._tell = tell

    async def predict(self, data: Any) -> Any:
        return await self._predict(data, 1)

    async def predict_table(self, call: TableCall) -> Any:
        return await self._predict(call, call.size)

    async def _predict(self, data: Any, rows: int) -> Any:
        began = time.perf_counter()
        binding = self._current.bound()
        call = Call(binding, binding.rounded(data), began)
        started = time.perf_counter()
        try:
            prediction = await predicted(binding, call.data)
            call.kind = "off"
            return prediction
        except Exception as error:
            call.kind = None if is_interruption(error) else "error"
            raise
        finally:
            each, ended = max(1, rows), time.perf_counter()
            call.model_seconds = (ended - started) / each
            if call.kind is not None:
                self._tell(call.outcome((ended - began) / each)._replace(rows=rows))

    async def predict_many(
        self, inputs: Sequence[Any], *, return_exceptions: bool = False
    ) -> list[Any]:
        predictions: list[Any] = []
        for data in inputs:
            try:
                predictions.append(await self.predict(data))
            except Exception as error:
                reraise_interruption(error)
                if not return_exceptions:
                    raise
                predictions.append(error)
        return predictions

    async def lookup(self, data: Any) -> Any:  # noqa: ARG002 - as AsyncCachedPredictor's
        return None

    async def store(self, data: Any, prediction: Any) -> bool:  # noqa: ARG002
        return False

    async def forget(self, inputs: Sequence[Any]) -> int:  # noqa: ARG002
        return 0

    async def drain(self) -> None:
        return None

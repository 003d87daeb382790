"""The driver that waits in an event loop; `sync` is the same for threads.

The loop is never blocked: a model without an `apredict` of its own runs in the loop's thread pool.
"""

from __future__ import annotations

import inspect
import time
from asyncio import get_running_loop, sleep
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Protocol, TypeVar, cast

from pydantic import BaseModel

from model_cache.binding import Bound, CurrentBinding
from model_cache.errors import StoreUnavailableError
from model_cache.interruptions import is_interruption
from model_cache.observing.outcome import Outcome
from model_cache.prediction.background_tasks import BackgroundTasks
from model_cache.prediction.call import Call
from model_cache.prediction.effects import Ask, Effect, Later, Pause, Predict, Steps, Wait
from model_cache.prediction.flow import Flow
from model_cache.prediction.single_flight import ABANDONED, Landed, Landing
from model_cache.protocols import AsyncStore, Store
from model_cache.steps import notified, take_async

T = TypeVar("T")

# A caller that waits looks whether there is still a leader: first after so many seconds.
_ABANDONED_AFTER = 0.05


class AsyncPredictor(Protocol):
    """Answers predictions for a decorator, in event loops."""

    async def predict(self, data: BaseModel) -> BaseModel:
        """Return the prediction for an input."""
        ...

    async def drain(self) -> None:
        """Write what the running loop has yet to write."""
        ...

    def close(self) -> None:
        """Close the connections of all loops; callable from any thread."""
        ...


class AsyncCachedPredictor:
    """Looks predictions up, and computes and stores what is not there.

    Args:
        flow: the steps; shared with the driver for threads.
        store: where entries are.
        timeout: seconds that a prediction may lose to it.
        tell: hears the outcome of each prediction.
    """

    def __init__(
        self,
        *,
        flow: Flow,
        store: AsyncStore,
        timeout: float,
        tell: Callable[[Outcome], None],
    ) -> None:
        self._flow = flow
        self._store = store
        self._timeout = timeout
        self._tell = tell
        self._later = BackgroundTasks()

    async def predict(self, data: BaseModel) -> BaseModel:
        flow, call = self._flow, self._flow.begin(data)
        try:
            if call.key is None:
                return await self._take(flow.compute(call))
            entry = failure = None
            call.asked = time.perf_counter()
            if call.mode != "refresh":
                try:
                    entry = await self._store.get(call.key, self._timeout)
                except StoreUnavailableError as error:
                    failure = error
            if failure is not None:  # out of the block: it is no context of the model's errors
                return await self._take(flow.do_without(call, failure))
            found = flow.read(call, entry)
            if found is not None:
                return found
            call.is_lost = get_running_loop().is_closed
            return await self._take(flow.answer(call))
        finally:
            if call.kind is not None:
                self._tell(call.outcome(time.perf_counter() - call.began))

    async def drain(self) -> None:
        await self._later.drain()

    def close(self) -> None:
        self._store.close()

    async def _take(self, steps: Steps[T]) -> T:
        return await take_async(steps, self._perform)

    async def _perform(self, effect: Effect) -> Any:
        match effect:
            case Predict(binding, data):
                return await _predicted(binding, data)
            case Ask(request, seconds):
                # A request returns what the method of the store returns: here, an awaitable.
                return await request(cast(Store, self._store), seconds)
            case Wait(landing, seconds):
                return await _landed(landing, seconds)
            case Pause(seconds):
                return await sleep(seconds)
            case Later(steps, size):
                return self._later.submit(lambda: self._take(steps), size)


async def _landed(landing: Landing, seconds: float) -> Landed | None:
    landed = await notified(landing.subscribe, seconds, landing.is_abandoned, _ABANDONED_AFTER)
    return ABANDONED if landed is None and landing.is_abandoned() else landed


async def _predicted(binding: Bound, data: BaseModel) -> BaseModel:
    """Return the model's own answer, without blocking the loop."""
    model = binding.model
    # Of the class, since ml-base's decorators forward other attributes to the model inside.
    if hasattr(type(model), "apredict"):
        prediction = model.apredict(data)
    elif inspect.iscoroutinefunction(model.predict):
        prediction = model.predict(data)
    else:
        prediction = await _in_thread(binding.predict, data)
    # Also what a decorator in between returns unawaited.
    return await prediction if inspect.isawaitable(prediction) else prediction  # type: ignore[no-any-return]


async def _in_thread(predict: Callable[[BaseModel], Any], data: BaseModel) -> Any:
    """Predict in the loop's thread pool, in a copy of the context."""

    def run() -> tuple[Any, BaseException | None]:
        try:
            return predict(data), None
        except BaseException as error:  # a future can't hold a StopIteration
            return None, error

    try:
        running = get_running_loop().run_in_executor(None, copy_context().run, run)
    except RuntimeError:  # no more threads: slow for the loop is better than no prediction
        return predict(data)
    prediction, error = await running
    if error is None:
        return prediction
    try:
        raise error
    finally:
        del error  # it holds this frame, which holds it


class AsyncDirectPredictor:
    """Predicts without a cache, since it is turned off; inputs are rounded all the same.

    Args:
        current: the binding that predictions begin with.
        tell: hears the outcome of each prediction.
    """

    def __init__(self, current: CurrentBinding, tell: Callable[[Outcome], None]) -> None:
        self._current = current
        self._tell = tell

    async def predict(self, data: BaseModel) -> BaseModel:
        began = time.perf_counter()
        binding = self._current.bound()
        call = Call(binding, binding.rounded(data), began)
        started = time.perf_counter()
        try:
            prediction = await _predicted(binding, call.data)
            call.kind = "off"
            return prediction
        except Exception as error:
            call.kind = None if is_interruption(error) else "error"
            raise
        finally:
            call.model_seconds = time.perf_counter() - started
            if call.kind is not None:
                self._tell(call.outcome(time.perf_counter() - began))

    async def drain(self) -> None:
        return None

    def close(self) -> None:
        return None

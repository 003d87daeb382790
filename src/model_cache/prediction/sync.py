"""The driver that waits in the caller's thread, and what a cache that is turned off does."""

from __future__ import annotations

import time
from asyncio import _get_running_loop
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from model_cache.binding import CurrentBinding
from model_cache.errors import StoreUnavailableError
from model_cache.interruptions import is_interruption
from model_cache.keys.key import Namespace
from model_cache.observing.outcome import Outcome
from model_cache.prediction.background import BackgroundWriter
from model_cache.prediction.barrier import Barrier
from model_cache.prediction.call import Call
from model_cache.prediction.effects import Ask, Effect, Later, Pause, Predict, Steps, Wait
from model_cache.prediction.flow import Flow
from model_cache.prediction.single_flight import ABANDONED, Landed, Landing
from model_cache.protocols import Store
from model_cache.steps import take
from model_cache.stores.purging import delete_all

T = TypeVar("T")

# Purging is for operators: each of its round trips may take this many seconds.
_PURGE_TIMEOUT = 5.0
# A caller that waits looks so often, in seconds, whether there is still a leader.
_ABANDONED_AFTER = 0.05


class Predictor(Protocol):
    """Answers predictions for a decorator."""

    def predict(self, data: BaseModel) -> BaseModel:
        """Return the prediction for an input."""
        ...

    def purge(self, namespace: Namespace) -> int:
        """Delete the entries of a namespace; return how many there were."""
        ...

    def ping(self, namespace: Namespace) -> float:
        """Return how many seconds the store takes to answer a read."""
        ...

    @property
    def state(self) -> str:
        """Return what `Stats.store` says."""
        ...

    def close(self) -> None:
        """Write what waits to be written, and close the connections."""
        ...


class StatefulStore(Store, Protocol):
    """A store that knows whether its circuit breakers are open."""

    @property
    def state(self) -> str: ...


class CachedPredictor:
    """Looks predictions up, and computes and stores what is not there.

    Args:
        flow: the steps.
        store: where entries are.
        timeout: seconds that a prediction may lose to it.
        barrier: the process's.
        writer: writes entries after the answer.
        tell: hears the outcome of each prediction.
    """

    def __init__(
        self,
        *,
        flow: Flow,
        store: StatefulStore,
        timeout: float,
        barrier: Barrier,
        writer: BackgroundWriter | None,
        tell: Callable[[Outcome], None],
    ) -> None:
        self._flow = flow
        self._store = store
        self._timeout = timeout
        self._barrier = barrier
        self._writer = writer
        self._tell = tell

    def predict(self, data: BaseModel) -> BaseModel:
        flow, call = self._flow, self._flow.begin(data)
        try:
            if call.key is None:
                return self._take(flow.compute(call))
            entry, failure = self._look_up(call, call.key)
            if failure is not None:
                return self._take(flow.do_without(call, failure))
            found = flow.read(call, entry)
            if found is not None:
                return found
            return self._take(flow.answer(call))
        finally:
            if call.kind is not None:
                self._tell(call.outcome(time.perf_counter() - call.began))

    def _look_up(self, call: Call, key: bytes) -> tuple[bytes | None, StoreUnavailableError | None]:
        """Return the entry, if there is one, or why the store did not answer."""
        call.asked = time.perf_counter()
        if call.mode == "refresh":
            return None, None
        try:
            return self._store.get(key, self._timeout), None
        except StoreUnavailableError as error:
            return None, error

    def _take(self, steps: Steps[T]) -> T:
        return take(steps, self._perform)

    def _perform(self, effect: Effect) -> Any:
        match effect:
            case Predict(binding, data):
                return binding.predict(data)
            case Ask(request, seconds):
                return request(self._store, seconds)
            case Wait(landing, seconds):
                return _wait(landing, seconds)
            case Pause(seconds):
                return time.sleep(seconds)
            case Later(steps, size):
                assert self._writer is not None

                def write() -> None:
                    self._take(steps)

                return self._writer.submit(write, size)

    def purge(self, namespace: Namespace) -> int:
        # The writes of an event loop can't end while this blocks it.
        wait = _PURGE_TIMEOUT if _get_running_loop() is None else 0.0
        self._barrier.purge(namespace.holds, wait)
        found = self._store.scan(namespace.pattern, _PURGE_TIMEOUT)
        keys = [key for key in found if namespace.holds(key)]
        return delete_all(self._store, keys, _PURGE_TIMEOUT)

    def ping(self, namespace: Namespace) -> float:
        began = time.perf_counter()
        self._store.get(namespace.raw, self._timeout)  # a key that no entry has
        return time.perf_counter() - began

    @property
    def state(self) -> str:
        return self._store.state

    def close(self) -> None:
        if self._writer is not None:
            self._writer.flush()
        self._store.close()


def _wait(landing: Landing, seconds: float) -> Landed | None:
    landed: SimpleQueue[Landed] = SimpleQueue()
    landing.subscribe(landed.put)
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            return landed.get(timeout=min(left, _ABANDONED_AFTER))
        except Empty:
            if landing.is_abandoned():
                return ABANDONED
    return None


class DirectPredictor:
    """Predicts without a cache, since it is turned off; inputs are rounded all the same.

    Args:
        current: the binding that predictions begin with.
        tell: hears the outcome of each prediction.
    """

    def __init__(self, current: CurrentBinding, tell: Callable[[Outcome], None]) -> None:
        self._current = current
        self._tell = tell

    def predict(self, data: BaseModel) -> BaseModel:
        began = time.perf_counter()
        binding = self._current.bound()
        call = Call(binding, binding.rounded(data), began)
        started = time.perf_counter()
        try:
            prediction = binding.predict(call.data)
            call.kind = "off"
            return prediction
        except Exception as error:
            call.kind = None if is_interruption(error) else "error"
            raise
        finally:
            call.model_seconds = time.perf_counter() - started
            if call.kind is not None:
                self._tell(call.outcome(time.perf_counter() - began))

    def purge(self, namespace: Namespace) -> int:  # noqa: ARG002 - as Predictor's
        return 0

    def ping(self, namespace: Namespace) -> float:  # noqa: ARG002 - as Predictor's
        return 0.0

    @property
    def state(self) -> str:
        return "off"

    def close(self) -> None:
        return None

"""The driver that blocks the caller's thread, and the predictor for a disabled cache."""

from __future__ import annotations

import time
from asyncio import _get_running_loop
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from model_cache.binding import CurrentBinding
from model_cache.errors import StoreUnavailableError
from model_cache.interruptions import is_interruption, reraise_interruption
from model_cache.keys.key import Namespace
from model_cache.observing.outcome import Outcome
from model_cache.prediction.background import BackgroundWriter
from model_cache.prediction.barrier import Barrier
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
)
from model_cache.prediction.flow import Flow
from model_cache.prediction.generation import new_value
from model_cache.prediction.look_up import LookUps
from model_cache.prediction.many import ManyFlow
from model_cache.prediction.single_flight import ABANDONED, Landed, Landing
from model_cache.protocols import StatefulStore
from model_cache.steps import take
from model_cache.stores.purging import delete_all, unless_full

T = TypeVar("T")

# The timeout of each round trip of a purge, in seconds; a purge is not part of a prediction.
_PURGE_TIMEOUT = 5.0
# Seconds between checks, while waiting for a flight, that it still has a leader.
_ABANDONED_AFTER = 0.05


class Predictor(Protocol):
    """Answers predictions for a decorator."""

    def predict(self, data: BaseModel) -> BaseModel:
        """Return the prediction for an input."""
        ...

    def predict_many(
        self, inputs: Sequence[BaseModel], *, return_exceptions: bool = False
    ) -> list[Any]:
        """Return the predictions for many inputs, in their order."""
        ...

    def purge(self, namespace: Namespace) -> int:
        """Delete the entries of a namespace; return how many there were."""
        ...

    def ping(self, namespace: Namespace) -> float:
        """Return how many seconds the store takes to answer a read."""
        ...

    @property
    def state(self) -> str:
        """Return the value of `Stats.store`."""
        ...

    def close(self) -> None:
        """Finish the background writes and close the connections."""
        ...


class CachedPredictor:
    """Looks up predictions; computes and stores those that are missing.

    Args:
        flow: the steps of a prediction.
        many: the steps of a batch.
        look_ups: finds entries in the near cache and in the store.
        store: the store with the entries.
        timeout: the most seconds that a prediction may spend on the store.
        barrier: the process's barrier for the store.
        workers: work in the background, by what it is.
        tell: receives the outcome of each prediction.
    """

    def __init__(
        self,
        *,
        flow: Flow,
        many: ManyFlow,
        look_ups: LookUps,
        store: StatefulStore,
        timeout: float,
        barrier: Barrier,
        workers: Mapping[str, BackgroundWriter],
        tell: Callable[[Outcome], None],
    ) -> None:
        self._flow = flow
        self._many = many
        self._look_ups = look_ups
        self._store = store
        self._timeout = timeout
        self._barrier = barrier
        self._workers = workers
        self._tell = tell

    def predict(self, data: BaseModel) -> BaseModel:
        flow, call = self._flow, self._flow.begin(data)
        try:
            if call.answer is not None:
                return call.answer
            if call.key is None:
                return self._take(flow.compute(call))
            if call.unchecked is not None:
                found = self._take(self._look_ups.check(call))
                if found is not None:
                    return found
            entry, failure = self._look_up(call, call.key)
            if failure is not None:
                return self._take(flow.do_without(call, failure))
            found = flow.read(call, entry)
            if found is not None:
                return found
            return self._take(flow.revalidate(call) if call.revalidates else flow.answer(call))
        finally:
            if call.kind is not None:
                self._tell(call.outcome(time.perf_counter() - call.began))

    def predict_many(
        self, inputs: Sequence[BaseModel], *, return_exceptions: bool = False
    ) -> list[Any]:
        began, calls = time.perf_counter(), self._flow.begin_many(inputs)
        steps = self._many.answer(calls, Budget(self._timeout), return_exceptions=return_exceptions)
        try:
            return self._take(steps)
        finally:
            self._many.tell(calls, time.perf_counter() - began, self._tell)

    def _look_up(self, call: Call, key: bytes) -> tuple[bytes | None, StoreUnavailableError | None]:
        """Return the entry, if there is one, or the store's error."""
        call.asked = time.perf_counter()
        try:
            entry = None
            if call.mode != "refresh":
                request = self._look_ups.request(call)
                if request is None:
                    return self._store.get(key, self._timeout), None
                entry = self._look_ups.take_in(call, request(self._store, self._timeout))
            if type(call.seen) is not bytes:
                left = self._timeout - (time.perf_counter() - call.asked)
                self._take(self._look_ups.create_generation([call], Budget(left)))
            return entry, None
        except StoreUnavailableError as error:
            return None, error
        finally:
            call.store_seconds = time.perf_counter() - call.asked

    def _take(self, steps: Steps[T]) -> T:
        return take(steps, self._perform)

    def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Ask):  # a `match` takes longer
            return effect.request(self._store, effect.seconds)
        if isinstance(effect, Predict):
            return effect.binding.predict(effect.data)
        match effect:
            case PredictMany(binding, inputs):
                return binding.predict_many(inputs)
            case Wait(landing, seconds):
                return _wait(landing, seconds)
            case Pause(seconds):
                return time.sleep(seconds)
            case Later(work, steps, size):

                def job() -> None:
                    self._take(steps)

                return self._workers[work].submit(job, size)

    def purge(self, namespace: Namespace) -> int:
        self._look_ups.forget()
        # The writes of a running event loop can't end while this blocks it.
        wait = _PURGE_TIMEOUT if _get_running_loop() is None else 0.0
        self._barrier.purge(namespace.holds, wait)
        with unless_full():
            self._begin_generation(namespace)  # no process stores what it has computed by now
        found = self._store.scan(namespace.pattern, _PURGE_TIMEOUT)
        keys = [key for key in found if namespace.holds(key)]
        deleted = delete_all(self._store, keys, _PURGE_TIMEOUT)
        self._begin_generation(namespace)  # no process serves what it has read by now
        self._look_ups.forget()
        return deleted

    def _begin_generation(self, namespace: Namespace) -> None:
        generation, value = self._look_ups.generation(namespace), new_value()
        self._store.set(generation.key, value, None, _PURGE_TIMEOUT)
        generation.changed(value, time.perf_counter())

    def ping(self, namespace: Namespace) -> float:
        began = time.perf_counter()
        self._store.get(namespace.raw, self._timeout)  # not the key of any entry
        return time.perf_counter() - began

    @property
    def state(self) -> str:
        return self._store.state

    def close(self) -> None:
        for worker in self._workers.values():
            worker.flush()
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
    """Predicts without a cache that is turned off; inputs are still rounded.

    Args:
        current: holds the binding for new predictions.
        tell: receives the outcome of each prediction.
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

    def predict_many(
        self, inputs: Sequence[BaseModel], *, return_exceptions: bool = False
    ) -> list[Any]:
        predictions: list[Any] = []
        for data in inputs:
            try:
                predictions.append(self.predict(data))
            except Exception as error:
                reraise_interruption(error)
                if not return_exceptions:
                    raise
                predictions.append(error)
        return predictions

    def purge(self, namespace: Namespace) -> int:  # noqa: ARG002 - as Predictor's
        return 0

    def ping(self, namespace: Namespace) -> float:  # noqa: ARG002 - as Predictor's
        return 0.0

    @property
    def state(self) -> str:
        return "off"

    def close(self) -> None:
        return None

"""The driver that blocks the caller's thread, and the predictor for a disabled cache."""

from __future__ import annotations

import queue
import time
from asyncio import _get_running_loop
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from model_cache.binding import Current
from model_cache.errors import StoreUnavailableError
from model_cache.interruptions import is_interruption, reraise_interruption
from model_cache.observing.outcome import Outcome
from model_cache.prediction.background import BackgroundWriter, Together
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
from model_cache.prediction.look_up import LookUps
from model_cache.prediction.many import ManyFlow
from model_cache.prediction.single_entries import SingleEntries
from model_cache.prediction.single_flight import ABANDONED, Landed, Landing
from model_cache.prediction.table_call import TableCall
from model_cache.prediction.tables import TableFlow
from model_cache.protocols import Store
from model_cache.steps import take

T = TypeVar("T")

# Seconds between checks, while waiting for a flight, that it still has a leader.
_ABANDONED_AFTER = 0.05


class Predictor(Protocol):
    """Answers predictions for a decorator."""

    def predict(self, data: Any) -> Any:
        """Return the prediction for an input."""
        ...

    def predict_many(self, inputs: Sequence[Any], *, return_exceptions: bool = False) -> list[Any]:
        """Return the predictions for many inputs, in their order."""
        ...

    def predict_table(self, call: TableCall) -> Any:
        """Return what a function returns for the rows of a table."""
        ...

    def lookup(self, data: Any) -> Any:
        """Return the prediction in the cache, or None."""
        ...

    def store(self, data: Any, prediction: Any) -> bool:
        """Store a prediction; return whether it was stored."""
        ...

    def forget(self, inputs: Sequence[Any]) -> int:
        """Drop the entries of inputs; return how many there were."""
        ...


class CachedPredictor:
    """Looks up predictions; computes and stores those that are missing.

    Args:
        flow: the steps of a prediction.
        many: the steps of a batch.
        tables: the steps of a table.
        entries: the steps for single entries.
        look_ups: finds entries in the near cache and in the store.
        store: the store with the entries.
        timeout: the most seconds that a prediction may spend on the store.
        workers: work in the background, by what it is.
        tell: receives the outcome of each prediction.
    """

    def __init__(
        self,
        *,
        flow: Flow,
        many: ManyFlow,
        tables: TableFlow,
        entries: SingleEntries,
        look_ups: LookUps,
        store: Store,
        timeout: float,
        workers: Mapping[str, BackgroundWriter],
        tell: Callable[[Outcome], None],
    ) -> None:
        self._flow = flow
        self._many = many
        self._tables = tables
        self._entries = entries
        self._look_ups = look_ups
        self._store = store
        self._timeout = timeout
        self._workers = workers
        self._tell = tell

    def predict(self, data: Any) -> Any:
        flow, call = self._flow, self._flow.calls.begin(data)
        try:
            if call.answer is not None:
                return call.answer
            if call.key is None:
                return self._take(flow.compute(call))
            if call.must_check:
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
            if flow.verifying.is_on:
                self._take(flow.verifying.later([call]))

    def predict_many(self, inputs: Sequence[Any], *, return_exceptions: bool = False) -> list[Any]:
        began, calls = time.perf_counter(), self._flow.calls.begin_many(inputs)
        steps = self._many.answer(calls, Budget(self._timeout), return_exceptions=return_exceptions)
        try:
            return self._take(steps)
        finally:
            self._many.tell(calls, time.perf_counter() - began, self._tell)

    def predict_table(self, call: TableCall) -> Any:
        return self._take(self._tables.answer(call))

    def lookup(self, data: Any) -> Any:
        return self._take(self._entries.lookup(data))

    def store(self, data: Any, prediction: Any) -> bool:
        return self._take(self._entries.store(data, prediction))

    def forget(self, inputs: Sequence[Any]) -> int:
        if _get_running_loop() is None:
            return self._take(self._entries.forget(inputs))
        # The writes of a running event loop can't end while this blocks it.
        return self._take(self._entries.forget(inputs, patience=0.0))

    def _look_up(self, call: Call, key: bytes) -> tuple[bytes | None, StoreUnavailableError | None]:
        """Return the entry, if there is one, or the store's error."""
        call.asked = time.perf_counter()
        try:
            entry = None
            if call.mode == "refresh":
                self._take(self._look_ups.before_refresh([call], Budget(self._timeout)))
            if not call.renews:
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
                # Threads take turns anyway. A sleep of 0 gives up the rest of a time slice.
                return time.sleep(seconds) if seconds else None
            case Later(work, steps, size):

                def job() -> None:
                    self._take(steps)

                return self._workers[work].submit(job, size)
            case WriteLater(place, write, writes, size):
                worker = self._workers["write"]

                def act(together: Sequence[Any]) -> None:
                    self._take(write(together))

                return worker.submit(Together(worker, place, act, writes), size)


def _wait(landing: Landing, seconds: float) -> Landed | None:
    if landing.is_running is not None and _get_running_loop() is not None:
        return None  # its leader is a task, perhaps of the very loop that this caller blocks
    landed: queue.SimpleQueue[Landed] = queue.SimpleQueue()  # gevent may replace the class
    landing.subscribe(landed.put)
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            return landed.get(timeout=min(left, _ABANDONED_AFTER))
        except queue.Empty:
            if landing.is_abandoned():
                return ABANDONED
    return None


class DirectPredictor:
    """Predicts without a cache that is turned off; inputs are still rounded.

    Args:
        current: holds the binding for new predictions.
        tell: receives the outcome of each prediction.
    """

    def __init__(self, current: Current, tell: Callable[[Outcome], None]) -> None:
        self._current = current
        self._tell = tell

    def predict(self, data: Any) -> Any:
        return self._predict(data, 1)

    def predict_table(self, call: TableCall) -> Any:
        return self._predict(call, call.size)

    def _predict(self, data: Any, rows: int) -> Any:
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
            each, ended = max(1, rows), time.perf_counter()
            call.model_seconds = (ended - started) / each
            if call.kind is not None:
                self._tell(call.outcome((ended - began) / each)._replace(rows=rows))

    def predict_many(self, inputs: Sequence[Any], *, return_exceptions: bool = False) -> list[Any]:
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

    def lookup(self, data: Any) -> Any:  # noqa: ARG002 - as CachedPredictor's
        return None

    def store(self, data: Any, prediction: Any) -> bool:  # noqa: ARG002
        return False

    def forget(self, inputs: Sequence[Any]) -> int:  # noqa: ARG002
        return 0

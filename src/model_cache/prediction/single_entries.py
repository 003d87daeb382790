"""The steps that read, write or drop the entry of one input, without a prediction.

None of them calls the model, counts as a prediction, or changes the last outcome.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from model_cache.errors import ConfigurationError, StoreUnavailableError
from model_cache.observing.scope import forbids_writes, requested_mode
from model_cache.options.config import Config
from model_cache.prediction.barrier import Barrier
from model_cache.prediction.call import Call
from model_cache.prediction.calls import Calls
from model_cache.prediction.effects import Budget, Pause, Steps
from model_cache.prediction.flow import Flow
from model_cache.prediction.generation import MOST_RECORDS, Generation, records_of
from model_cache.prediction.generation_steps import look, record
from model_cache.prediction.look_up import LookUps
from model_cache.prediction.writing import Write, Writing
from model_cache.protocols import Clock
from model_cache.stores.purging import unless_full

# Seconds for a forget, which is not part of a prediction.
_FORGET_TIMEOUT = 5.0


class SingleEntries:
    """The steps for the single entries of one decorator.

    Args:
        config: the decorator's options.
        calls: begins calls.
        flow: reads what they find.
        barrier: the process's barrier for the store.
        writing: encodes and writes predictions.
        look_ups: finds entries in the near cache and in the store.
        clock: seconds, as `time.perf_counter`.
    """

    def __init__(
        self,
        *,
        config: Config,
        calls: Calls,
        flow: Flow,
        barrier: Barrier,
        writing: Writing,
        look_ups: LookUps,
        clock: Clock = time.perf_counter,
    ) -> None:
        self._config = config
        self._calls = calls
        self._flow = flow
        self._barrier = barrier
        self._writing = writing
        self._look_ups = look_ups
        self._clock = clock

    def lookup(self, data: Any) -> Steps[Any]:
        """Return the prediction in the cache, or None.

        Raises:
            StoreUnavailableError: the store failed, and `on_error` is "raise".
        """
        if requested_mode() in {"bypass", "refresh"}:
            return None
        call = self._calls.begin(data, "read_only")
        if call.answer is not None or call.key is None:
            return call.answer
        found = yield from self._look_ups.check(call)
        if found is not None:
            return found
        try:
            entry = yield from self._entry(call, call.key)
        except StoreUnavailableError as error:
            entry, failure = self._look_ups.take_in_part(call, error)
            if failure is not None and self._config.on_error == "raise":
                raise
        return self._flow.read(call, entry)

    def _entry(self, call: Call, key: bytes) -> Steps[bytes | None]:
        call.asked, budget = self._clock(), Budget(self._config.timeout - call.store_seconds)
        request = self._look_ups.request(call)
        if request is None:
            return (yield from budget.ask(lambda store, left: store.get(key, left)))
        return self._look_ups.take_in(call, (yield from budget.ask(request)))

    def store(self, data: Any, prediction: Any) -> Steps[bool]:
        """Store a prediction as a refresh would; return whether it was stored.

        Raises:
            ConfigurationError: the prediction is not an instance of the output schema.
        """
        call = self._calls.begin(data, None if forbids_writes() else "refresh")
        _check(prediction, call.binding.output_schema)
        if call.mode != "refresh" or call.key is None or call.generation is None:
            return False
        entry = self._writing.encode(call, call.key, prediction)
        if entry is None:
            return False
        budget = Budget(self._config.timeout)
        with suppress(StoreUnavailableError):  # the write counts the failure
            call.seen = yield from look(call.generation, budget, self._clock)
            if call.seen is None:
                yield from self._look_ups.create_generation([call], budget)
        computation = self._barrier.begin(call.key, call.epoch, refreshes=True)
        self._look_ups.drop(call)
        write, since = Write(computation, entry, call.redis_ttl, call.seen), self._clock()
        ((fate, _),) = yield from self._writing.store(
            call.binding, call.generation, [write], budget, renews=True
        )
        if fate != "stored":
            return False
        self._look_ups.stored(call, entry, since)
        return True

    def forget(self, inputs: Sequence[Any], patience: float = _FORGET_TIMEOUT) -> Steps[int]:
        """Drop the entries of inputs; return how many there were.

        Args:
            inputs: the inputs, all of one namespace.
            patience: the most seconds to wait for writes of the entries that are in progress.

        Raises:
            StoreUnavailableError: the store failed. This process does not serve the entries.
        """
        deleted = 0
        for start in range(0, len(inputs), MOST_RECORDS):
            calls = yield from self._begun(inputs[start : start + MOST_RECORDS])
            try:
                deleted += yield from self._forget(calls, patience)
            except StoreUnavailableError:
                rest = yield from self._begun(inputs[start + MOST_RECORDS :])
                self._barrier.overtake(rest)
                for key in rest:
                    self._barrier.distrust(key)
                raise
        return deleted

    def _begun(self, inputs: Sequence[Any]) -> Steps[dict[bytes, Call]]:
        """Return a call for each key of some inputs."""
        calls: dict[bytes, Call] = {}
        for data in inputs:
            if calls:
                yield Pause(0)  # lets an event loop go on
            call = self._calls.begin(data, "refresh")
            if call.key is not None:
                calls[call.key] = call
        return calls

    def _forget(self, calls: Mapping[bytes, Call], patience: float) -> Steps[int]:
        if not calls:
            return 0
        generation = self._look_ups.generation_of(next(iter(calls.values())).binding)
        self._barrier.overtake(calls)
        computations = [self._barrier.begin(key, call.epoch) for key, call in calls.items()]
        try:
            self._forgotten(calls.values())
            yield from self._writing.wait_for_overtaken(computations, Budget(patience))
            return (yield from self._delete(list(calls), generation))
        except BaseException:
            for key in calls:
                self._barrier.distrust(key)
            raise
        finally:
            for computation in computations:
                self._barrier.end(computation)
            self._forgotten(calls.values())

    def _forgotten(self, calls: Iterable[Call]) -> None:
        for call in calls:
            self._look_ups.forgotten(call)

    def _delete(self, keys: Sequence[bytes], generation: Generation) -> Steps[int]:
        budget = Budget(_FORGET_TIMEOUT)
        with unless_full():
            yield from record(records_of(keys), generation, budget, self._clock)
        deleted = yield from budget.ask(lambda store, left: store.delete(keys, left))
        yield from record(records_of(keys), generation, budget, self._clock)
        # So that what follows does not count as begun before.
        yield from look(generation, budget, self._clock)
        return deleted


def _check(prediction: Any, schema: type) -> None:
    if not isinstance(prediction, schema):
        given = type(prediction).__qualname__
        raise ConfigurationError(
            "prediction", f"expected an instance of {schema.__qualname__}, got {given}"
        )

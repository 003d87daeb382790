"""The short way to the model while the cache does not pay, which costs very little.

The gates decide; see `gates`. Whatever is out of the ordinary is left to the predictor around which
this one stands. Batches and tables are decided on in their own steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from model_cache.binding import Bound, Current
from model_cache.interruptions import is_interruption, reraise_interruption
from model_cache.observing.counters import Counters
from model_cache.observing.events import Hook
from model_cache.observing.outcome import Outcome
from model_cache.observing.scope import last, note, scopes
from model_cache.prediction.around import Around, AsyncAround
from model_cache.prediction.asynchronous import AsyncPredictor, predicted
from model_cache.prediction.gates import Gate, Gates
from model_cache.prediction.sync import Predictor
from model_cache.protocols import Clock

_new: Callable[..., Any] = tuple.__new__


class _Known:
    """What is known of one binding.

    Attributes:
        binding: the binding.
        gate: decides on its single predictions.
        count: counts a direct prediction.
        name: the model's qualified name.
        version: its version.
    """

    __slots__ = ("binding", "count", "gate", "name", "version")

    def __init__(self, binding: Bound, gates: Gates, counters: Counters) -> None:
        self.name, self.version = name, version = binding.qualified_name, binding.version
        self.binding = binding
        self.gate: Gate = gates.of(name, version, batches=False)
        self.count = counters.of(name, version).predicted_directly


class DirectWay:
    """Chooses the predictions to make without the cache, and tells their outcomes.

    Args:
        current: the binding that predictions begin with.
        gates: decide.
        counters: count the direct predictions.
        watch: hears their outcomes, if anybody wants to.
        tell: receives the outcome of a model's exception.
        clock: seconds, as `time.perf_counter`.
    """

    def __init__(
        self,
        current: Current,
        gates: Gates,
        counters: Counters,
        watch: Hook | None,
        tell: Callable[[Outcome], None],
        clock: Clock = time.perf_counter,
    ) -> None:
        self._current = current
        self._gates = gates
        self._counters = counters
        self._watch = watch
        self._tell = tell
        self.clock = clock
        self._known: _Known | None = None  # in one attribute: threads may change it

    def chosen(self, data: Any) -> _Known | None:
        """Return the binding for a direct prediction; None to go through the cache."""
        binding, known = self._current.binding, self._known
        if binding is None:
            return None
        if known is None or known.binding is not binding:
            self._known = known = _Known(binding, self._gates, self._counters)
        gate = known.gate
        if not gate.direct:
            return None
        if scopes.var.get() is not None and (scope := scopes.get()) and scope.mode is not None:
            return None
        try:
            if not binding.is_current():
                return None
        except Exception as error:  # from a property of the model
            reraise_interruption(error)
            return None
        drawn = gate.random()
        if drawn < gate.key_share and gate.looks_up(drawn, partial(_encoded, binding, data)):
            return None
        return known

    def done(self, known: _Known, seconds: float) -> None:
        """Tell of a direct prediction."""
        name, of = known.name, known.version
        # A NamedTuple's own __new__ is written in Python, and takes twice as long.
        fields = (
            "direct",
            name,
            of,
            seconds,
            0.0,
            0.0,
            seconds,
            0,
            None,
            None,
            False,
            False,
            False,
            None,
            None,
            1,
            1,
        )
        outcome: Outcome = _new(Outcome, fields)
        known.count(seconds)
        if self._watch is not None:
            self._watch(outcome)
        if scopes.var.get() is None:
            last.set((outcome, None))
        else:
            note(outcome)

    def failed(self, known: _Known, seconds: float, error: BaseException) -> None:
        """Tell of an exception of the model."""
        if isinstance(error, Exception) and not is_interruption(error):
            self._tell(Outcome("error", known.name, known.version, seconds, model_seconds=seconds))


def _encoded(binding: Bound, data: Any) -> bytes:
    return binding.canonical(binding.rounded(data))


class AdaptivePredictor(Around):
    """Predicts directly where that is chosen, and by another predictor otherwise.

    Args:
        inner: the other predictor.
        way: chooses.
    """

    def __init__(self, inner: Predictor, way: DirectWay) -> None:
        super().__init__(inner)
        self._way = way

    def predict(self, data: Any) -> Any:
        way = self._way
        known = way.chosen(data)
        if known is None:
            return self._inner.predict(data)
        binding, clock = known.binding, way.clock
        if binding.rounds:
            data = binding.rounded(data)
        began = clock()
        try:
            prediction = binding.predict(data)
        except BaseException as error:
            way.failed(known, clock() - began, error)
            raise
        way.done(known, clock() - began)
        return prediction


class AsyncAdaptivePredictor(AsyncAround):
    """Does the same in event loops.

    Args:
        inner: the other predictor.
        way: chooses.
    """

    def __init__(self, inner: AsyncPredictor, way: DirectWay) -> None:
        super().__init__(inner)
        self._way = way

    async def predict(self, data: Any) -> Any:
        way = self._way
        known = way.chosen(data)
        if known is None:
            return await self._inner.predict(data)
        binding, clock = known.binding, way.clock
        began = clock()
        try:
            prediction = await predicted(binding, binding.rounded(data))
        except BaseException as error:
            way.failed(known, clock() - began, error)
            raise
        way.done(known, clock() - began)
        return prediction

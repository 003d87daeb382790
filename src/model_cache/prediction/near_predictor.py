"""The short way of a hit in the near cache, which costs a few microseconds.

It answers the plain case only, and decides nothing: whatever is out of the ordinary is left to the
predictor around which it stands.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from model_cache.binding import Bound, Current
from model_cache.interruptions import reraise_interruption
from model_cache.keys.key import Namespace
from model_cache.observing.events import Hook
from model_cache.observing.outcome import Outcome
from model_cache.observing.scope import last, note, scopes
from model_cache.prediction.around import Around
from model_cache.prediction.generation import Generation
from model_cache.prediction.look_up import LookUps
from model_cache.prediction.near import NearCache
from model_cache.prediction.sampling import Sample
from model_cache.prediction.sync import Predictor
from model_cache.prediction.verifying import Verifying


class NearPredictor(Around):
    """Answers by the near cache where it can, and by another predictor otherwise.

    Args:
        inner: the other predictor.
        current: the binding that predictions begin with.
        near: the near cache.
        look_ups: knows the generations.
        counting: returns what counts the time of a hit, for a model's name and version.
        verifying: verifies hits.
        watch: hears their outcomes, if anybody wants to.
        clock: seconds, as `time.perf_counter`.
    """

    def __init__(
        self,
        inner: Predictor,
        *,
        current: Current,
        near: NearCache,
        look_ups: LookUps,
        counting: Callable[[str, str], Callable[[float], None]],
        verifying: Verifying,
        watch: Hook | None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        super().__init__(inner)
        self._current = current
        self._near = near
        self._look_ups = look_ups
        self._counting = counting
        self._watch = watch
        self._clock = clock
        self._verifying = verifying
        self._sample: Sample | None = None
        # In one attribute: threads may change it.
        self._known: tuple[Bound | None, Generation, Callable[[float], None]] = (
            None,
            Generation(Namespace(None, "", "")),
            lambda _: None,
        )

    def predict(self, data: Any) -> Any:
        prediction = self.answer(data)
        return self._inner.predict(data) if prediction is None else prediction

    def answer(self, data: Any) -> Any | None:
        """Return the prediction for a plain hit, else None."""
        clock = self._clock
        began, binding = clock(), self._current.binding
        scope = None if scopes.var.get() is None else scopes.get()
        if binding is None or binding.rounds or (scope is not None and scope.mode is not None):
            return None
        known, generation, count = self._known
        if binding is not known:
            generation = self._look_ups.generations.of(binding.namespace)
            count = self._counting(binding.qualified_name, binding.version)
            self._sample = self._verifying.sample(binding) if self._verifying.is_on else None
            self._known = binding, generation, count
        kind = type(data)
        try:
            if not (binding.known_inputs.get(kind) and binding.is_current()):
                return None
            key = binding.near_prefix + binding.input_encoders[kind](data)
            found = self._near.table.get(key)
            if found is None:
                return None
            entry, expires, stamp, _, read, _, ends, written = found
            # In this order: a look that makes the value trusted may have changed it.
            if (
                began > generation.trusted_until
                or stamp != generation.current[1]
                or began >= expires
            ):
                return None
            if (sample := self._sample) is not None and not sample.spares():
                return None
            prediction: Any = read()
        except Exception as error:
            reraise_interruption(error)
            return None
        name, version, seconds = binding.qualified_name, binding.version, clock() - began
        age = None if written is None else began - written
        left = None if ends is None else ends - began
        fields = ("hit", name, version, seconds, 0.0, 0.0, 0.0, len(entry), None, None)
        # A NamedTuple's own __new__ is written in Python, and takes twice as long.
        outcome: Outcome = tuple.__new__(Outcome, (*fields, False, False, True, age, left, 1, 1))
        count(seconds)
        if self._watch is not None:
            self._watch(outcome)
        if scope is None:
            last.set((outcome, None))
        else:
            note(outcome)
        return prediction

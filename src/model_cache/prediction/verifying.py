"""Verify hits: compute a sample of them again, in the background, and compare.

A wrong entry is replaced. If there are too many, the model's entries are no longer served.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

from model_cache.binding import Bound
from model_cache.entries.codec import equals
from model_cache.entries.disagreement import (
    differing_fields,
    largest_difference,
    relative_difference,
)
from model_cache.errors import NotCacheableError
from model_cache.interruptions import reraise_interruption
from model_cache.observing.counters import Counters
from model_cache.observing.events import HitVerified, Hook, ServingStopped, WrongHit
from model_cache.observing.scope import bypass
from model_cache.options.config import Config
from model_cache.prediction.barrier import Barrier, Computation
from model_cache.prediction.call import Call
from model_cache.prediction.effects import Budget, Later, Predict, Steps
from model_cache.prediction.generation_steps import Records
from model_cache.prediction.look_up import LookUps
from model_cache.prediction.sampling import Sample
from model_cache.prediction.serving import Serving
from model_cache.prediction.veto import ModelCall, model_calls
from model_cache.prediction.writing import Write, Writing

MOST_VERIFIED = 100
"""How many hits may wait to be verified; further ones are left out, so that a model that takes long
falls behind by no more than this."""

# By which share of their size floats may differ if entries may come from batches, whose answers are
# rounded differently. Single precision has seven digits.
_ROUNDING = 1e-6

# Not the module's generator: a model may have seeded it.
_draw = random.SystemRandom().random


class _Found:
    """What was found about the hits of a binding.

    Attributes:
        verified: how many were verified.
        wrong: the wrong entries. Of one that is hit often, several hits may wait to be verified
            before it is replaced.
    """

    def __init__(self) -> None:
        self.verified = 0
        self.wrong: set[int] = set()


class Verifying:
    """Verifies hits of one decorator.

    Args:
        config: the decorator's options.
        serving: stops serving entries if too many are wrong.
        barrier: the process's barrier for the store.
        writing: replaces wrong entries.
        look_ups: finds entries in the near cache and in the store.
        counters: counts the verified hits.
        hook: receives wrong hits.
        watch: receives each verified hit; None if there are no user hooks.
        draw: returns a random number from 0 up to 1.

    Attributes:
        is_on: whether any hits are verified.
        serving: whether entries are served.
    """

    def __init__(
        self,
        *,
        config: Config,
        serving: Serving,
        barrier: Barrier,
        writing: Writing,
        look_ups: LookUps,
        counters: Counters,
        hook: Hook,
        watch: Hook | None = None,
        draw: Callable[[], float] = _draw,
    ) -> None:
        self.is_on = bool(config.verify or config.verify_first)
        self._config = config
        self.serving = serving
        self._barrier = barrier
        self._writing = writing
        self._look_ups = look_ups
        self._counters = counters
        self._hook = hook
        self._watch = watch
        self._draw = draw
        self._samples: WeakKeyDictionary[Bound, Sample] = WeakKeyDictionary()
        self._found: WeakKeyDictionary[Bound, _Found] = WeakKeyDictionary()

    def sample(self, binding: Bound) -> Sample:
        """Return which hits of a binding are verified."""
        found = self._samples.get(binding)
        if found is None:
            made = Sample(self._config.verify, self._config.verify_first, self._draw)
            found = self._samples.setdefault(binding, made)
        return found

    def later(self, calls: Iterable[Call]) -> Steps[None]:
        """Verify those calls in the background that are hits and that the sample takes."""
        for call in calls:
            if call.kind == "hit" and self.sample(call.binding).takes():
                yield from self.verify(call)

    def verify(self, call: Call) -> Steps[None]:
        """Verify a hit in the background."""
        if call.entry is not None:
            yield Later("verify", self._check(call, call.entry), len(call.entry))

    def _check(self, hit: Call, entry: bytes) -> Steps[None]:
        call, key = _again(hit, self._barrier)
        # A purge, or a refresh of the entry, overtakes this as it does a write.
        computation, model_call = self._barrier.begin(key, call.epoch), ModelCall(leads=False)
        try:
            prediction = yield from self._computed(call, computation, model_call)
            found = call.binding.codec.read(key, entry).prediction
            if None in (prediction, found) or not (
                model_call.may_be_stored and computation.is_valid
            ):
                return
            is_right = self._agree(call, found, prediction)
            if is_right is None or (not is_right and call.has_changed()):
                return
            self._count(call)
            if not is_right:
                self._wrong(call, key, entry, (found, prediction))
                if call.mode != "read_only":
                    yield from self._replace(call, computation, prediction, model_call)
        finally:
            self._barrier.end(computation)

    def _computed(
        self, call: Call, computation: Computation, model_call: ModelCall
    ) -> Steps[Any | None]:
        """Return what the model answers; None if it does not, which says nothing of the entry."""
        try:
            if not (computation.is_valid and call.binding.is_current()):
                return None
            with model_calls.raised(model_call), bypass():  # not by entries of models inside
                return (yield Predict(call.binding, call.data))
        except Exception as error:
            reraise_interruption(error)
            return None

    def _agree(self, call: Call, found: Any, prediction: Any) -> bool | None:
        """Return whether two predictions are the same; None if they can't be compared."""
        try:
            if equals(found, prediction):
                return True
        except NotCacheableError:
            return None
        tolerance = self._tolerance(call.binding)
        if not tolerance:
            return False
        values = (call.binding.value_of(call.data, each) for each in (found, prediction))
        return relative_difference(*values) <= tolerance

    def _tolerance(self, binding: Bound) -> float:
        config = self._config
        if config.verify_tolerance is not None:
            return config.verify_tolerance
        has_batches = binding.answers_many_by(("predict_many", "apredict_many"))
        return _ROUNDING if has_batches and config.batch_equality != "refuse" else 0.0

    def _so_far(self, binding: Bound) -> _Found:
        return self._found.setdefault(binding, _Found())

    def _count(self, call: Call) -> None:
        name, version = call.binding.qualified_name, call.binding.version
        self._counters.of(name, version).add(verified=1)
        self._so_far(call.binding).verified += 1
        if self._watch is not None:
            self._watch(HitVerified(name, version))

    def _wrong(self, call: Call, key: bytes, entry: bytes, both: tuple[Any, Any]) -> None:
        """Tell of a wrong hit; stop serving entries if it is one too many."""
        binding = call.binding
        name, version, so_far = binding.qualified_name, binding.version, self._so_far(binding)
        self._counters.of(name, version).add(wrong=1)
        found, prediction = (binding.value_of(call.data, each) for each in both)
        fields = differing_fields(found, prediction)
        size = float(f"{largest_difference(found, prediction):.3g}")
        self._hook(WrongHit(name, version, key.decode(), fields, size))
        limit = self._config.verify_limit
        if limit is None or self.serving.has_stopped(binding):
            return
        so_far.wrong.add(hash((key, entry)))
        if len(so_far.wrong) > limit:
            self.serving.stop(binding)
            # After a purge, it begins anew.
            self._found.pop(binding, None)
            self.sample(binding).start_over()
            self._hook(ServingStopped(name, version, len(so_far.wrong), so_far.verified))

    def _replace(
        self, call: Call, computation: Computation, prediction: Any, model_call: ModelCall
    ) -> Steps[None]:
        """Replace an entry, unless a purge or a refresh has overtaken the computation."""
        call.mode, budget, key = "refresh", Budget(self._config.timeout), computation.key
        assert call.generation is not None
        entry = self._writing.encode(call, key, prediction, model_call)
        if not computation.is_valid:
            return
        records = Records([key])  # the other processes drop the wrong entry, too
        self._look_ups.drop(call)
        if entry is None:
            yield from self._writing.discard(call.generation, [computation], budget, records)
            self._look_ups.refreshed(call)
            return
        write = Write(computation, entry, call.redis_ttl, call.seen)
        since = time.perf_counter()
        ((fate, _),) = yield from self._writing.store(
            call.binding, call.generation, [write], budget, renews=True, records=records
        )
        if fate == "stored":
            self._look_ups.stored(call, entry, since)
        elif fate == "write_failed":
            self._look_ups.refresh_failed(call)


def _again(hit: Call, barrier: Barrier) -> tuple[Call, bytes]:
    """Return a call that computes a hit anew, and its key."""
    binding = hit.binding
    key = hit.key
    if key is None:  # the near cache does without
        assert hit.near_key is not None
        key = binding.keys.key_of(hit.near_key.removeprefix(binding.near_prefix))
    call = Call(binding, hit.data, time.perf_counter())
    call.key, call.near_key, call.epoch, call.mode = key, hit.near_key, hit.epoch, hit.mode
    call.generation = hit.generation
    if hit.generation is not None:  # what is computed now counts as begun now
        call.seen = hit.generation.value
    call.changes, call.is_late = barrier.changes, True
    return call, key

"""Assemble the parts that predict for one model from its options."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from model_cache.binding import Current
from model_cache.lazy import lazy
from model_cache.observing.counters import Counters
from model_cache.observing.events import Hook
from model_cache.observing.hooks import telling
from model_cache.observing.outcome import Outcome
from model_cache.observing.scope import note
from model_cache.options.config import Config
from model_cache.prediction.adaptive import (
    AdaptivePredictor,
    AsyncAdaptivePredictor,
    DirectWay,
)
from model_cache.prediction.asynchronous import (
    AsyncCachedPredictor,
    AsyncDirectPredictor,
    AsyncPredictor,
)
from model_cache.prediction.backend import DisabledBackend, RedisBackend
from model_cache.prediction.calls import Calls
from model_cache.prediction.equality import BatchEquality
from model_cache.prediction.flow import Flow
from model_cache.prediction.gates import Gates
from model_cache.prediction.many import ManyFlow
from model_cache.prediction.near import NearCache
from model_cache.prediction.near_predictor import NearPredictor
from model_cache.prediction.recording import Recorder
from model_cache.prediction.recording_predictors import (
    AsyncRecordingPredictor,
    RecordingPredictor,
)
from model_cache.prediction.serving import Serving
from model_cache.prediction.single_entries import SingleEntries
from model_cache.prediction.single_flight import SingleFlight
from model_cache.prediction.sync import CachedPredictor, DirectPredictor, Predictor
from model_cache.prediction.tables import TableFlow
from model_cache.prediction.verifying import Verifying
from model_cache.prediction.writing import Writing


class Predictors(NamedTuple):
    """The predictors for one model, for threads and for event loops."""

    sync: Predictor
    asynchronous: AsyncPredictor


class _Observers(NamedTuple):
    """What is told of predictions.

    Attributes:
        counters: count the outcomes.
        hook: receives rare events.
        watch: calls the hooks of the options with each outcome, if there are any.
        gates: decide whether the cache is used, if it is adaptive.
    """

    counters: Counters
    hook: Hook
    watch: Hook | None
    gates: Gates | None

    def tell(self) -> Callable[[Outcome], None]:
        """Return a function that tells all of them of an outcome."""
        counters, _, watch, gates = self

        def tell(outcome: Outcome) -> None:
            counters.count(outcome)
            if gates is not None:
                gates.heard(outcome)
            if watch is not None:
                watch(outcome)
            note(outcome)

        return tell

    def counting_near_hits(self, model: str, version: str) -> Callable[[float], None]:
        """Return a function that counts a near hit of a model and version, by its time."""
        count = self.counters.of(model, version).near_hit
        if self.gates is None:
            return count
        hit = self.gates.of(model, version, batches=False).hit

        def both(seconds: float) -> None:
            count(seconds)
            hit(seconds)

        return both


def assembled(
    config: Config,
    backend: RedisBackend | DisabledBackend,
    current: Current,
    counters: Counters,
    hook: Hook,
) -> Predictors:
    """Return the predictors for a model without connecting to Redis.

    Args:
        config: the options.
        backend: where the entries are.
        current: holds the binding for new predictions.
        counters: counts the outcomes.
        hook: receives rare events.
    """
    watch = telling(config.hooks) if config.hooks else None
    gates = Gates(hook, random.Random().random) if config.adaptive else None
    observers = _Observers(counters, hook, watch, gates)
    tell = observers.tell()
    if isinstance(backend, DisabledBackend):
        made = Predictors(DirectPredictor(current, tell), AsyncDirectPredictor(current, tell))
    else:
        made = _Cached(config, backend, current, observers, tell).predictors()
        if gates is not None:
            way = DirectWay(current, gates, counters, watch, tell)
            made = Predictors(
                AdaptivePredictor(made.sync, way), AsyncAdaptivePredictor(made.asynchronous, way)
            )
    if config.record is None:
        return made
    recorder = Recorder(
        config.record, config.record_share, current, counters, hook, config.digest_secret
    )
    return Predictors(
        RecordingPredictor(made.sync, recorder),
        AsyncRecordingPredictor(made.asynchronous, recorder),
    )


@dataclass
class _Cached:
    """The parts of a cache, each of which is made once if several others need it."""

    config: Config
    backend: RedisBackend
    current: Current
    observers: _Observers
    tell: Callable[[Outcome], None]

    def predictors(self) -> Predictors:
        """Return a predictor for threads and one for event loops, which share their steps."""
        config, backend = self.config, self.backend
        if config.fleet_stats:
            backend.fleet.join(self.observers.counters, config.prefix)
        sync: Predictor = CachedPredictor(
            flow=self._flow,
            many=self._many("predict_many"),
            tables=self._tables,
            entries=self._entries,
            look_ups=backend.look_ups,
            store=backend.stores.sync,
            timeout=config.timeout,
            workers=backend.workers,
            tell=self.tell,
        )
        answer_nearby = None
        if backend.near is not None:
            sync = nearby = self._near(sync, backend.near)
            answer_nearby = nearby.answer
        asynchronous = AsyncCachedPredictor(
            flow=self._flow,
            many=self._many("apredict_many", "predict_many"),
            tables=self._tables,
            entries=self._entries,
            look_ups=backend.look_ups,
            store=backend.stores.asynchronous,
            timeout=config.timeout,
            tell=self.tell,
            near=answer_nearby,
        )
        return Predictors(sync, asynchronous)

    @lazy
    def _serving(self) -> Serving:
        return Serving(
            self.current,
            self.backend.barrier,
            self.backend.look_ups,
            self.observers.counters,
            self.config.timeout,
        )

    @lazy
    def _writing(self) -> Writing:
        counters, hook, watch, _ = self.observers
        return Writing(self.config, self.backend.barrier, counters, hook, watch)

    @lazy
    def _calls(self) -> Calls:
        return Calls(
            self.current,
            self.backend.barrier,
            self.backend.look_ups,
            self._serving,
            self.observers.hook,
            self.observers.gates,
        )

    @lazy
    def _verifying(self) -> Verifying:
        return Verifying(
            config=self.config,
            serving=self._serving,
            barrier=self.backend.barrier,
            writing=self._writing,
            look_ups=self.backend.look_ups,
            counters=self.observers.counters,
            hook=self.observers.hook,
            watch=self.observers.watch,
        )

    @lazy
    def _flow(self) -> Flow:
        return Flow(
            config=self.config,
            calls=self._calls,
            barrier=self.backend.barrier,
            flights=SingleFlight(self.config.single_flight),
            leases=self.backend.leases,
            writing=self._writing,
            look_ups=self.backend.look_ups,
            verifying=self._verifying,
            hook=self.observers.hook,
        )

    def _near(self, inner: Predictor, near: NearCache) -> NearPredictor:
        return NearPredictor(
            inner,
            current=self.current,
            near=near,
            look_ups=self.backend.look_ups,
            counting=self.observers.counting_near_hits,
            verifying=self._verifying,
            watch=self.observers.watch,
        )

    @lazy
    def _entries(self) -> SingleEntries:
        return SingleEntries(
            config=self.config,
            calls=self._calls,
            flow=self._flow,
            barrier=self.backend.barrier,
            writing=self._writing,
            look_ups=self.backend.look_ups,
        )

    def _many(self, *methods: str, isolates: bool = True) -> ManyFlow:
        return ManyFlow(
            flow=self._flow,
            look_ups=self.backend.look_ups,
            barrier=self.backend.barrier,
            writing=self._writing,
            equality=BatchEquality(self.config.batch_equality, methods),
            on_error=self.config.on_error,
            clock=time.perf_counter,
            timeout=self.config.timeout,
            isolates=isolates,
        )

    @lazy
    def _tables(self) -> TableFlow:
        return TableFlow(
            current=self.current,
            flow=self._flow,
            many=self._many(isolates=False),
            look_ups=self.backend.look_ups,
            barrier=self.backend.barrier,
            timeout=self.config.timeout,
            on_error=self.config.on_error,
            hook=self.observers.hook,
            tell=self.tell,
        )

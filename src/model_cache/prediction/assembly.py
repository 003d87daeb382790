"""Assemble the parts that predict for one model from its options."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import NamedTuple

from model_cache.binding import Current
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
    made = _assembled(config, backend, current, counters, hook)
    if config.record is None:
        return made
    recorder = Recorder(
        config.record, config.record_share, current, counters, hook, config.digest_secret
    )
    return Predictors(
        RecordingPredictor(made.sync, recorder),
        AsyncRecordingPredictor(made.asynchronous, recorder),
    )


def _assembled(
    config: Config,
    backend: RedisBackend | DisabledBackend,
    current: Current,
    counters: Counters,
    hook: Hook,
) -> Predictors:
    watch = telling(config.hooks) if config.hooks else None

    gates = Gates(hook, random.Random().random) if config.adaptive else None

    def tell(outcome: Outcome) -> None:
        counters.count(outcome)
        if gates is not None:
            gates.heard(outcome)
        if watch is not None:
            watch(outcome)
        note(outcome)

    if isinstance(backend, DisabledBackend):
        return Predictors(DirectPredictor(current, tell), AsyncDirectPredictor(current, tell))
    if config.fleet_stats:
        backend.fleet.join(counters, config.prefix)
    look_ups, barrier = backend.look_ups, backend.barrier
    writing = Writing(config, barrier, counters, hook, watch)
    serving = Serving(current, barrier, look_ups, counters, config.timeout)
    verifying = Verifying(
        config=config,
        serving=serving,
        barrier=barrier,
        writing=writing,
        look_ups=look_ups,
        counters=counters,
        hook=hook,
        watch=watch,
    )
    calls = Calls(current, barrier, look_ups, serving, hook, gates)
    flow = Flow(
        config=config,
        calls=calls,
        barrier=barrier,
        flights=SingleFlight(config.single_flight),
        leases=backend.leases,
        writing=writing,
        look_ups=look_ups,
        verifying=verifying,
        hook=hook,
    )
    entries = SingleEntries(
        config=config, calls=calls, flow=flow, barrier=barrier, writing=writing, look_ups=look_ups
    )

    def many(*methods: str, isolates: bool = True) -> ManyFlow:
        return ManyFlow(
            flow=flow,
            look_ups=look_ups,
            barrier=barrier,
            writing=writing,
            equality=BatchEquality(config.batch_equality, methods),
            on_error=config.on_error,
            clock=time.perf_counter,
            timeout=config.timeout,
            isolates=isolates,
        )

    tables = TableFlow(
        current=current,
        flow=flow,
        many=many(isolates=False),
        look_ups=look_ups,
        barrier=barrier,
        timeout=config.timeout,
        on_error=config.on_error,
        hook=hook,
        tell=tell,
    )
    predictor: Predictor = CachedPredictor(
        flow=flow,
        many=many("predict_many"),
        tables=tables,
        entries=entries,
        look_ups=look_ups,
        store=backend.stores.sync,
        timeout=config.timeout,
        workers=backend.workers,
        tell=tell,
    )
    answer_nearby = None
    if backend.near is not None:
        predictor = nearby = NearPredictor(
            predictor,
            current=current,
            near=backend.near,
            look_ups=look_ups,
            barrier=barrier,
            counting=_counting_near_hits(counters, gates),
            verifying=verifying,
            watch=watch,
        )
        answer_nearby = nearby.answer
    asynchronous: AsyncPredictor = AsyncCachedPredictor(
        flow=flow,
        many=many("apredict_many", "predict_many"),
        tables=tables,
        entries=entries,
        look_ups=look_ups,
        store=backend.stores.asynchronous,
        timeout=config.timeout,
        tell=tell,
        near=answer_nearby,
    )
    if gates is not None:
        way = DirectWay(current, gates, counters, watch, tell)
        predictor = AdaptivePredictor(predictor, way)
        asynchronous = AsyncAdaptivePredictor(asynchronous, way)
    return Predictors(predictor, asynchronous)


def _counting_near_hits(
    counters: Counters, gates: Gates | None
) -> Callable[[str, str], Callable[[float], None]]:
    def counting(model: str, version: str) -> Callable[[float], None]:
        count = counters.of(model, version).near_hit
        if gates is None:
            return count
        hit = gates.of(model, version, batches=False).hit

        def both(seconds: float) -> None:
            count(seconds)
            hit(seconds)

        return both

    return counting

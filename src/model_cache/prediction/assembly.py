"""Assemble the parts that predict for one model from its options."""

from __future__ import annotations

import time
from typing import NamedTuple

from model_cache.binding import Current
from model_cache.observing.counters import Counters
from model_cache.observing.events import Hook
from model_cache.observing.hooks import telling
from model_cache.observing.outcome import Outcome
from model_cache.observing.scope import innermost_scope, note
from model_cache.options.config import Config
from model_cache.prediction.asynchronous import (
    AsyncCachedPredictor,
    AsyncDirectPredictor,
    AsyncPredictor,
)
from model_cache.prediction.backend import DisabledBackend, RedisBackend
from model_cache.prediction.calls import Calls
from model_cache.prediction.equality import BatchEquality
from model_cache.prediction.flow import Flow
from model_cache.prediction.many import ManyFlow
from model_cache.prediction.near_predictor import NearPredictor
from model_cache.prediction.single_entries import SingleEntries
from model_cache.prediction.single_flight import SingleFlight
from model_cache.prediction.sync import CachedPredictor, DirectPredictor, Predictor
from model_cache.prediction.tables import TableFlow
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
    watch = telling(config.hooks) if config.hooks else None

    def tell(outcome: Outcome) -> None:
        counters.count(outcome)
        if watch is not None:
            watch(outcome)
        note(outcome, innermost_scope())

    if isinstance(backend, DisabledBackend):
        return Predictors(DirectPredictor(current, tell), AsyncDirectPredictor(current, tell))
    look_ups, barrier = backend.look_ups, backend.barrier
    writing = Writing(config, barrier, counters, hook, watch)
    calls = Calls(current, barrier, look_ups, hook)
    flow = Flow(
        config=config,
        calls=calls,
        barrier=barrier,
        flights=SingleFlight(config.single_flight),
        leases=backend.leases,
        writing=writing,
        look_ups=look_ups,
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
            counters=counters,
            watch=watch,
        )
        answer_nearby = nearby.answer
    asynchronous = AsyncCachedPredictor(
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
    return Predictors(predictor, asynchronous)

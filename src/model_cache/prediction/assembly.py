"""Assemble the parts of a decorator from its options."""

from __future__ import annotations

import time
from typing import NamedTuple

from model_cache.binding import CurrentBinding
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
from model_cache.prediction.background import BackgroundWriter
from model_cache.prediction.barrier import barrier_at
from model_cache.prediction.equality import BatchEquality
from model_cache.prediction.flow import Flow
from model_cache.prediction.lease import LeaseKeeper
from model_cache.prediction.look_up import LookUps
from model_cache.prediction.many import ManyFlow
from model_cache.prediction.near import NearCache
from model_cache.prediction.near_predictor import NearPredictor
from model_cache.prediction.single_flight import SingleFlight
from model_cache.prediction.sync import CachedPredictor, DirectPredictor, Predictor
from model_cache.prediction.writing import Writing
from model_cache.stores.opening import compose_both


class Predictors(NamedTuple):
    """The predictors of a decorator, for threads and for event loops."""

    sync: Predictor
    asynchronous: AsyncPredictor


def assembled(
    config: Config, current: CurrentBinding, counters: Counters, hook: Hook
) -> Predictors:
    """Return the predictors for a decorator without connecting to Redis.

    Args:
        config: the options.
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

    if not config.enabled:
        return Predictors(DirectPredictor(current, tell), AsyncDirectPredictor(current, tell))
    endpoint = config.endpoint
    stores = compose_both(
        endpoint,
        hook,
        timeout=config.timeout,
        max_connections=config.max_connections,
        max_connection_age=config.max_connection_age,
        credential_provider=config.credential_provider,
        address_map=config.address_map,
        expected_entries=config.expected_entries,
        longest_ttl=_longest_ttl(config),
    )
    place = "embedded" if endpoint.embedded else f"{endpoint}/{endpoint.database}"
    barrier = barrier_at(place)
    near = _near_cache(config)
    look_ups = LookUps(near, barrier, config.timeout)
    writing = Writing(config, barrier, counters, hook, watch)
    flow = Flow(
        config=config,
        current=current,
        barrier=barrier,
        flights=SingleFlight(config.single_flight),
        leases=LeaseKeeper(stores.sync),
        writing=writing,
        look_ups=look_ups,
        hook=hook,
    )
    background = {"write": config.write == "background"}
    background["revalidate"] = config.stale_while_revalidate is not None
    workers = {work: BackgroundWriter() for work, is_needed in background.items() if is_needed}

    def many(*methods: str) -> ManyFlow:
        return ManyFlow(
            flow=flow,
            look_ups=look_ups,
            barrier=barrier,
            writing=writing,
            equality=BatchEquality(config.batch_equality, methods),
            on_error=config.on_error,
            clock=time.perf_counter,
        )

    predictor: Predictor = CachedPredictor(
        flow=flow,
        many=many("predict_many"),
        look_ups=look_ups,
        store=stores.sync,
        timeout=config.timeout,
        barrier=barrier,
        workers=workers,
        tell=tell,
    )
    answer_nearby = None
    if near is not None:
        predictor = nearby = NearPredictor(
            predictor,
            current=current,
            near=near,
            look_ups=look_ups,
            barrier=barrier,
            counters=counters,
            watch=watch,
        )
        answer_nearby = nearby.answer
    asynchronous = AsyncCachedPredictor(
        flow=flow,
        many=many("apredict_many", "predict_many"),
        look_ups=look_ups,
        store=stores.asynchronous,
        timeout=config.timeout,
        tell=tell,
        near=answer_nearby,
    )
    return Predictors(predictor, asynchronous)


def _near_cache(config: Config) -> NearCache | None:
    if config.near_cache is None:
        return None
    return NearCache(config.near_cache, config.near_cache_bytes, config.near_ttl)


def _longest_ttl(config: Config) -> int | None:
    if config.ttl is None:
        return None
    return config.ttl + max(config.stale_if_error or 0, config.stale_while_revalidate or 0)

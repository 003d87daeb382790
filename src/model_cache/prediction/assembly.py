"""Puts the parts of a decorator together, by its options."""

from __future__ import annotations

from typing import NamedTuple

from model_cache.binding import CurrentBinding
from model_cache.observing.counters import Counters
from model_cache.observing.events import Hook
from model_cache.observing.hooks import telling
from model_cache.observing.outcome import Outcome
from model_cache.observing.scope import note
from model_cache.options.config import Config
from model_cache.prediction.asynchronous import (
    AsyncCachedPredictor,
    AsyncDirectPredictor,
    AsyncPredictor,
)
from model_cache.prediction.background import BackgroundWriter
from model_cache.prediction.barrier import barrier_at
from model_cache.prediction.flow import Flow
from model_cache.prediction.lease import LeaseKeeper
from model_cache.prediction.single_flight import SingleFlight
from model_cache.prediction.sync import CachedPredictor, DirectPredictor, Predictor
from model_cache.prediction.writing import Writing
from model_cache.stores.opening import compose_both


class Predictors(NamedTuple):
    """What answers the predictions of a decorator: in threads, and in event loops."""

    sync: Predictor
    asynchronous: AsyncPredictor


def assembled(
    config: Config, current: CurrentBinding, counters: Counters, hook: Hook
) -> Predictors:
    """Return what answers the predictions of a decorator; nothing is connected yet.

    Args:
        config: the options.
        current: the binding that predictions begin with.
        counters: count the outcomes.
        hook: hears of rare events.
    """
    watch = telling(config.hooks) if config.hooks else None

    def tell(outcome: Outcome) -> None:
        counters.count(outcome)
        if watch is not None:
            watch(outcome)
        note(outcome)

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
    )
    place = "embedded" if endpoint.embedded else f"{endpoint}/{endpoint.database}"
    barrier = barrier_at(place)
    flow = Flow(
        config=config,
        current=current,
        barrier=barrier,
        flights=SingleFlight(config.single_flight),
        leases=LeaseKeeper(stores.sync),
        writing=Writing(config, barrier, counters, hook, watch),
        hook=hook,
    )
    writer = BackgroundWriter() if config.write == "background" else None
    timeout = config.timeout
    return Predictors(
        CachedPredictor(
            flow=flow,
            store=stores.sync,
            timeout=timeout,
            barrier=barrier,
            writer=writer,
            tell=tell,
        ),
        AsyncCachedPredictor(flow=flow, store=stores.asynchronous, timeout=timeout, tell=tell),
    )

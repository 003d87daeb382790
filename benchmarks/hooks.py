"""The CPU time that hooks add to a hit, compared with a decorator without hooks.

Each hook is measured twice: in hits on a real server, where its cost is the difference of two much
larger numbers; and on its own, called with a hit's outcome, without the cost of the dispatch. The
Prometheus hook counts in memory, or, with PROMETHEUS_MULTIPROC_DIR set, in files. Spans are not
exported, and log lines go to the null device, which is unfair: processing them costs more than
creating them.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from opentelemetry.sdk.trace import TracerProvider

from benchmarks.cheap_model import CheapModel, inputs
from benchmarks.environment import environment, options, show
from benchmarks.tables import Table, Target
from benchmarks.timing import Variant, cpu_in_turn
from model_cache import RedisCachingDecorator, embedded_redis, last_outcome, refresh
from model_cache.integrations.opentelemetry import OpenTelemetryHook
from model_cache.integrations.prediction_log import PredictionLog
from model_cache.integrations.prometheus import PrometheusHook
from model_cache.observing.events import Hook

NONE, PROMETHEUS, IN_FILES = "no hook", "prometheus", "prometheus, in files"
LIMIT = 5.0
# One in every 256 hits counts all of them.
_AT_ONCE = 1024
_MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"


@dataclass(frozen=True)
class Cost:
    """Microseconds of CPU: a hit, the excess over a hit without hooks, and the hook alone."""

    hit: float
    beyond: float
    alone: float


def _hooks() -> dict[str, Hook]:
    if _MULTIPROCESS in os.environ:
        return {IN_FILES: PrometheusHook(), "logging, level off": PredictionLog()}
    logging.basicConfig(filename=os.devnull, level=logging.INFO)
    return {
        PROMETHEUS: PrometheusHook(),
        "opentelemetry, no SDK": OpenTelemetryHook(),
        "opentelemetry, SDK": OpenTelemetryHook(TracerProvider()),
        "logging": PredictionLog(),
    }


def measure(url: str, rounds: int, count: int) -> dict[str, Cost]:
    """Measure in this process; its environment decides where Prometheus counts."""
    known, hooks = inputs(count, random.Random(1)), _hooks()
    given = {NONE: [], **{name: [hook] for name, hook in hooks.items()}}
    decorators = {
        name: RedisCachingDecorator(url=url, timeout=5.0, hooks=hooks_).set_model(CheapModel())
        for name, hooks_ in given.items()
    }
    for decorator in decorators.values():
        with refresh():  # a miss first: without one, hits do not count as having saved time
            decorator.predict(known[0])
        for data in known:
            decorator.predict(data)
    before = {name: decorator.stats().hits for name, decorator in decorators.items()}
    hits = cpu_in_turn(
        *(Variant(name, one.predict, known * rounds) for name, one in decorators.items()),
        at_once=_AT_ONCE,
    )
    for name, decorator in decorators.items():
        if decorator.stats().hits - before[name] != len(known) * rounds:
            raise RuntimeError(f"not all predictions were hits: {name}")
    outcomes = [last_outcome()] * len(known) * rounds
    alone = cpu_in_turn(
        *(Variant(name, hook, outcomes) for name, hook in hooks.items()), at_once=_AT_ONCE
    )
    return {name: Cost(hit, hit - hits[NONE], alone.get(name, 0.0)) for name, hit in hits.items()}


def measure_both(url: str, rounds: int, count: int) -> dict[str, Cost]:
    """Measure in two processes; the second one counts in files."""
    costs: dict[str, Cost] = {}
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        for environment_ in ({}, {_MULTIPROCESS: folder}):
            os.environ.update(environment_)
            with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                costs = {**pool.submit(measure, url, rounds, count).result(), **costs}
        del os.environ[_MULTIPROCESS]
    return costs


def main() -> None:
    chosen = options("hooks", __doc__, rounds=40, count=1_024)
    with embedded_redis(tcp=True) as url:
        found = environment(url, "prometheus-client", "opentelemetry-sdk")
        costs = measure_both(url, chosen.rounds, chosen.count)
    columns = {"a hit": ".2f", "beyond no hook": ".2f", "the hook alone": ".2f"}
    table = Table("µs of CPU", "", columns)
    for name, cost in costs.items():
        table.add(name, cost.hit, cost.beyond, cost.alone)
    targets = [
        Target(f"{name}: µs beyond no hook", costs[name].beyond, LIMIT)
        for name in (PROMETHEUS, IN_FILES)
    ]
    show(chosen, __doc__, found, [table], targets=targets, costs=costs)


if __name__ == "__main__":
    main()

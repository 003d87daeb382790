"""What `adaptive` costs if inputs don't repeat, and how soon the cache resumes if they do.

The model takes 100 µs of CPU. The first table compares the time per call through the decorator with
that of the model alone. Groups of calls, which have their share of lookups, take turns, and all
inputs are different. The second table is the time from the moment at which a few inputs begin to
repeat, until the cache resumes, and until nearly all calls are hits. There is a near cache, since a
hit in Redis takes nearly as long as this model.

Redis is on this machine, which is unfair to a cache elsewhere: if Redis is slower, fewer calls are
looked up, and the cache resumes later. The same is true of a busy machine.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from benchmarks.cheap_model import CheapModel, inputs
from benchmarks.environment import environment, options, show
from benchmarks.tables import Table, Target
from model_cache import RedisCachingDecorator, embedded_redis, last_outcome

MODEL_SECONDS = 100e-6
_GROUP = 2000


class SteadyModel(CheapModel):
    """A model that takes 100 µs of CPU."""

    qualified_name = "steady_model"

    def predict(self, data: Any) -> Any:
        until = time.thread_time() + MODEL_SECONDS
        prediction = super().predict(data)
        while time.thread_time() < until:
            pass
        return prediction


def _seconds(call: Callable[[Any], object], given: Sequence[Any]) -> tuple[float, float]:
    """Return the wall time and this process's CPU time of calls."""
    began, cpu = time.perf_counter(), time.process_time()
    for data in given:
        call(data)
    return time.perf_counter() - began, time.process_time() - cpu


def overhead(
    cached: RedisCachingDecorator, alone: SteadyModel, groups: int
) -> tuple[list[float], list[float]]:
    """Return what the decorator adds to the model's time, as a share of it, for each group.

    In wall time, which includes waiting for Redis, and in CPU time, which other load affects less.
    """
    rng = random.Random(1)
    walls, cpus = [], []
    for _ in range(groups):
        given = inputs(_GROUP, rng)
        before = _seconds(alone.predict, given)
        wall, cpu = _seconds(cached.predict, given)
        after = _seconds(alone.predict, given)
        walls.append(2 * wall / (before[0] + after[0]) - 1)
        cpus.append(2 * cpu / (before[1] + after[1]) - 1)
    return walls, cpus


def pause(cached: RedisCachingDecorator) -> int:
    """Predict different inputs until the cache is paused; return how many it took."""
    rng = random.Random(2)
    for number in range(1, 100_000):
        cached.predict(inputs(1, rng)[0])
        if cached.stats().direct > 100:
            return number
    raise SystemExit("the cache was not paused")


def recovery(cached: RedisCachingDecorator, distinct: int) -> tuple[float, float]:
    """Return the seconds until the last direct prediction, and until 99 of 100 calls are hits."""
    rng = random.Random(3)
    repeating = inputs(distinct, rng)
    kinds: deque[str] = deque(maxlen=1000)
    began, used = time.perf_counter(), 0.0
    while time.perf_counter() - began < 120:
        cached.predict(rng.choice(repeating))
        outcome, now = last_outcome(), time.perf_counter() - began
        kinds.append("" if outcome is None else outcome.kind)
        if kinds[-1] == "direct":
            used = now
        if len(kinds) == 1000 and kinds.count("hit") >= 990:
            return used, now
    raise SystemExit("the cache did not come back")


def main() -> None:
    chosen = options("adaptive", __doc__, rounds=20, count=10_000)
    recoveries = {}
    with embedded_redis() as url:
        found = environment(url)
        with adaptive(url, "different") as cached:
            calls, before = pause(cached), cached.stats()
            walls, cpus = overhead(cached, SteadyModel(), chosen.rounds)
            looked_up = (cached.stats().misses - before.misses) / (chosen.rounds * _GROUP)
        for distinct in (10, 1_000, 10_000):
            if distinct <= chosen.count:
                with adaptive(url, f"of {distinct}") as cached:
                    pause(cached)
                    recoveries[f"{distinct:,}"] = recovery(cached, distinct)
    added = Table("Inputs that never repeat", "", {"measured": ""})
    added.add("calls until the cache is paused", f"{calls:,}")
    added.add("then: wall time beyond the model", f"{median(walls):+.1%}")
    added.add("then: CPU time beyond the model", f"{median(cpus):+.1%}")
    added.add("then: calls that are looked up", f"{looked_up:.2%}")
    columns = {"used again after, s": ".1f", "99% hits after, s": ".1f"}
    back = Table("Then inputs that repeat", "different inputs", columns)
    for name, (used, hits) in recoveries.items():
        back.add(name, used, hits)
    targets = [Target("never repeating: % of CPU beyond the model", 100 * median(cpus), 3.0)]
    results = {"walls": walls, "cpus": cpus, "looked_up": looked_up, "recoveries": recoveries}
    show(chosen, __doc__, found, [added, back], targets=targets, **results)


def adaptive(url: str, prefix: str) -> RedisCachingDecorator:
    decorator = RedisCachingDecorator(url=url, prefix=prefix, adaptive=True, near_cache=20_000)
    return decorator.set_model(SteadyModel())


if __name__ == "__main__":
    main()

"""What a hit costs in an event loop, one at a time and many at once.

The baseline is redis-py's asyncio client: its GET and pydantic's `model_validate_json`, both bare.
It gets its key for free and checks nothing, which is unfair to the library. As its documentation
shows, it uses one connection for each concurrent request, and these are open already.

Each round starts the tasks together with `asyncio.gather`, and waits for all of them. The tasks
themselves are part of the cost of each variant: "nothing" is a coroutine that returns at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import redis
import redis.asyncio

from benchmarks.cheap_model import CheapModel, inputs
from benchmarks.environment import environment, options, show
from benchmarks.tables import Table, Target
from examples.insurance_charges.schemas import InsuranceChargesModelOutput
from model_cache import RedisCachingDecorator, embedded_redis

OURS, BARE, NOTHING = "model_cache", "redis.asyncio, bare", "nothing"
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
with contextlib.suppress(ImportError):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop
AT_ONCE = (1, 10, 100)
MOST = 0.25
"""Of the baseline's CPU, 100 at once."""


@dataclass(frozen=True)
class Cost:
    """Microseconds a hit, the median over rounds."""

    loop: str
    at_once: int
    name: str
    wall: float
    cpu: float


Variant = tuple[str, Callable[[Any], Awaitable[object]], Sequence[Any]]


async def measured(loop: str, url: str, rounds: int, count: int) -> list[Cost]:
    """Time the variants in turn, in the running loop."""
    known = inputs(max(AT_ONCE), random.Random(1))
    # Long, so that no time-out of a busy machine is measured.
    cache = RedisCachingDecorator(url=url, prefix="async", timeout=5.0).set_model(CheapModel())
    client: Any = redis.asyncio.Redis.from_url(url)
    validate = InsuranceChargesModelOutput.model_validate_json

    async def bare(key: str) -> object:
        return validate(await client.get(key))

    async def nothing(_: object) -> None:
        return None

    await asyncio.gather(*map(cache.apredict, known))
    keys = [cache.cache_key(data) for data in known]
    await asyncio.gather(*map(bare, keys))
    before, expected = cache.stats().hits, 0
    variants: list[Variant] = [
        (OURS, cache.apredict, known),
        (BARE, bare, keys),
        (NOTHING, nothing, keys),
    ]
    costs = []
    gc.collect()
    gc.disable()
    try:
        for at_once in AT_ONCE:
            turns = max(1, count // at_once)
            expected += rounds * turns * at_once
            costs += await _in_turn(loop, variants, at_once, rounds, turns)
    finally:
        gc.enable()
    if cache.stats().hits - before != expected:
        raise RuntimeError(f"{cache.stats().hits - before} of {expected} calls were hits")
    await client.aclose()
    await cache.aclose()
    return costs


async def _in_turn(
    loop: str, variants: list[Variant], at_once: int, rounds: int, turns: int
) -> list[Cost]:
    walls: dict[str, list[float]] = {name: [] for name, _, _ in variants}
    cpus: dict[str, list[float]] = {name: [] for name, _, _ in variants}
    for round_ in range(rounds):
        start = round_ % len(variants)
        for name, call, items in [*variants[start:], *variants[:start]]:
            some = items[:at_once]
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(turns):
                await asyncio.gather(*map(call, some))
            calls = turns * at_once
            cpus[name].append((time.process_time() - cpu) / calls)
            walls[name].append((time.perf_counter() - wall) / calls)
    return [
        Cost(loop, at_once, name, 1e6 * median(walls[name]), 1e6 * median(cpus[name]))
        for name in walls
    ]


def ratios(costs: Sequence[Cost]) -> dict[tuple[str, int], float]:
    """Return our CPU as a share of the baseline's, by loop and number at once."""
    by = {(one.loop, one.at_once, one.name): one.cpu for one in costs}
    return {
        (loop, at_once): cpu / by[loop, at_once, BARE]
        for (loop, at_once, name), cpu in by.items()
        if name == OURS
    }


def main() -> None:
    chosen = options("asynchronous", __doc__, rounds=20, count=1_000)
    costs: list[Cost] = []
    with embedded_redis(tcp=True) as url:
        found = environment(url, "uvloop")
        for loop, make in LOOPS.items():
            with asyncio.Runner(loop_factory=make) as runner:
                costs += runner.run(measured(loop, url, chosen.rounds, chosen.count))
    compared = ratios(costs)
    columns = {"at once": "", "wall": ".1f", "CPU": ".1f", "CPU / redis.asyncio's": ".2f"}
    table = Table("µs a hit", "", columns)
    charts: dict[str, dict[str, float]] = {}
    for one in costs:
        ratio = compared[one.loop, one.at_once] if one.name == OURS else None
        table.add(f"{one.loop}: {one.name}", str(one.at_once), one.wall, one.cpu, ratio)
        title = f"{one.loop}, {one.at_once} at once: µs of CPU a hit"
        charts.setdefault(title, {})[one.name] = one.cpu
    most = max(AT_ONCE)
    target = Target(
        f"asyncio, {most} at once: CPU / redis.asyncio's", compared["asyncio", most], MOST
    )
    show(chosen, __doc__, found, [table], targets=[target], charts=charts, costs=costs)


if __name__ == "__main__":
    main()

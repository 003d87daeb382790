"""The cost of `predict_many`: batches of hits and misses, compared with single predictions.

A batch of hits is compared with the same number of `predict` calls, and its CPU time with a bare
`model_validate_json` of the same entries. The bare decode is unfair to the library: it has its
entries already, and no round trip. For the misses, the model answers at once and has no
`predict_many`; its own time is included.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import redis

from benchmarks.cheap_model import CheapModel, inputs
from benchmarks.environment import environment, options, show
from benchmarks.tables import Table, Target
from benchmarks.timing import Measured, Variant, in_turn
from examples.insurance_charges.schemas import InsuranceChargesModelOutput
from model_cache import RedisCachingDecorator, embedded_redis

BATCH, SINGLE, BARE, MISSES = "predict_many", "predict", "model_validate_json", "misses"


@dataclass(frozen=True)
class Results:
    """Microseconds a batch, by variant.

    Attributes:
        batches: the timings.
        size: the number of rows in a batch.
    """

    batches: dict[str, Measured]
    size: int

    def targets(self) -> list[Target]:
        hits, single, bare = (self.batches[name] for name in (BATCH, SINGLE, BARE))
        return [
            Target("hits: wall / as many predict", hits.wall / single.wall, 0.08),
            Target("hits: CPU / model_validate_json", hits.cpu / bare.cpu, 9.0),
            Target("misses: µs of CPU a row", self.batches[MISSES].cpu / self.size, 40.0),
        ]


def measure(url: str, rounds: int, size: int) -> Results:
    rng, model = random.Random(1), CheapModel()
    cache = RedisCachingDecorator(url=url, prefix="batch", timeout=5.0).set_model(model)
    known = inputs(size, rng)
    cache.predict_many(known)
    client: Any = redis.Redis.from_url(url)
    entries = client.mget([cache.cache_key(data) for data in known])
    validate = InsuranceChargesModelOutput.model_validate_json

    def single(batch: list[Any]) -> None:
        for data in batch:
            cache.predict(data)

    def bare(batch: list[bytes]) -> None:
        for entry in batch:
            validate(entry)

    before = cache.stats()
    batches = in_turn(
        Variant(BATCH, cache.predict_many, [known] * rounds),
        Variant(SINGLE, single, [known] * rounds),
        Variant(BARE, bare, [entries] * rounds),
        Variant(MISSES, cache.predict_many, [inputs(size, rng) for _ in range(rounds)]),
        at_once=1,
    )
    after = cache.stats()
    if (after.hits - before.hits, after.stored - before.stored) != (
        2 * rounds * size,
        rounds * size,
    ):
        raise RuntimeError("some predictions were not the hits or misses to measure")
    return Results(batches, size)


def main() -> None:
    chosen = options("batch", __doc__, rounds=25, count=1_000)
    with embedded_redis(tcp=True) as url:
        found = environment(url)
        results = measure(url, chosen.rounds, chosen.count)
    table = Table(f"Batches of {chosen.count:,}, µs a row", "", {"wall": ".2f", "CPU": ".2f"})
    for name, one in results.batches.items():
        table.add(name, one.wall / results.size, one.cpu / results.size)
    show(chosen, __doc__, found, [table], targets=results.targets(), **vars(results))


if __name__ == "__main__":
    main()

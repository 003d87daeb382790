"""The wall time of a hit among a thousand, ten thousand, a hundred thousand and a million entries.

One server holds all of them, each number in a database of its own. The entries are real:
`predict_many` stores them. Hits on each take turns with a bare `GET` by redis-py of the same
entries, spread over the whole database. That is unfair to the library: the `GET` gets its key for
free and decodes nothing.

The server finds an entry in a hash table, so the number of steps does not depend on how many there
are. What grows is the chance that the entry is not in the CPU's caches. The last row is the growth
by least squares. The bytes are the server's memory for an entry; in the first row, they include
buffers.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import linear_regression
from typing import Any

import redis

from benchmarks.cheap_model import CheapModel, inputs
from benchmarks.environment import environment, options, show
from benchmarks.tables import Table
from benchmarks.timing import Variant, in_turn
from examples.insurance_charges.schemas import InsuranceChargesModelInput
from model_cache import RedisCachingDecorator, embedded_redis

LEAST = 100
_ASKED = 1_000
_AT_ONCE = 1_000


@dataclass(frozen=True)
class Row:
    """The hits among a number of entries.

    Attributes:
        entries: how many there are.
        memory: the server's bytes an entry.
        wall: microseconds a hit, the median.
        p95: the 95th percentile.
        bare: the median for redis-py's GET, which decodes nothing.
    """

    entries: int
    memory: float
    wall: float
    p95: float
    bare: float


class Filled:
    """A database with a number of entries, and some of their inputs.

    Args:
        url: the database.
        entries: how many it gets.
    """

    def __init__(self, url: str, entries: int) -> None:
        self.entries = entries
        self._client: Any = redis.Redis.from_url(url)
        # Without fleet statistics, which add a key after some seconds.
        cache = RedisCachingDecorator(url=url, timeout=5.0, fleet_stats=False)
        self._cache = cache.set_model(CheapModel())
        self._cache.predict(inputs(1, random.Random(0))[0])  # connects
        self._sample: list[InsuranceChargesModelInput] = []
        before = self._used()
        for _ in self._cache.predict_many(self._inputs()):
            pass
        self.memory = (self._used() - before) / entries
        keys = self._client.dbsize() - 1  # besides the generation of the namespace
        if keys != entries + 1:
            raise RuntimeError(f"{keys:,} entries instead of {entries + 1:,}")

    def _inputs(self) -> Iterator[InsuranceChargesModelInput]:
        rng, step = random.Random(1), max(1, self.entries // _ASKED)
        for first in range(0, self.entries, _AT_ONCE):
            made = inputs(min(_AT_ONCE, self.entries - first), rng)
            self._sample += made[-first % step :: step]
            yield from made

    def _used(self) -> int:
        memory = self._client.info("memory")
        used: int = memory["used_memory"] - memory["mem_clients_normal"]  # without their buffers
        return used

    @property
    def hits(self) -> int:
        return self._cache.stats().hits

    def variants(self, rounds: int) -> list[Variant]:
        sample = list(self._sample)
        random.Random(2).shuffle(sample)
        sample = sample[: LEAST if self.entries < _ASKED else _ASKED]
        keys = [self._cache.cache_key(data) for data in sample]
        return [
            Variant(f"hit {self.entries}", self._cache.predict, sample * rounds),
            Variant(f"bare {self.entries}", self._client.get, keys * rounds),
        ]


def sizes(most: int) -> list[int]:
    """Return the powers of ten from 1,000, or from `LEAST` for a short run, up to `most`."""
    first = 3 if most >= 1_000 else 2
    return [10**power for power in range(first, int(math.log10(most) + 1e-9) + 1)]


def measure(url: str, rounds: int, most: int) -> list[Row]:
    base = url.rpartition("/")[0]
    filled = [Filled(f"{base}/{number}", size) for number, size in enumerate(sizes(most))]
    before = [one.hits for one in filled]
    variants = [variant for one in filled for variant in one.variants(rounds)]
    measured = in_turn(*variants)
    for one, hits in zip(filled, before, strict=True):
        if one.hits - hits != len(variants[0].inputs):
            raise RuntimeError(f"not all were hits among {one.entries:,}")
    rows = []
    for one in filled:
        hit, bare = measured[f"hit {one.entries}"], measured[f"bare {one.entries}"]
        rows.append(Row(one.entries, one.memory, hit.wall, hit.p95, bare.wall))
    return rows


def growth(rows: list[Row]) -> float:
    """Return the microseconds that ten times as many entries add to a hit, by least squares."""
    if len(rows) < 2:
        return 0.0
    return linear_regression(
        [math.log10(row.entries) for row in rows], [row.wall for row in rows]
    ).slope


def main() -> None:
    chosen = options("flat", __doc__, rounds=5, count=1_000_000)
    with embedded_redis(tcp=True) as url:
        found = environment(url)
        rows = measure(url, chosen.rounds, max(chosen.count, LEAST))
    columns = {"wall, median": ".1f", "p95": ".1f", "bare GET": ".1f"}
    table = Table("µs a hit", "entries", {**columns, "hit / GET": ".2f", "bytes each": ".0f"})
    for row in rows:
        times = (row.wall, row.p95, row.bare)
        table.add(f"{row.entries:,}", *times, row.wall / row.bare, row.memory)
    table.add("ten times as many: beyond", f"{growth(rows):+.1f}", *[None] * 4)
    show(chosen, __doc__, found, [table], rows=rows, growth=growth(rows))


if __name__ == "__main__":
    main()

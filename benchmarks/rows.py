"""The cost of rows from the cache: `wrap` around an estimator, `memoize` around a function.

A DataFrame of eight mixed columns goes through a wrapped estimator that answers at once: hits from
Redis, hits from the near cache, and misses. It is compared with redis-py's own `MGET` of the same
keys, a thousand at a time. That is unfair to the library: `MGET` gets its keys for free and decodes
nothing.

Then a DataFrame and an array of one row, and a call with three arguments, go through functions that
answer at once, too. A near hit of a memoized function is compared with one of `predict`. For the
last figure, the model takes a millisecond a row, and three rows of ten are duplicates.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import redis

from benchmarks.cheap_model import CheapModel, inputs
from benchmarks.environment import environment, options, show
from benchmarks.tables import Table, Target
from benchmarks.timing import Measured, Variant, cpu_in_turn, in_turn
from model_cache import Cache, embedded_redis

HITS, NEAR, MGET, MISSES = "hits", "near hits", "redis-py's MGET", "misses"
MEMOIZED, PREDICTED = "memoize, near hit", "predict, near hit"
_CHUNK = 1_000
_SLOW_ROWS = 2_000


class Answering:
    """An estimator that answers at once."""

    def __init__(self) -> None:
        self.weight = 250.0

    def predict(self, X: pd.DataFrame) -> np.ndarray:  # noqa: N803 - scikit-learn's name
        charges: np.ndarray = (X["age"] * self.weight + X["bmi"]).to_numpy()
        return charges


class Slow(Answering):
    """An estimator that takes a millisecond for each row, and adds up its time."""

    spent = 0.0

    def predict(self, X: pd.DataFrame) -> np.ndarray:  # noqa: N803
        began = time.perf_counter()
        time.sleep(0.001 * len(X))
        charges = super().predict(X)
        type(self).spent += time.perf_counter() - began
        return charges


@dataclass(frozen=True)
class Results:
    """The timings.

    Attributes:
        rows: the tables, by variant, in microseconds a row.
        single: calls with one row, and calls of a function, by variant, in microseconds.
        calls: single near hits, by variant, in microseconds of CPU.
        slow: the first call's time with the slow model, as a multiple of the model's own.
    """

    rows: dict[str, Measured]
    single: dict[str, Measured]
    calls: dict[str, float]
    slow: float

    def targets(self) -> list[Target]:
        rows, calls = self.rows, self.calls
        return [
            Target("hits: wall / MGET", rows[HITS].wall / rows[MGET].wall, 3.0),
            Target("near hits: wall / MGET", rows[NEAR].wall / rows[MGET].wall, 2.0),
            Target("misses: µs of CPU a row", rows[MISSES].cpu, 45.0),
            Target("memoize / predict, near hit", calls[MEMOIZED] / calls[PREDICTED], 1.5),
            Target("30 % duplicates, 1 ms a row: wall / model", self.slow, 1.03),
        ]


def frame(size: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return a table of eight mixed columns."""
    began = pd.Timestamp("2026-01-01")
    return pd.DataFrame(
        {
            "age": rng.integers(18, 65, size),
            "bmi": rng.normal(30.0, 6.0, size),
            "children": rng.integers(0, 6, size),
            "smoker": rng.random(size) < 0.2,
            "sex": rng.choice(["male", "female"], size),
            "region": pd.Categorical(rng.choice(["ne", "nw", "se", "sw"], size)),
            "score": rng.normal(size=size).astype("float32"),
            "since": began + pd.to_timedelta(rng.integers(0, 10**7, size), unit="s"),
        }
    )


def measure_rows(url: str, rounds: int, size: int) -> dict[str, Measured]:
    rng, client = np.random.default_rng(1), redis.Redis.from_url(url)
    stored = Cache(url, timeout=5.0).wrap(Answering(), name="stored", version="1")
    nearby = Cache(url, timeout=5.0, near_cache=2 * size, near_cache_bytes=2**30).wrap(
        Answering(), name="nearby", version="1"
    )
    known = frame(size, rng)
    for cached in (stored, nearby):
        cached.predict(known)
    keys = [key.encode() for key in stored.predict.cache_keys(known)]  # type: ignore[attr-defined]
    chunks = [keys[start : start + _CHUNK] for start in range(0, size, _CHUNK)]

    def mget(batch: list[list[bytes]]) -> None:
        for chunk in batch:
            client.mget(chunk)

    measured = in_turn(
        Variant(HITS, stored.predict, [known] * rounds),
        Variant(NEAR, nearby.predict, [known] * rounds),
        Variant(MGET, mget, [chunks] * rounds),
        Variant(MISSES, stored.predict, [frame(size, rng) for _ in range(rounds)]),
        at_once=1,
    )
    return {
        name: Measured(one.wall / size, one.p95 / size, one.cpu / size)
        for name, one in measured.items()
    }


def measure_single(url: str, rounds: int) -> dict[str, Measured]:
    rng, count = np.random.default_rng(3), rounds * 100
    stored, nearby = Cache(url, timeout=5.0), Cache(url, timeout=5.0, near_cache=1_000)
    variants: list[Variant] = []
    for kind, cache in (("hit", stored), ("near hit", nearby), ("miss", stored)):
        distinct = count if kind == "miss" else 1
        estimator = cache.wrap(Answering(), name="single", version="1")
        array = cache.memoize_rows(version="1", name="single_array")(_first_column)
        function = cache.memoize(version="1", name="single_call")(_charges)
        call = partial(function, bmi=27.5, smoker=False)
        frames, arrays = ([make(1, rng) for _ in range(distinct)] for make in (frame, _array))
        ages = rng.integers(0, 2**40, distinct).tolist()
        trials: list[tuple[str, Callable[[Any], object], list[Any]]] = [
            ("frame of one row", estimator.predict, frames),
            ("array of one row", array, arrays),
            ("function", call, ages),
        ]
        for name, cached, given in trials:
            if kind != "miss":
                cached(given[0])
            variants.append(Variant(f"{name}, {kind}", cached, given * (count // distinct)))
    return in_turn(*variants)


def _array(size: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(size, 8))


def _first_column(rows: np.ndarray) -> np.ndarray:
    column: np.ndarray = rows[:, 0]
    return column


def _charges(age: int, bmi: float, smoker: bool) -> float:
    return age * bmi + smoker


def measure_calls(url: str, rounds: int) -> dict[str, float]:
    cache = Cache(url, near_cache=1_000)
    model = cache.model(CheapModel())
    (known,) = inputs(1, random.Random(1))

    @cache.memoize(version="1")
    def charges(age: int, bmi: float, children: int, smoker: bool) -> float:
        return age * bmi + children + smoker

    def call(age: int) -> float:
        return charges(age, 27.5, 2, smoker=False)

    model.predict(known)
    call(40)
    return cpu_in_turn(
        Variant(MEMOIZED, call, [40] * rounds * 1_000),
        Variant(PREDICTED, model.predict, [known] * rounds * 1_000),
        at_once=1_000,
    )


def measure_slow(url: str, rounds: int) -> float:
    """Return the median of first calls, as multiples of the model's own time."""
    rng, ratios = np.random.default_rng(2), []
    for number in range(rounds):
        distinct = frame(int(_SLOW_ROWS * 0.7), rng)
        rows = pd.concat([distinct, distinct.sample(_SLOW_ROWS - len(distinct), random_state=1)])
        cached = Cache(url, batch_equality="ignore").wrap(
            Slow(), name="slow", version=str(number), revision="1"
        )
        Slow.spent, began = 0.0, time.perf_counter()
        cached.predict(rows.reset_index(drop=True))
        ratios.append((time.perf_counter() - began) / Slow.spent)
    return sorted(ratios)[len(ratios) // 2]


def main() -> None:
    chosen = options("rows", __doc__, rounds=5, count=100_000)
    with embedded_redis(tcp=True) as url:
        found = environment(url)
        results = Results(
            measure_rows(url, chosen.rounds, chosen.count),
            measure_single(url, chosen.rounds),
            measure_calls(url, chosen.rounds),
            measure_slow(url, min(3, chosen.rounds)),
        )
    of_rows = Table(f"Tables of {chosen.count:,} rows, µs a row", "", {"wall": ".2f", "CPU": ".2f"})
    for name, one in results.rows.items():
        of_rows.add(name, one.wall, one.cpu)
    calls = Table("Single calls, µs", "", {"wall": ".1f", "CPU": ".1f"})
    for name, one in results.single.items():
        calls.add(name, one.wall, one.cpu)
    for name, cpu in results.calls.items():
        calls.add(name, None, cpu)
    show(chosen, __doc__, found, [of_rows, calls], targets=results.targets(), **vars(results))


if __name__ == "__main__":
    main()

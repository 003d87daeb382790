"""How type checkers see what a cache wraps; nothing here is run.

`make types` and `tests/docs/test_types.py` check it. An error that is expected here has a comment,
and a comment without an error is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

from model_cache import (
    Cache,
    CacheInfo,
    Explanation,
    Memoized,
    MemoizedRows,
    RedisCachingDecorator,
    Stats,
)

cache = Cache("redis://localhost:6379/0", ttl=60, near_cache=1_000)
Cache("redis://localhost:6379/0", tll=60)  # type: ignore[call-arg]
Cache(ttl=[60])  # type: ignore[arg-type]


@cache.memoize(version="1", ttl=30)
def charges(age: int, bmi: float = 25.0, *, smoker: bool = False) -> float:
    return age * bmi + smoker


def a_function() -> None:
    assert_type(charges(42), float)
    assert_type(charges(age=42, bmi=24.0, smoker=True), float)
    assert_type(charges.cache_key(42, smoker=True), str)
    assert_type(charges.cache_info(), CacheInfo)
    assert_type(charges.cache_clear(), int)
    assert_type(charges.forget(42, smoker=True), bool)
    assert_type(charges.stats(), Stats)
    assert_type(charges.explain(42).key, str | None)
    assert_type(charges.explain(42).compared_to(42, 24.0, smoker=True), Explanation)
    assert_type(charges.__wrapped__(42), float)
    charges("42")  # type: ignore[arg-type]
    charges()  # type: ignore[call-arg]
    charges(42, 24.0, True)  # type: ignore[call-arg]
    charges(42, smokes=True)  # type: ignore[call-arg]
    charges.cache_key("42")  # type: ignore[arg-type]
    charges.explain("42")  # type: ignore[arg-type]
    charges.explain(42).compared_to(42, smokes=True)  # type: ignore[call-arg]
    annotated: Callable[[int, float], float] = charges
    wrong: Memoized[[str], float] = charges  # type: ignore[assignment]
    del annotated, wrong


@cache.memoize(version="1")
async def acharges(age: int) -> float:
    return 250.0 * age


async def a_coroutine_function() -> None:
    assert_type(await acharges(42), float)
    assert_type(acharges.cache_key(42), str)
    assert_type(await acharges.aforget(42), bool)
    assert_type(await acharges.acache_clear(), int)
    assert_type(await cache.apurge(), int)
    assert_type(await cache.aping(), float)
    await acharges("42")  # type: ignore[arg-type]


class Tariff:
    @cache.memoize(version="1", ignored=["self"])
    def base(self, age: int) -> float:
        return 250.0 * age

    @cache.memoize(version="1", ignored=["self"])
    async def abase(self, age: int) -> float:
        return 250.0 * age

    @cache.memoize_rows(version="1", ignored=["self"])
    def bases(self, ages: list[int]) -> list[float]:
        return [250.0 * age for age in ages]

    @staticmethod
    @cache.memoize(version="1")
    def fixed(age: int) -> float:
        return 250.0 * age


async def a_method() -> None:
    assert_type(Tariff().base(42), float)
    assert_type(await Tariff().abase(42), float)
    assert_type(Tariff().bases([42]), list[float])
    assert_type(Tariff().base.cache_info(), CacheInfo)
    assert_type(Tariff.base(Tariff(), 42), float)
    assert_type(Tariff.fixed(42), float)
    Tariff.fixed("42")  # type: ignore[arg-type]
    assert_type(Tariff.base.cache_key(Tariff(), 42), str)
    Tariff().base("42")  # type: ignore[arg-type]
    Tariff().base()  # type: ignore[call-arg]
    Tariff().bases(42)  # type: ignore[arg-type]


@cache.memoize_rows(version="1")
def embed(texts: list[str], scale: float = 1.0) -> NDArray[Any]:
    return np.ones((len(texts), 2)) * scale


async def a_function_of_rows() -> None:
    assert_type(embed(["snow"]), NDArray[Any])
    assert_type(embed.cache_keys(["snow"], scale=2.0), list[str])
    assert_type(embed.explain(["snow"]).compared_to(["sun"], scale=2.0), Explanation)
    assert_type(embed.forget(["snow"]), int)
    assert_type(await embed.aforget(["snow"], 2.0), int)
    embed.explain(["snow"]).compared_to("sun")  # type: ignore[arg-type]
    embed([42])  # type: ignore[list-item]
    embed("snow")  # type: ignore[arg-type]
    embed(["snow"], "2")  # type: ignore[arg-type]
    named: MemoizedRows[[list[str], float], NDArray[Any]] = embed
    del named


class Estimator:
    classes_: list[str]

    def predict(self, rows: list[int]) -> list[float]:
        return [float(row) for row in rows]


def an_estimator() -> None:
    fast = cache.wrap(Estimator(), name="estimator", version="1")
    assert_type(fast, Estimator)
    assert_type(fast.predict([1]), list[float])
    assert_type(fast.classes_, list[str])
    fast.predict("1")  # type: ignore[arg-type]
    fast.forecast([1])  # type: ignore[attr-defined]
    assert_type(cache.stats_by_model()["estimator/1"], Stats)
    cache.wrap(Estimator(), version="1")  # type: ignore[call-arg]


def a_model(model: Any) -> None:
    assert_type(cache.model(model, hashing_fields=["age"]), RedisCachingDecorator)
    cache.model(model, near_cache=1_000)  # type: ignore[call-arg]


def without_parentheses(age: int) -> int:
    return age


cache.memoize(without_parentheses)  # type: ignore[arg-type]
cache.memoize_rows(without_parentheses)  # type: ignore[arg-type]
cache.memoize(version="1", near_cache=1_000)  # type: ignore[call-arg]

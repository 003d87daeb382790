"""What newcomers do first, and the errors that tell them what to do instead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
import redis
from pydantic import BaseModel, Field
from sklearn.linear_model import LinearRegression

from model_cache import Cache, ConfigurationError, record_outcomes
from tests.servers import Server


class Doubling:
    """Doubles."""

    def predict(self, rows: list[int]) -> list[int]:
        return [2 * row for row in rows]


class Bare:
    def predict_batch(self, rows: list[int]) -> list[int]:
        return rows


def double(x: int) -> int:
    return 2 * x


def test_entries_of_an_earlier_process_are_purged_before_the_first_prediction(
    cache: Cache,
) -> None:
    cache.wrap(Doubling(), name="doubling", version="1").predict([1, 2, 3])
    estimator: Any = cache.wrap(Doubling(), name="doubling", version="1")
    assert estimator.purge() == 3


def test_the_attributes_that_dir_lists_exist(cache: Cache) -> None:
    estimator = cache.wrap(Doubling(), name="doubling", version="1")
    for name in dir(estimator):
        getattr(estimator, name)
    assert estimator.__doc__ == "Doubles."


WRONG: dict[str, Callable[[Cache], object]] = {
    "version: is required.*@cache.memoize": lambda cache: cache.memoize(double),  # type: ignore[arg-type]
    "near_cache: .* whole cache; pass it to Cache": lambda cache: cache.memoize(
        version="1",
        near_cache=10,  # type: ignore[call-arg]
    ),
    "url: .* whole cache": lambda cache: cache.wrap(
        Doubling(),
        name="doubling",
        version="1",
        url="redis://elsewhere",  # type: ignore[call-arg]
    ),
    "hashing_fields: .* ml-base models; .*cache.model": lambda cache: cache.memoize_rows(
        version="1",
        hashing_fields=["age"],  # type: ignore[call-arg]
    ),
    "ignored_fields: .*memoize_rows have ignored;": lambda cache: cache.memoize(
        version="1",
        ignored_fields=["at"],  # type: ignore[call-arg]
    ),
    "ignored: .*for an estimator, drop the columns": lambda cache: cache.wrap(
        Doubling(),
        name="doubling",
        version="1",
        ignored=["at"],  # type: ignore[call-arg]
    ),
    "methods: Bare has none of predict, .*memoize_rows": lambda cache: cache.wrap(
        Bare(), name="bare", version="1"
    ),
    "estimator: expected an object, got the class": lambda cache: cache.wrap(
        Doubling, name="doubling", version="1"
    ),
    "estimator: .* got the function double; .*memoize_rows": lambda cache: cache.wrap(
        double, name="double", version="1"
    ),
    "estimator: .* got the function Doubling.predict; .*memoize": lambda cache: cache.wrap(
        Doubling().predict, name="double", version="1"
    ),
    "ignored: 'y' is not a parameter": lambda cache: cache.memoize(version="1", ignored=["y"])(
        double
    ),
}


@pytest.mark.parametrize(("message", "call"), WRONG.items(), ids=WRONG)
def test_an_error_says_what_to_do_instead(
    message: str, call: Callable[[Cache], object], cache: Cache
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        call(cache)


def test_a_method_that_is_named_is_cached(cache: Cache) -> None:
    bare = cache.wrap(Bare(), name="bare", version="1", methods=["predict_batch"])
    assert bare.predict_batch([1]) == bare.predict_batch([1]) == [1]
    assert cache.stats().hits == 1


def test_cache_if_receives_the_arguments_by_name_and_the_result(cache: Cache) -> None:
    seen = []

    def is_wanted(arguments: dict[str, Any], result: int) -> bool:
        seen.append((arguments, result))
        return result > 4

    @cache.memoize(version="1", cache_if=is_wanted)
    def times(x: int, factor: int = 2) -> int:
        return x * factor

    assert [times(1), times(3), times(3)] == [2, 6, 6]
    assert seen == [({"x": 1, "factor": 2}, 2), ({"x": 3, "factor": 2}, 6)]
    assert times.cache_info()[:2] == (1, 2)
    assert times.stats().skipped == 1


def test_cache_if_receives_a_table_of_one_row_and_its_result(cache: Cache) -> None:
    seen = []

    def is_wanted(rows: list[int], result: list[int]) -> bool:
        seen.append((rows, result))
        return result[0] > 4

    fast = cache.wrap(
        Doubling(), name="wanted", version="1", cache_if=is_wanted, batch_equality="ignore"
    )
    assert fast.predict([1, 3]) == fast.predict([1, 3]) == [2, 6]
    assert seen == [([1], [2]), ([3], [6]), ([1], [2])]


class Request(BaseModel):
    age: int
    request_id: UUID = Field(default_factory=uuid4)


def test_an_argument_that_is_never_the_same_causes_a_warning(cache: Cache) -> None:
    def one(request: Request, age: int) -> int:
        return age

    def many(requests: list[Request]) -> list[int]:
        return [request.age for request in requests]

    for decorate, function, name in (
        (cache.memoize(version="1"), one, "request"),
        (cache.memoize_rows(version="1"), many, "requests"),
    ):
        with pytest.warns(UserWarning, match=f"'request_id' of the argument '{name}'") as caught:
            decorate(function)
        [warning] = caught
        assert f"ignored=['{name}']" in str(warning.message)
        assert warning.filename == __file__


def test_ignored_arguments_and_a_cache_that_is_off_cause_no_warning(server: Server) -> None:
    def one(request: Request, age: int) -> int:
        return age

    Cache(server.url).memoize(version="1", ignored=["request"])(one)
    Cache(server.url, enabled=False).memoize(version="1", name="other")(one)


def test_rows_can_be_compared_by_key_and_forgotten(cache: Cache) -> None:
    @cache.memoize_rows(version="1", batch_equality="ignore")
    def doubled(rows: list[int]) -> list[int]:
        return [2 * row for row in rows]

    fast: Any = cache.wrap(Doubling(), name="doubling", version="1", batch_equality="ignore")
    for cached in (doubled, fast.predict):
        cached([1, 2, 3])
        first, second, again = cached.cache_keys([1, 2, 1])
        assert first == again != second
        assert cached.forget([1, 2, 4]) == 2
        with record_outcomes() as outcomes:
            assert cached([1, 2, 3]) == [2, 4, 6]
        kinds = [outcome.kind for outcome in outcomes for _ in range(outcome.rows)]
        assert sorted(kinds) == ["hit", "miss", "miss"]


@pytest.mark.parametrize("options", [{}, {"near_cache": 500}, {"layout": "packed"}], ids=str)
def test_many_rows_are_forgotten_in_a_few_round_trips(
    server: Server, client: redis.Redis, options: dict[str, Any]
) -> None:
    if "layout" in options:
        options = {**options, "expected_entries": 1000}
    computed: list[int] = []

    def doubled(rows: list[int]) -> list[int]:
        computed.extend(rows)
        return [2 * row for row in rows]

    with Cache(server.url, timeout=5.0, batch_equality="ignore", **options) as cache:
        cached = cache.memoize_rows(version="1")(doubled)
        cached([*range(200)])
        before = client.info("commandstats").get("cmdstat_append", {}).get("calls", 0)
        assert cached.forget([*range(150), *range(150), 500]) == 150
        assert client.info("commandstats")["cmdstat_append"]["calls"] - before < 20
        computed.clear()
        assert cached([*range(200)]) == [2 * row for row in range(200)]
        assert computed == [*range(150)]


def test_rows_can_be_forgotten_in_an_event_loop(cache: Cache) -> None:
    @cache.memoize_rows(version="1", batch_equality="ignore")
    async def adoubled(rows: list[int]) -> list[int]:
        return [2 * row for row in rows]

    fast: Any = cache.wrap(Doubling(), name="doubling", version="1", batch_equality="ignore")

    async def use() -> None:
        assert await adoubled([1, 2, 3]) == fast.predict([1, 2, 3]) == [2, 4, 6]
        for cached in (adoubled, fast.predict):
            assert await cached.aforget([1, 2, 4]) == 2
            assert await cached.aforget([1, 2, 3]) == 1
        assert await adoubled.aforget([object()]) == 0  # type: ignore[list-item]
        await cache.aclose()

    asyncio.run(use())


def test_the_keys_of_an_estimator_are_those_of_its_present_state(cache: Cache) -> None:
    inputs = np.array([[1.0], [2.0]])
    fast: Any = cache.wrap(LinearRegression().fit(inputs, [1, 2]), name="linear", version="1")
    before = fast.predict.cache_keys(inputs)
    fast.fit(inputs, [3, 4])
    after = fast.predict.cache_keys(inputs)
    assert set(before).isdisjoint(after)
    fast.predict(inputs)
    assert fast.predict.cache_keys(inputs) == after
    assert fast.predict.forget(inputs) == 2

"""How long an entry lives: by the option `ttl`, a function of the prediction, or the model."""

from __future__ import annotations

import logging
import math
import time
from contextvars import copy_context
from datetime import timedelta
from threading import Thread
from typing import Any

import numpy
import pytest
import redis

from model_cache import Cache, ConfigurationError, RedisCachingDecorator, refresh, set_ttl
from model_cache.options.config import Config
from tests.models import Charges, FunctionModel, Person, charge, person
from tests.observing.heard import made, outcome
from tests.servers import Server
from tests.stored import entries

BAD: list[Any] = [-1, -0.001, math.nan, math.inf, "soon", True, ..., 1e12, [60]]
TEN_PERCENT = 0.9  # the shortest that jitter makes a ttl


def by_age(data: Person, prediction: Charges) -> float:
    """Gives an entry as many seconds as the person has years."""
    assert prediction == charge(data)
    return data.age


def left(client: redis.Redis, cache: RedisCachingDecorator, data: Person) -> float:
    """Return the seconds that the entry of an input has left."""
    milliseconds: Any = client.pttl(cache.cache_key(data))
    return float(milliseconds) / 1000


@pytest.mark.parametrize("given", [by_age, "tests.prediction.test_ttl:by_age"])
def test_a_function_says_how_long_an_entry_lives(
    server: Server, client: redis.Redis, given: Any
) -> None:
    cache = made(server, FunctionModel(), ttl=given)
    cache.predict(person(age=60))
    cache.predict_many([person(age=600), person(age=6000)])
    for age in (60, 600, 6000):
        assert age * TEN_PERCENT - 1 < left(client, cache, person(age=age)) <= age
    assert cache.cache_settings.ttl is None


@pytest.mark.parametrize(
    ("value", "most"),
    [
        (timedelta(minutes=1), 60),
        (numpy.float32(60), 60),
        (numpy.int64(60), 60),
        (0.0001, 0.001),
        (None, -0.001),  # it does not expire
    ],
)
def test_a_function_may_return_any_time(
    server: Server, client: redis.Redis, value: Any, most: float
) -> None:
    cache = made(server, FunctionModel(), ttl=lambda *_: value)
    cache.predict(person())
    assert outcome().fate == "stored"
    assert left(client, cache, person()) <= most


@pytest.mark.parametrize("way", ["option", "model"])
@pytest.mark.parametrize("value", BAD, ids=repr)
def test_a_bad_ttl_is_not_stored_but_logged_once(
    server: Server, client: redis.Redis, caplog: pytest.LogCaptureFixture, value: Any, way: str
) -> None:
    def predict(data: Person) -> Charges:
        set_ttl(value)
        return charge(data)

    if way == "option":
        cache = made(server, FunctionModel(), ttl=lambda *_: value)
    else:
        cache = made(server, FunctionModel(function=predict), ttl=60)
    for age in (1, 2, 3):
        assert cache.predict(person(age=age)) == charge(person(age=age))
        assert outcome().fate == "skipped"
    assert entries(client) == []
    assert cache.stats().skipped == 3
    (record,) = (each for each in caplog.records if each.levelno == logging.WARNING)
    source = "ttl" if way == "option" else "set_ttl"
    assert f"{source}: expected a time in seconds" in record.getMessage()
    assert f"got an invalid {type(value).__name__}" in record.getMessage()


def test_a_function_that_raises_costs_the_entry_and_not_the_prediction(
    server: Server, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    cache = made(server, FunctionModel(), ttl=lambda *_: 1 / 0)
    assert cache.predict(person()) == charge(person())
    assert entries(client) == []
    assert "ttl raised ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("way", ["option", "model"])
def test_a_ttl_of_nothing_is_not_stored(
    server: Server, client: redis.Redis, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    def predict(data: Person) -> Charges:
        set_ttl(0)
        return charge(data)

    cache = made(server, FunctionModel(), ttl=(lambda *_: 0) if way == "option" else 60)
    if way == "model":
        cache.set_model(FunctionModel(function=predict))
    client.set(cache.cache_key(person()), b'{"charges":1.0}')
    with refresh():
        cache.predict(person())
    assert outcome().fate == "skipped"
    time.sleep(0.01)  # what is erased lives for a millisecond
    assert not client.exists(cache.cache_key(person()))
    assert caplog.records == []


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize(
    ("option", "by_model", "expected"),
    [
        (None, [60], 60),
        (600, [60], 60),
        (60, [600], 60),  # the shortest counts
        (600, [60, 300, None], 60),
        (600, [timedelta(seconds=60)], 60),
        (lambda *_: 600, [60], 60),
        (lambda *_: 60, [600], 60),
        (lambda *_: None, [60], 60),
        (60, [None], 60),
    ],
)
def test_a_model_can_only_shorten_the_ttl(
    server: Server, client: redis.Redis, option: Any, by_model: list[Any], expected: int, many: bool
) -> None:
    class Model(FunctionModel):
        def predict_many(self, inputs: Any) -> Any:
            for each in by_model:
                set_ttl(each)
            return [charge(each) for each in inputs]

        def predict(self, data: Any) -> Any:
            return self.predict_many([data])[0]

    cache = made(server, Model(), ttl=option)
    inputs = [person(age=1), person(age=2)]
    if many:
        cache.predict_many(inputs)
    else:
        for data in inputs:
            cache.predict(data)
    for data in inputs:
        assert expected * TEN_PERCENT - 1 < left(client, cache, data) <= expected


def test_a_ttl_of_an_inner_model_also_limits_outer_caches(
    server: Server, client: redis.Redis
) -> None:
    def predict(data: Person) -> Charges:
        set_ttl(60)
        return charge(data)

    inner = made(server, FunctionModel(function=predict, qualified_name="inner"), ttl=600)
    outer = made(server, FunctionModel(function=inner.predict, qualified_name="outer"), ttl=600)
    outer.predict(person())
    for cache in (inner, outer):
        assert left(client, cache, person()) <= 60


class Counted(float):
    """A number that counts how often it is read."""

    read = 0

    def __float__(self) -> float:
        Counted.read += 1
        return super().__float__()


class Unreadable(float):
    def __float__(self) -> float:
        raise RuntimeError


def test_a_batch_reads_the_ttl_of_each_row_once(server: Server) -> None:
    def predict(numbers: list[int]) -> list[int]:
        for number in numbers:
            set_ttl(Counted(number))
        return numbers

    with Cache(server.url, timeout=5.0) as cache:
        same = cache.memoize_rows(version="1", name="same")(predict)
        same(list(range(60, 360)))
        assert Counted.read <= 303  # three rows are also predicted one by one
        assert same.stats().stored == 300


def test_threads_of_a_model_may_set_its_ttl(server: Server, client: redis.Redis) -> None:
    class Slow(float):
        def __float__(self) -> float:
            thread = Thread(target=copy_context().run, args=(set_ttl, 60))
            thread.start()
            thread.join()
            return super().__float__()

    def predict(data: Person) -> Charges:
        set_ttl(Slow(3600))  # a thread is faster
        return charge(data)

    cache = made(server, FunctionModel(function=predict))
    cache.predict(person())
    assert 0 < left(client, cache, person()) <= 60


def test_a_ttl_that_can_not_be_read_does_not_raise_in_the_model(server: Server) -> None:
    def predict(data: Person) -> Charges:
        set_ttl(Unreadable(60))
        return charge(data)

    cache = made(server, FunctionModel(function=predict))
    assert cache.predict(person()) == charge(person())
    assert outcome().fate == "skipped"


def test_a_ttl_set_outside_a_prediction_has_no_effect(server: Server, client: redis.Redis) -> None:
    cache = made(server, FunctionModel())
    set_ttl(1)
    cache.predict(person())
    assert client.ttl(cache.cache_key(person())) == -1


@pytest.mark.parametrize("layout", ["plain", "packed"])
@pytest.mark.parametrize("near", [None, 100])
def test_entries_with_times_of_their_own_become_stale_in_time(
    server: Server, layout: Any, near: int | None
) -> None:
    calls = iter(range(100))

    def predict(data: Person) -> Charges:
        number = next(calls)
        if number >= 2:
            raise RuntimeError
        return Charges(charges=number)

    cache = made(
        server,
        FunctionModel(function=predict),
        ttl=lambda data, _: 0.1 if data.age == 1 else 60,
        stale_if_error=60,
        layout=layout,
        near_cache=near,
        expected_entries=1000 if layout == "packed" else None,
    )
    for age in (1, 2, 1, 2):
        cache.predict(person(age=age))
    assert outcome().kind == "hit"
    time.sleep(0.11)  # past the ttl of the first
    kinds = []
    for age in (1, 2):
        cache.predict(person(age=age))
        kinds.append(outcome().kind)
    assert kinds == ["stale", "hit"]


def test_a_stored_prediction_lives_as_the_function_says(
    server: Server, client: redis.Redis
) -> None:
    cache = made(server, FunctionModel(), ttl=by_age)
    assert cache.store(person(age=60), charge(person(age=60)))
    assert 50 < left(client, cache, person(age=60)) <= 60


def test_a_function_needs_to_be_one_that_is_not_async() -> None:
    async def later(data: Any, prediction: Any) -> float:
        return 1.0

    values: list[Any] = [later, "tests.models:no_such_name", "math:pi"]
    for value in values:
        with pytest.raises(ConfigurationError, match="ttl: "):
            RedisCachingDecorator(ttl=value)


def test_only_a_ttl_in_seconds_limits_what_readers_believe() -> None:
    def limit(ttl: Any) -> int | None:
        config: Config = RedisCachingDecorator(ttl=ttl)._config
        return config.longest_ttl

    assert [limit(ttl) for ttl in (None, 60, by_age)] == [None, 60_000, None]

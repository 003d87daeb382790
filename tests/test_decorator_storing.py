"""What the decorator stores, and for how long."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import redis

from model_cache import RedisCachingDecorator, do_not_store
from tests.models import Charges, Echo, FunctionModel, Person, charge, person
from tests.servers import Server
from tests.stored import entries


def test_do_not_store_excludes_a_fallback_answer(
    decorator: RedisCachingDecorator, client: redis.Redis
) -> None:
    def predict(data: Person) -> Charges:
        if data.age > 50:
            do_not_store()
        return charge(data)

    decorator.set_model(FunctionModel(function=predict))
    decorator.predict(person(age=51))
    assert entries(client) == []
    assert decorator.stats().skipped == 1
    decorator.predict(person(age=50))
    assert len(entries(client)) == 1


def test_do_not_store_holds_for_the_models_around(server: Server, client: redis.Redis) -> None:
    def fall_back(data: Person) -> Charges:
        do_not_store()
        return charge(data)

    inner = RedisCachingDecorator(url=server.url)
    inner.set_model(FunctionModel(function=fall_back, qualified_name="inner"))
    outer = RedisCachingDecorator(url=server.url)
    outer.set_model(FunctionModel(function=inner.predict, qualified_name="outer"))
    outer.predict(person())
    assert entries(client) == []
    do_not_store()  # outside a prediction it does nothing


def only_adults(data: Person, prediction: Charges) -> bool:
    return data.age >= 18 and prediction.charges > 0


@pytest.mark.parametrize("condition", [only_adults, f"{__name__}:only_adults"])
def test_cache_if_decides_what_is_stored(
    server: Server, client: redis.Redis, condition: Any
) -> None:
    with RedisCachingDecorator(url=server.url, cache_if=condition) as decorator:
        decorator.set_model(FunctionModel())
        decorator.predict(person(age=17))
        assert entries(client) == []
        decorator.predict(person(age=18))
        assert len(entries(client)) == 1
        assert decorator.stats().skipped == 1


def test_a_cache_if_that_raises_costs_the_entry_and_not_the_prediction(
    server: Server, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisCachingDecorator(url=server.url, cache_if=lambda *_: bool(1 / 0)) as decorator:
        decorator.set_model(FunctionModel())
        assert decorator.predict(person()) == charge(person())
    assert entries(client) == []
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("ttl", [100, 100.0, timedelta(seconds=100)])
def test_the_ttl_is_shortened_by_up_to_a_tenth(
    server: Server, client: redis.Redis, ttl: Any
) -> None:
    with RedisCachingDecorator(url=server.url, ttl=ttl) as decorator:
        decorator.set_model(FunctionModel())
        for age in range(100):
            decorator.predict(person(age=age))
    left = [client.pttl(key) for key in entries(client)]
    assert len(left) == 100
    assert all(89_000 < ttl <= 100_000 for ttl in left)
    assert max(left) - min(left) > 3_000


def test_an_entry_over_the_limit_is_not_stored(
    server: Server, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisCachingDecorator(url=server.url, max_entry_bytes=100) as decorator:
        decorator.set_model(
            FunctionModel(output_schema=Echo, function=lambda _: Echo(text="x" * 200))
        )
        for _ in range(2):
            assert decorator.predict(person()).text == "x" * 200
        assert decorator.stats().too_large == 2
    assert entries(client) == []
    assert len([r for r in caplog.records if "max_entry_bytes" in r.message]) == 1

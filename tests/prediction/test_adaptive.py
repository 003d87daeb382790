"""`adaptive`: predictions without the cache while it does not pay."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis

from model_cache import (
    Cache,
    Outcome,
    RedisCachingDecorator,
    bypass,
    last_outcome,
    read_only,
    record_outcomes,
    refresh,
)
from model_cache.observing.events import CachePaused
from tests.models import Charges, FunctionModel, Person, charge, person
from tests.observing.failing import failing
from tests.servers import Server


class Batches(FunctionModel):
    """A model with batches."""

    def predict_many(self, inputs: list[Person]) -> list[Charges]:
        return [self.predict(data) for data in inputs]


def made(server: Server, model: Any = None, **options: Any) -> RedisCachingDecorator:
    decorator = RedisCachingDecorator(url=server.url, adaptive=True, **options)
    return decorator.set_model(model or FunctionModel())


def pause(decorator: Any, name: str = "test_model", version: str = "1.0.0") -> None:
    """Have the decorator find that nothing ever hits."""
    tell = decorator._predictor._inner
    tell = getattr(tell, "_inner", tell)._tell
    for size in (1, 100):
        miss = Outcome("miss", name, version, 2e-4, model_seconds=1e-4, batch_size=size)
        for _ in range(32 * size if size > 1 else 1000):
            tell(miss)
    way = decorator._predictor._way
    for batches in (False, True):
        gate = way._gates.of(name, version, batches=batches)
        assert gate.direct
        gate.random = lambda: 0.999  # no samples


def kind() -> str:
    found = last_outcome()
    assert found is not None
    return found.kind


def ways() -> list[Any]:
    def by_loop(decorator: RedisCachingDecorator) -> Callable[[Person], Any]:
        return lambda data: asyncio.run(in_loop(decorator, data))

    async def in_loop(decorator: RedisCachingDecorator, data: Person) -> Any:
        answer = await decorator.apredict(data)
        kinds.append(kind())
        return answer

    kinds: list[str] = []
    return [lambda decorator: decorator.predict, by_loop]


@pytest.mark.parametrize("way", ways(), ids=["sync", "async"])
@pytest.mark.parametrize("options", [{}, {"near_cache": 10}], ids=["plain", "near"])
def test_a_paused_cache_is_neither_read_nor_written(
    server: Server, client: redis.Redis, options: dict[str, Any], way: Any
) -> None:
    calls: list[Person] = []

    def counted(data: Person) -> Charges:
        calls.append(data)
        return charge(data)

    decorator = made(server, FunctionModel(function=counted), **options)
    pause(decorator)
    for _ in range(3):
        with record_outcomes() as outcomes:
            assert way(decorator)(person()) == charge(person())
        [outcome] = outcomes
        assert (outcome.kind, outcome.fate, outcome.store_seconds) == ("direct", None, 0.0)
        assert 0 < outcome.model_seconds == outcome.seconds
    assert len(calls) == 3
    assert decorator.stats().direct == 3
    assert not client.exists(decorator.cache_key(person()))


def test_samples_are_looked_up_and_stored(server: Server) -> None:
    decorator = made(server)
    pause(decorator)
    gate = decorator._predictor._way._gates.of("test_model", "1.0.0", batches=False)  # type: ignore[attr-defined]
    gate.random = lambda: 0.0
    decorator.predict(person())
    assert kind() == "miss"
    decorator.predict(person())
    assert kind() == "hit"


def test_blocks_of_the_caller_are_obeyed(server: Server) -> None:
    decorator = made(server)
    pause(decorator)
    with bypass():
        decorator.predict(person())
        assert kind() == "bypass"
    with refresh():
        decorator.predict(person())
        assert kind() == "miss"
    with read_only():
        decorator.predict(person())
        assert kind() == "hit"
        decorator.predict_many([person(age=1), person(age=2)])
        assert kind() == "miss"
    assert decorator.stats().stored == 1


def test_single_entries_are_handled_while_the_cache_is_paused(server: Server) -> None:
    decorator = made(server)
    pause(decorator)
    assert decorator.store(person(), Charges(charges=1.0))
    assert decorator.lookup(person()) == Charges(charges=1.0)
    assert decorator.forget(person())

    async def in_loop() -> None:
        assert await decorator.astore(person(), Charges(charges=2.0))
        assert await decorator.alookup(person()) == Charges(charges=2.0)
        assert await decorator.aforget(person())
        assert await decorator.alookup(person()) is None

    asyncio.run(in_loop())


def test_another_version_is_looked_up_at_once(server: Server) -> None:
    decorator = made(server)
    pause(decorator)
    decorator.predict(person())
    assert kind() == "direct"
    decorator.set_model(FunctionModel(version="2.0.0"))
    decorator.predict(person())
    assert kind() == "miss"


def test_inputs_are_rounded_as_ever(server: Server) -> None:
    options = {"reduced_precision_fields": ["bmi"], "number_of_places": 0}
    decorator = made(server, **options)
    cached = decorator.predict(person(bmi=24.4))
    pause(decorator)
    assert decorator.predict(person(bmi=24.4)) == cached == charge(person(bmi=24.0))
    assert kind() == "direct"


def test_the_models_exceptions_are_raised_and_counted(server: Server) -> None:
    decorator = made(server, FunctionModel(function=failing))
    pause(decorator)
    with pytest.raises(RuntimeError):
        decorator.predict(person())
    assert kind() == "error"
    with pytest.raises(RuntimeError):
        asyncio.run(decorator.apredict(person()))
    assert decorator.stats().errors == 2


@pytest.mark.parametrize("model", [FunctionModel, Batches])
def test_batches_go_around_the_cache_as_well(server: Server, model: Any) -> None:
    decorator = made(server, model())
    pause(decorator)
    inputs = [person(age=age) for age in range(5)]
    with record_outcomes() as outcomes:
        assert decorator.predict_many(inputs) == [charge(data) for data in inputs]
        assert asyncio.run(decorator.apredict_many(inputs)) == [charge(data) for data in inputs]
    assert {outcome.kind for outcome in outcomes} == {"direct"}
    assert decorator.stats().direct == 10
    decorator._predictor._way._gates.of("test_model", "1.0.0", batches=True).random = lambda: 0.0  # type: ignore[attr-defined]
    decorator.predict_many(inputs)
    assert decorator.stats().stored == 5


def test_tables_go_around_the_cache_as_well(server: Server) -> None:
    with Cache(server.url, adaptive=True) as cache:

        @cache.memoize_rows(version="1", name="doubled")
        def doubled(values: list[int]) -> list[int]:
            return [2 * value for value in values]

        for start in range(0, 4000, 100):
            doubled(list(range(start, start + 100)))
        stats = cache.stats()
        assert stats.direct % 100 == 0
        assert stats.direct > 0
        assert doubled([1, 2, 3]) == [2, 4, 6]


def test_a_switch_is_logged_and_told(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    events: list[object] = []
    decorator = made(server, hooks=[events.append])
    with caplog.at_level(logging.WARNING, "model_cache"):
        pause(decorator)
    assert len([event for event in events if isinstance(event, CachePaused)]) == 2
    assert caplog.messages == [
        f"Cache paused for {calls} of test_model 1.0.0: hit ratio 0%, break-even 66.7%"
        for calls in ("single predictions", "batches")
    ]


def test_threads_share_the_decision(server: Server) -> None:
    decorator = made(server)
    pause(decorator)
    threads = [
        threading.Thread(target=lambda: [decorator.predict(person()) for _ in range(200)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert decorator.stats().direct == 800


def test_without_the_option_nothing_is_decided(server: Server) -> None:
    with RedisCachingDecorator(url=server.url) as decorator:
        decorator.set_model(FunctionModel())
        for age in range(1200):
            decorator.predict(person(age=age))
        assert decorator.stats().direct == 0

"""The two drivers, threads and event loops, take the same steps to the same ends."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
import redis
from pydantic import BaseModel

from model_cache import (
    Outcome,
    RedisCachingDecorator,
    StoreUnavailableError,
    bypass,
    do_not_store,
    record_outcomes,
    refresh,
)
from tests.loops import MAKERS
from tests.models import Charges, FunctionModel, charge, person
from tests.servers import Server, free_port

Ask: TypeAlias = Callable[[RedisCachingDecorator, BaseModel], Any]


@pytest.fixture(params=["threads", *MAKERS])
def ask(request: pytest.FixtureRequest) -> Iterator[Ask]:
    """Predicts by one of the drivers."""
    if request.param == "threads":
        yield lambda decorator, data: decorator.predict(data)
        return
    with asyncio.Runner(loop_factory=MAKERS[request.param]) as runner:
        opened: list[RedisCachingDecorator] = []

        def run(decorator: RedisCachingDecorator, data: BaseModel) -> Any:
            opened.append(decorator)
            return runner.run(decorator.apredict(data), context=contextvars.copy_context())

        yield run
        for decorator in opened:
            runner.run(decorator.aclose())


def made(server: Server, model: Any = None, **options: Any) -> RedisCachingDecorator:
    decorator = RedisCachingDecorator(**{"url": server.url, "timeout": 1.0, **options})
    return decorator.set_model(model or FunctionModel())


def kinds(decorator: RedisCachingDecorator, ask: Ask, *inputs: BaseModel) -> list[str]:
    return [one.kind for one in outcomes(decorator, ask, *inputs)]


def outcomes(decorator: RedisCachingDecorator, ask: Ask, *inputs: BaseModel) -> list[Outcome]:
    with record_outcomes() as recorded:
        for data in inputs:
            ask(decorator, data)
    return list(recorded)


def test_a_miss_is_stored_and_then_hit(server: Server, ask: Ask) -> None:
    model = FunctionModel()
    decorator = made(server, model)
    miss, hit = outcomes(decorator, ask, person(), person())
    assert (miss.kind, miss.fate, hit.kind) == ("miss", "stored", "hit")
    assert miss.write_seconds > 0.0
    assert hit.entry_bytes == miss.entry_bytes > 0
    assert ask(decorator, person()) == charge(person())
    assert len(model.calls) == 1


def test_each_answer_is_the_callers_own(server: Server, ask: Ask) -> None:
    decorator = made(server)
    ask(decorator, person()).charges = 0.0
    ask(decorator, person()).charges = 0.0
    assert ask(decorator, person()) == charge(person())


def test_both_drivers_share_entries_and_counters(server: Server, ask: Ask) -> None:
    decorator = made(server)
    decorator.predict(person())
    assert kinds(decorator, ask, person()) == ["hit"]
    ask(decorator, person(age=50))
    with record_outcomes() as recorded:
        decorator.predict(person(age=50))
    assert recorded[0].kind == "hit"
    assert (decorator.stats().hits, decorator.stats().misses) == (2, 2)


def test_bypass_and_refresh_hold(server: Server, ask: Ask) -> None:
    model = FunctionModel()
    decorator = made(server, model)
    ask(decorator, person())
    with bypass():
        assert kinds(decorator, ask, person()) == ["bypass"]
    with refresh():
        (refreshed,) = outcomes(decorator, ask, person())
    assert (refreshed.kind, refreshed.fate, refreshed.refreshed) == ("miss", "stored", True)
    assert len(model.calls) == 3


def test_do_not_store_holds_inside_the_model(server: Server, ask: Ask) -> None:
    def fallback(data: Any) -> Charges:
        do_not_store()
        return charge(data)

    decorator = made(server, FunctionModel(function=fallback))
    assert [one.fate for one in outcomes(decorator, ask, person(), person())] == ["skipped"] * 2


def test_what_can_not_be_stored_is_answered(server: Server, ask: Ask) -> None:
    decorator = made(server, FunctionModel(function=lambda _: Charges(charges=1.0)), cache_if=no)
    assert outcomes(decorator, ask, person())[0].fate == "skipped"
    large = made(server, max_entry_bytes=1)
    assert outcomes(large, ask, person())[0].fate == "too_large"


def no(data: object, prediction: object) -> bool:
    return False


def test_an_input_without_a_key_is_answered(server: Server, ask: Ask) -> None:
    class Strange(BaseModel):
        value: object = None

    decorator = made(server, FunctionModel(Strange, Charges, lambda _: Charges(charges=1.0)))
    assert kinds(decorator, ask, Strange(value=object())) == ["uncacheable"]


def test_the_models_error_comes_through_and_is_not_cached(server: Server, ask: Ask) -> None:
    def fails(_: object) -> Charges:
        raise LookupError("no such region")

    model = FunctionModel(function=fails)
    decorator = made(server, model)
    for _ in range(2):
        with pytest.raises(LookupError, match="no such region"):
            ask(decorator, person())
    assert decorator.stats().errors == len(model.calls) == 2


def test_a_stale_entry_answers_for_the_models_error(server: Server, ask: Ask) -> None:
    answers: list[Any] = [charge(person())]
    model = FunctionModel(function=lambda _: answers.pop())
    decorator = made(server, model, ttl=0.001, stale_if_error=60)
    while not decorator.stats().stale:  # until its ttl is over
        assert ask(decorator, person()) == charge(person())


def test_a_lost_store_costs_no_prediction(ask: Ask) -> None:
    decorator = RedisCachingDecorator(port=free_port()).set_model(FunctionModel())
    first, *others = outcomes(decorator, ask, *[person()] * 5)
    assert (first.kind, first.store_error) == ("unavailable", "connection")
    assert others[-1].store_error == "circuit_open"
    assert decorator.stats().store == "open"


def test_a_models_error_says_nothing_of_redis(ask: Ask) -> None:
    def fails(_: object) -> Charges:
        raise LookupError("no weights")

    decorator = RedisCachingDecorator(port=free_port())
    decorator.set_model(FunctionModel(function=fails))
    for _ in range(5):
        with pytest.raises(LookupError) as raised:
            ask(decorator, person())
        assert raised.value.__context__ is None


def test_a_lost_store_raises_if_so_configured(ask: Ask) -> None:
    decorator = RedisCachingDecorator(port=free_port(), on_error="raise")
    decorator.set_model(FunctionModel())
    with pytest.raises(StoreUnavailableError):
        ask(decorator, person())


def test_a_refused_write_costs_no_prediction(server: Server, client: redis.Redis, ask: Ask) -> None:
    decorator = made(server)
    client.replicaof("127.0.0.1", str(free_port()))
    try:
        (outcome,) = outcomes(decorator, ask, person())
        assert (outcome.kind, outcome.fate) == ("miss", "write_failed")
        assert decorator.stats().store == "read_only"
    finally:
        client.replicaof("NO", "ONE")


def test_an_entry_that_can_not_be_decoded_is_replaced(
    server: Server, client: redis.Redis, ask: Ask
) -> None:
    decorator = made(server)
    for garbage in (b"{", b"", b"\xc1\xff"):
        client.set(decorator.cache_key(person()), garbage)
        assert kinds(decorator, ask, person(), person()) == ["miss", "hit"]
    client.delete(decorator.cache_key(person()))
    client.rpush(decorator.cache_key(person()), "of another type")
    assert kinds(decorator, ask, person(), person()) == ["miss", "hit"]


def test_rounding_holds_with_and_without_the_cache(server: Server, ask: Ask) -> None:
    options: dict[str, Any] = {"reduced_precision": True, "number_of_places": 0}
    for decorator in (made(server, **options), made(server, enabled=False, **options)):
        assert ask(decorator, person(bmi=24.4)) == charge(person(bmi=24.0))


def test_a_cache_that_is_off_only_predicts(ask: Ask) -> None:
    decorator = RedisCachingDecorator(enabled=False).set_model(FunctionModel())
    assert kinds(decorator, ask, person(), person()) == ["off", "off"]

    def fails(_: object) -> Charges:
        raise LookupError

    decorator.set_model(FunctionModel(function=fails))
    with pytest.raises(LookupError):
        ask(decorator, person())
    assert decorator.stats().errors == 1


def test_a_fleet_lease_is_taken_and_given_back(
    server: Server, client: redis.Redis, ask: Ask
) -> None:
    decorator = made(server, single_flight="fleet")
    assert kinds(decorator, ask, person(), person()) == ["miss", "hit"]
    assert client.dbsize() == 1


def test_writes_in_the_background_arrive(server: Server, client: redis.Redis, ask: Ask) -> None:
    decorator = made(server, write="background")
    assert outcomes(decorator, ask, person())[0].fate == "queued"
    decorator.close()


def test_caches_may_be_stacked(server: Server, ask: Ask) -> None:
    inner = made(server, prefix="inner")
    outer = RedisCachingDecorator(url=server.url, prefix="outer", timeout=1.0).set_model(inner)
    ask(outer, person())
    ask(outer, person())
    assert (outer.stats().hits, inner.stats().misses, inner.stats().hits) == (1, 1, 0)


def test_what_the_model_raises_is_not_lost_on_the_way(server: Server, ask: Ask) -> None:
    def stops(_: object) -> Charges:
        return next(iter(()))

    decorator = made(server, FunctionModel(function=stops))
    with pytest.raises((StopIteration, RuntimeError)):  # a coroutine can't raise the former
        ask(decorator, person())
    assert decorator.stats().errors == 1

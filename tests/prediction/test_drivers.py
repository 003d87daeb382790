"""The two drivers, threads and event loops, take the same steps to the same ends."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Coroutine, Iterator
from typing import Any, Protocol

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
from tests.stored import entries


class Ask(Protocol):
    """Predicts by one of the drivers."""

    def __call__(self, decorator: RedisCachingDecorator, data: BaseModel) -> Any: ...

    def many(
        self, decorator: RedisCachingDecorator, inputs: list[Any], **options: Any
    ) -> list[Any]:
        """Predict a batch."""
        ...

    def finish(self, decorator: RedisCachingDecorator) -> None:
        """Finish the background jobs."""
        ...


class InThreads:
    """Predicts by the driver for threads."""

    def __call__(self, decorator: RedisCachingDecorator, data: BaseModel) -> Any:
        return decorator.predict(data)

    def many(
        self, decorator: RedisCachingDecorator, inputs: list[Any], **options: Any
    ) -> list[Any]:
        answers: list[Any] = decorator.predict_many(inputs, **options)
        return answers

    def finish(self, decorator: RedisCachingDecorator) -> None:
        decorator.close()


class InALoop:
    """Predicts by the driver for event loops."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self.opened: list[RedisCachingDecorator] = []

    def __call__(self, decorator: RedisCachingDecorator, data: BaseModel) -> Any:
        return self._run(decorator, decorator.apredict(data))

    def many(
        self, decorator: RedisCachingDecorator, inputs: list[Any], **options: Any
    ) -> list[Any]:
        answers: list[Any] = self._run(decorator, decorator.apredict_many(inputs, **options))
        return answers

    def finish(self, decorator: RedisCachingDecorator) -> None:
        self._runner.run(decorator.aclose())

    def _run(self, decorator: RedisCachingDecorator, main: Coroutine[Any, Any, Any]) -> Any:
        self.opened.append(decorator)
        return self._runner.run(main, context=contextvars.copy_context())


@pytest.fixture(params=["threads", *MAKERS])
def ask(request: pytest.FixtureRequest) -> Iterator[Ask]:
    """Predicts by one of the drivers."""
    if request.param == "threads":
        yield InThreads()
        return
    with asyncio.Runner(loop_factory=MAKERS[request.param]) as runner:
        ask = InALoop(runner)
        yield ask
        for decorator in ask.opened:
            ask.finish(decorator)


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
        # None, unless CPython has kept the exception of a block that a signal interrupted.
        assert raised.value.__context__ is sys.exception()


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


@pytest.mark.parametrize("near", [{}, {"near_cache": 10}], ids=["far", "near"])
def test_no_older_answer_after_a_refresh_whose_write_is_refused(
    server: Server, client: redis.Redis, ask: Ask, near: dict[str, Any]
) -> None:
    answers = iter(range(10))
    model = FunctionModel(function=lambda _: Charges(charges=next(answers)))
    decorator, alone, of_a_batch = made(server, model, **near), person(), person(age=50)
    ask.many(decorator, [alone, of_a_batch])
    client.replicaof("127.0.0.1", str(free_port()))
    try:
        with refresh():
            assert ask(decorator, alone) == Charges(charges=2.0)
            assert ask.many(decorator, [of_a_batch]) == [Charges(charges=3.0)]
        assert ask(decorator, alone) == Charges(charges=4.0)
        assert ask(decorator, of_a_batch) == Charges(charges=5.0)
    finally:
        client.replicaof("NO", "ONE")
    assert [ask(decorator, alone) for _ in range(2)] == [Charges(charges=6.0)] * 2
    assert [ask(decorator, of_a_batch) for _ in range(2)] == [Charges(charges=7.0)] * 2


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
    assert len(entries(client)) == 1


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


def test_a_near_hit_needs_no_redis(server: Server, client: redis.Redis, ask: Ask) -> None:
    decorator = made(server, near_cache=10, near_ttl=60)
    for _ in range(2):  # the first notices that the server is empty, as after a purge
        ask(decorator, person())
    client.delete(decorator.cache_key(person()))
    (hit,) = outcomes(decorator, ask, person())
    assert (hit.kind, hit.near) == ("hit", True)
    decorator.purge()
    assert kinds(decorator, ask, person()) == ["miss"]


def test_a_near_hit_is_checked_when_its_time_is_over(server: Server, ask: Ask) -> None:
    first, second = (made(server, near_cache=10, near_ttl=0.001) for _ in range(2))
    ask(first, person())
    assert kinds(first, ask, person()) == ["hit"]
    second.purge()
    while kinds(first, ask, person()) == ["hit"]:  # until near_ttl is over
        pass
    assert first.stats().misses == 2


@pytest.mark.parametrize("layout", [{}, {"layout": "packed", "expected_entries": 100}])
def test_without_the_right_to_pttl_hits_come_from_redis(
    server: Server,
    client: redis.Redis,
    ask: Ask,
    caplog: pytest.LogCaptureFixture,
    layout: dict[str, Any],
) -> None:
    client.config_resetstat()
    rights = ["+get", "+set", "+hget", "+hset", "+hdel", "+hrandfield", "+pexpire", "+persist"]
    client.acl_setuser("reader", enabled=True, nopass=True, keys=["*"], commands=rights)
    people = [person(age=age) for age in range(18, 28)]
    try:
        writer = made(server, **layout)
        reader = made(server, near_cache=100, username="reader", password="any", **layout)
        for each in people:
            writer.predict(each)
        for _ in range(2):
            assert set(kinds(reader, ask, *people)) == {"hit"}
        answers = ask.many(reader, people)
        assert answers == [charge(each) for each in people]
        hits = outcomes(reader, ask, *people)
        assert {one.kind for one in hits} == {"hit"}
        # Packed entries hold their ttl.
        assert {one.near for one in hits} == {bool(layout)}
        (mine, again) = outcomes(reader, ask, *[person(age=90)] * 2)  # its own, with a known ttl
        assert (mine.kind, again.near) == ("miss", True)
        warned = [each for each in caplog.records if "PTTL" in each.message]
        refused = client.info("commandstats").get("cmdstat_pttl", {}).get("rejected_calls", 0)
        # At the first lookup only: for the entry, unless it is packed, and for the generation.
        assert (len(warned), refused) in ([(0, 0), (1, 1)] if layout else [(1, 1), (1, 2)])
    finally:
        client.acl_deluser("reader")


def test_a_stale_entry_answers_at_once_and_is_computed_anew(server: Server, ask: Ask) -> None:
    model = FunctionModel()
    decorator = made(server, model, ttl=0.001, stale_while_revalidate=60)
    while not decorator.stats().stale:  # until its ttl is over
        assert ask(decorator, person()) == charge(person())
    ask.finish(decorator)
    assert decorator.stats().revalidated >= 1
    assert len(model.calls) == decorator.stats().misses + decorator.stats().revalidated


class BatchModel(FunctionModel):
    """A model that predicts batches."""

    batches = 0

    def predict_many(self, inputs: list[Any]) -> list[Charges]:
        self.batches += 1
        return [charge(data) for data in inputs]


def test_a_batch_is_computed_at_once_and_then_hit(server: Server, ask: Ask) -> None:
    model = BatchModel()
    decorator = made(server, model, batch_equality="ignore")
    people = [person(age=20 + number % 6) for number in range(10)]
    for _ in range(2):
        assert ask.many(decorator, people, chunk_size=100) == [charge(each) for each in people]
    assert (model.batches, len(model.calls)) == (1, 0)
    assert (decorator.stats().misses, decorator.stats().hits) == (6, 10)


def test_a_batch_returns_the_models_exceptions_in_place(server: Server, ask: Ask) -> None:
    def fails(data: Any) -> Charges:
        if data.age == 22:
            raise LookupError("no such region")
        return charge(data)

    decorator = made(server, FunctionModel(function=fails))
    people = [person(age=21), person(age=22), person(age=23)]
    first, error, last = ask.many(decorator, people, return_exceptions=True)
    assert (first, last) == (charge(people[0]), charge(people[2]))
    assert isinstance(error, LookupError)
    with pytest.raises(LookupError):
        ask.many(decorator, people)


def test_a_batch_without_a_store_or_a_cache_is_answered(ask: Ask) -> None:
    people = [person(age=20), person(age=21)]
    for decorator in (
        RedisCachingDecorator(port=free_port()),
        RedisCachingDecorator(enabled=False),
    ):
        decorator.set_model(FunctionModel())
        assert ask.many(decorator, people) == [charge(each) for each in people]


@pytest.mark.parametrize("near_cache", [None, 10])
def test_packed_entries_are_found(
    server: Server, client: redis.Redis, ask: Ask, near_cache: int | None
) -> None:
    options: dict[str, Any] = {"layout": "packed", "expected_entries": 10}
    decorator = made(server, near_cache=near_cache, **options)
    people = [person(age=20 + number) for number in range(8)]
    ask.many(decorator, people[:5])
    for each in people[5:]:
        ask(decorator, each)
    again = made(server, near_cache=near_cache, **options)
    assert kinds(again, ask, *people[:3]) == ["hit"] * 3
    assert ask.many(again, people) == [charge(each) for each in people]
    assert again.stats().misses == 0
    assert client.exists(decorator.cache_key(people[0])) == 0
    assert decorator.purge() == 8
    assert kinds(again, ask, people[0])[-1] in ("miss", "hit")  # a near hit lasts for near_ttl


def test_large_packed_entries_are_found(server: Server, ask: Ask) -> None:
    class Text(BaseModel):
        text: str

    model = FunctionModel(output_schema=Text, function=lambda data: Text(text="x" * data.age))
    options: dict[str, Any] = {"layout": "packed", "expected_entries": 10, "near_cache": 1}
    people = [person(age=age) for age in (1, 60, 64, 2)]
    for _ in range(2):
        answers = ask.many(made(server, model, **options), people)
        assert [len(each.text) for each in answers] == [1, 60, 64, 2]
    assert len(model.calls) == 4

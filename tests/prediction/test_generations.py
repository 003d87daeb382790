"""A purge by another process is noticed even if its trace, the generation, is lost again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from model_cache import (
    Cache,
    RedisCachingDecorator,
    StoreUnavailableError,
    record_outcomes,
    refresh,
)
from model_cache.errors import WriteRefusedError
from model_cache.prediction.barrier import _barriers
from model_cache.prediction.call import Call
from model_cache.prediction.effects import Budget, Effect
from model_cache.prediction.generation import (
    LONGEST,
    Generation,
    is_outdated,
    is_outdated_nearby,
    mark_of,
    stamp_of,
)
from model_cache.prediction.look_up import LookUps
from model_cache.prediction.writing import Write, Writing
from tests.inside import inside
from tests.models import Charges, FunctionModel, Person, charge, person
from tests.prediction.test_drivers import Ask, ask, made, outcomes
from tests.servers import Server, free_port
from tests.stored import entries
from tests.waiting import poll

__all__ = ["ask"]

GENERATION = "test_model/1.0.0/generation"


def purge_elsewhere(client: redis.Redis) -> None:
    """Purge the namespace as another process does."""
    client.set(GENERATION, "another")
    for key in entries(client, "test_model/1.0.0/*"):
        client.delete(key)
    client.set(GENERATION, "yet another")


def a_second_passes(decorator: RedisCachingDecorator) -> None:
    """Have the near cache check the generation before it serves another entry."""
    look_ups = inside(decorator)._inner._look_ups
    look_ups.generations.of(decorator._current.get().namespace).trusted_until = 0.0


def test_a_purge_whose_generation_was_evicted_empties_the_near_cache(
    server: Server, client: redis.Redis, ask: Ask
) -> None:
    values = iter([1.0, 2.0])
    model = FunctionModel(function=lambda _: Charges(charges=next(values)))
    decorator = made(server, model, near_cache=100)
    for _ in range(2):
        assert ask(decorator, person()) == Charges(charges=1.0)
    purge_elsewhere(client)
    client.delete(GENERATION)
    a_second_passes(decorator)
    assert ask(decorator, person()) == Charges(charges=2.0)


def test_a_prediction_that_began_before_another_created_the_generation_is_stored(
    server: Server, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = LookUps.request

    def request_after_another(look_ups: LookUps, call: Call) -> Any:
        monkeypatch.undo()
        made(server).predict(person(age=1))
        return request(look_ups, call)

    monkeypatch.setattr(LookUps, "request", request_after_another)
    decorator = made(server)
    assert outcomes(decorator, ask, person())[-1].fate == "stored"
    assert ask(decorator, person()) == charge(person())
    assert decorator.stats().hits == 1


def test_an_entry_that_was_found_before_there_was_a_generation_does_not_become_near(
    server: Server, client: redis.Redis, ask: Ask
) -> None:
    made(server).predict(person())
    client.delete(GENERATION)
    _barriers.clear()  # as in another process
    reader = made(server, near_cache=100)
    assert [one.near for one in outcomes(reader, ask, *[person()] * 3)] == [False, False, True]
    assert client.exists(GENERATION)


@pytest.mark.parametrize(("is_lost", "near_hits"), [(False, 4), (True, 0)])
def test_rows_of_another_process_become_near_unless_there_is_no_generation(
    server: Server, client: redis.Redis, is_lost: bool, near_hits: int
) -> None:
    for near in (None, 100):
        if is_lost:
            client.delete("doubled/1/generation")
        _barriers.clear()  # as in another process
        with Cache(server.url, timeout=5.0, near_cache=near) as cache:
            doubled = cache.memoize_rows(version="1", name="doubled")(
                lambda rows: [2 * row for row in rows]
            )
            for _ in range(3):
                assert doubled([1, 2]) == [2, 4]
    assert (doubled.stats().hits, doubled.stats().near_hits) == (6, near_hits)


@pytest.mark.parametrize("refreshes", [False, True])
@pytest.mark.parametrize("batch", [False, True])
def test_the_first_prediction_of_a_process_notices_a_purge_elsewhere(
    server: Server, client: redis.Redis, ask: Ask, refreshes: bool, batch: bool
) -> None:
    def model(_: Person) -> Charges:
        purge_elsewhere(client)
        return Charges(charges=1.0)

    decorator = made(server, FunctionModel(function=model))

    def predict() -> Any:
        return ask.many(decorator, [person()]) if batch else ask(decorator, person())

    if refreshes:
        with refresh():
            predict()
    else:
        predict()
    poll(lambda: entries(client) == [])


def test_a_purge_whose_generation_was_evicted_is_noticed_by_a_prediction_in_progress(
    server: Server, client: redis.Redis, ask: Ask
) -> None:
    def model(_: Person) -> Charges:
        purge_elsewhere(client)
        client.delete(GENERATION)
        return Charges(charges=1.0)

    decorator = made(server, FunctionModel(function=model))
    assert [one.fate for one in outcomes(decorator, ask, person())] == ["dropped"]
    poll(lambda: entries(client) == [])


@pytest.fixture
def read_only(client: redis.Redis) -> Iterator[None]:
    client.replicaof("127.0.0.1", str(free_port()))
    yield
    client.replicaof("no", "one")


def test_a_generation_that_can_not_be_created_is_tried_again_later(
    server: Server, client: redis.Redis, ask: Ask, read_only: None
) -> None:
    decorator = made(server)
    client.config_resetstat()
    began = time.perf_counter()
    seen = outcomes(decorator, ask, *[person()] * 5)
    assert [(one.kind, one.fate, one.store_error) for one in seen] == [
        ("miss", "write_failed", "READONLY")
    ] * 5
    tries = 1 + int(time.perf_counter() - began)  # at most one a second
    assert client.info("commandstats")["cmdstat_set"]["rejected_calls"] <= 5 + tries
    client.replicaof("no", "one")
    generation = inside(decorator)._look_ups.generations.of(decorator._current.get().namespace)
    assert generation.refused_until > time.perf_counter()
    generation.refused_until = 0.0
    assert [one.fate for one in outcomes(decorator, ask, person())] == ["stored"]
    assert client.exists(GENERATION)


@pytest.mark.parametrize("options", [{}, {"near_cache": 100}])
def test_a_generation_of_another_type_is_replaced(
    server: Server, client: redis.Redis, ask: Ask, options: dict[str, Any]
) -> None:
    client.rpush(GENERATION, "of another type")
    decorator = made(server, **options)
    for _ in range(3):
        ask(decorator, person())
    assert client.type(GENERATION) == b"string"
    assert decorator.stats().hits >= 1
    assert decorator.forget(person())


@pytest.mark.parametrize("options", [{}, {"near_cache": 100}])
def test_a_process_soon_notices_that_others_keep_changing_the_generation(
    server: Server, client: redis.Redis, ask: Ask, options: dict[str, Any]
) -> None:
    decorator = made(server, **options)
    fates: list[str | None] = []
    for age in range(6):
        client.set(GENERATION, f"{age:08}")  # as refreshes do if it is too long
        if options:
            a_second_passes(decorator)
        fates += [one.fate for one in outcomes(decorator, ask, person(age=age))]
    assert fates[2:] == ["stored"] * 4


def test_a_forget_replaces_a_generation_of_another_type(
    server: Server, client: redis.Redis
) -> None:
    decorator = made(server)
    decorator.predict(person())
    client.delete(GENERATION)
    client.hset(GENERATION, "of", "another type")
    assert decorator.forget(person())
    assert client.type(GENERATION) == b"string"


@pytest.mark.parametrize("options", [{}, {"near_cache": 100}, {"layout": "packed"}])
def test_what_another_process_began_before_a_refresh_does_not_replace_its_entry(
    server: Server, ask: Ask, options: dict[str, Any]
) -> None:
    value = 1.0

    def slow(_: Person) -> Charges:
        older = value
        refresh_here()
        return Charges(charges=older)

    def refresh_here() -> None:
        nonlocal value
        value = 2.0
        with refresh():
            assert here.predict(person()) == Charges(charges=value)

    options = {"expected_entries": 1000, **options} if "layout" in options else options
    here = made(server, FunctionModel(function=lambda _: Charges(charges=value)), **options)
    _barriers.clear()  # as in another process
    there = made(server, FunctionModel(function=slow), **options)
    assert ask(there, person()) == Charges(charges=1.0)
    time.sleep(0.01)  # an erased entry lives for a millisecond
    for process in (here, there):
        value = 2.0
        assert process.predict(person()) == Charges(charges=2.0)


def test_the_near_cache_of_another_process_drops_a_refreshed_entry(
    server: Server, ask: Ask
) -> None:
    value = 1.0
    model = FunctionModel(function=lambda _: Charges(charges=value))
    here = made(server, model, near_cache=100)
    _barriers.clear()  # as in another process
    there = made(server, model, near_cache=100)
    people = [person(age=age) for age in range(2)]
    for process in (here, there, there):
        process.predict_many(people)
    value = 2.0
    with refresh():
        ask(here, people[0])
    a_second_passes(there)
    assert [ask(there, each).charges for each in people] == [2.0, 1.0]
    assert there.stats().near_hits == 3


def test_many_refreshed_entries_are_stored_and_the_generation_stays_short(
    server: Server, client: redis.Redis, ask: Ask
) -> None:
    decorator = made(server, near_cache=1000)
    people = [person(age=age) for age in range(300)]
    with refresh():
        decorator.predict_many(people[:150])
        for each in people[150:]:  # too many for one generation
            ask(decorator, each)
    assert decorator.stats().stored == len(people)
    assert client.strlen(GENERATION) <= LONGEST


def test_a_login_without_append_may_refresh(server: Server, client: redis.Redis, ask: Ask) -> None:
    values = iter([1.0, 2.0])
    decorator = made(server, FunctionModel(function=lambda _: Charges(charges=next(values))))
    ask(decorator, person())
    client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all", "-append"])
    try:
        with refresh():
            ask(decorator, person())
    finally:
        client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all"])
    assert ask(decorator, person()) == Charges(charges=2.0)
    assert decorator.stats().stored == 2


@pytest.mark.parametrize("options", [{}, {"layout": "packed", "expected_entries": 10_000}])
def test_all_rows_of_a_large_table_are_stored_by_a_refresh(
    server: Server, client: redis.Redis, options: dict[str, Any]
) -> None:
    with Cache(server.url, timeout=5.0, **options) as cache:
        doubled = cache.memoize_rows(version="1", name="doubled")(
            lambda rows: [2 * row for row in rows]
        )
        rows = list(range(2500))
        for _ in range(3):
            with refresh():
                doubled(rows)
        assert doubled.stats().stored == 3 * len(rows)
        assert doubled(rows) == [2 * row for row in rows]
        assert doubled.stats().hits == len(rows)
    assert client.strlen("doubled/1/generation") <= LONGEST


def test_a_batch_that_refreshes_stores_what_it_may_beside_many_that_it_may_not(
    server: Server, client: redis.Redis
) -> None:
    decorator = made(server, cache_if=lambda data, _: data.age >= 100)
    people = [person(age=age) for age in range(120)]
    for _ in range(2):
        with refresh():
            decorator.predict_many(people)
    assert decorator.stats().stored == 2 * 20
    assert client.strlen(GENERATION) <= LONGEST


@pytest.mark.parametrize("near", [None, 1000])
def test_a_refresh_of_many_entries_overtakes_other_processes(
    server: Server, near: int | None, ask: Ask
) -> None:
    value = 1.0
    people = [person(age=age) for age in range(100)]

    def slow(_: Person) -> Charges:
        nonlocal value
        older, value = value, 2.0
        if older < value:
            with refresh():
                here.predict_many(people)
        return Charges(charges=older)

    here = made(server, FunctionModel(function=lambda _: Charges(charges=value)), near_cache=near)
    here.predict_many(people[1:])
    _barriers.clear()  # as in another process
    there = made(server, FunctionModel(function=slow), near_cache=near)
    for _ in range(2):
        there.predict_many(people[1:])
    assert ask(there, people[0]) == Charges(charges=1.0)
    time.sleep(0.01)  # an erased entry lives for a millisecond
    for process in (here, there):
        if near:
            a_second_passes(process)
        assert [each.charges for each in process.predict_many(people)] == [2.0] * len(people)


def test_a_batch_that_a_purge_elsewhere_has_overtaken_is_erased_in_one_request(
    server: Server, client: redis.Redis
) -> None:
    def model(data: Person) -> Charges:
        if data.age == 0:
            purge_elsewhere(client)
            client.config_resetstat()
        return Charges(charges=1.0)

    decorator = made(server, FunctionModel(function=model))
    decorator.predict_many([person(age=age) for age in range(100)])
    assert client.info("commandstats")["cmdstat_set"]["calls"] == 2 * 100
    assert client.info("stats")["total_reads_processed"] < 50
    poll(lambda: entries(client) == [])


def test_an_overtaken_entry_that_can_not_be_erased_is_not_served(
    server: Server, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([1.0, 2.0])

    def model(_: Person) -> Charges:
        purge_elsewhere(client)
        return Charges(charges=next(values))

    decorator = made(server, FunctionModel(function=model))
    predictor, asked = inside(decorator), []
    perform = predictor._perform

    def performed(effect: Effect) -> Any:
        asked.append(type(effect).__name__)
        if asked[-2:] == ["Ask", "Ask"]:  # the first has written the entry
            client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all", "-set"])
        return perform(effect)

    monkeypatch.setattr(predictor, "_perform", performed)
    try:
        assert decorator.predict(person()) == Charges(charges=1.0)
    finally:
        client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all"])
    assert asked == ["Ask", "Predict", "Ask", "Ask"]
    monkeypatch.undo()
    assert len(entries(client)) == 1
    assert decorator.predict(person()) == Charges(charges=2.0)


def test_an_overtaken_batch_is_erased_even_if_redis_refused_some_of_its_entries(
    server: Server, client: redis.Redis, ask: Ask
) -> None:
    people = [person(age=age) for age in range(3)]

    def allow(*keys: str) -> None:
        client.acl_setuser("default", enabled=True, nopass=True, reset_keys=True, keys=keys)

    def model(data: Person) -> Charges:
        if data is people[0]:
            purge_elsewhere(client)
            allow(GENERATION, *map(decorator.cache_key, people[:-1]))
        return charge(data)

    decorator = made(server, FunctionModel(function=model))
    try:
        ask.many(decorator, people)
    finally:
        allow("*")
    assert decorator.stats().write_failures == 3
    poll(lambda: entries(client) == [])


@pytest.mark.parametrize("second", [StoreUnavailableError, WriteRefusedError])
def test_a_batch_that_may_arrive_late_is_known_as_such_whatever_fails_next(
    second: type[StoreUnavailableError],
) -> None:
    decorator = RedisCachingDecorator(url=f"redis://127.0.0.1:{free_port()}").set_model(
        FunctionModel()
    )
    generation = Generation(decorator._current.get().namespace)
    writing, barrier = inside(decorator)._flow._writing, inside(decorator)._flow._barrier
    keys = [decorator.cache_key(person(age=age)).encode() for age in range(2)]
    writes = [Write(barrier.begin(key, barrier.epoch), b"{}", None, b"") for key in keys]
    steps = writing._set_unless_purged(generation, writes, Budget(1.0))
    next(steps)
    lost = StoreUnavailableError("connection lost", "connection")
    steps.throw(lost)
    with pytest.raises(StoreUnavailableError) as raised:
        steps.throw(second("circuit open after repeated failures", "circuit_open"))
    assert raised.value is lost
    barrier.purge(set(keys).__contains__, 0.0)
    assert all(map(barrier.distrusts, keys))


def test_an_overtaken_entry_is_erased_even_if_redis_is_full(
    server: Server, client: redis.Redis, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def model(data: Person) -> Charges:
        purge_elsewhere(client)
        return charge(data)

    decorator = made(server, FunctionModel(function=model))
    erase = Writing._erase

    def erase_when_full(*arguments: Any) -> Any:
        client.config_set("maxmemory", 1)
        return erase(*arguments)

    monkeypatch.setattr(Writing, "_erase", erase_when_full)
    try:
        ask(decorator, person())
    finally:
        client.config_set("maxmemory", 0)
    poll(lambda: entries(client) == [])


@pytest.mark.parametrize("batch", [False, True])
def test_a_refresh_is_stored_after_many_by_another_process(
    server: Server, ask: Ask, batch: bool
) -> None:
    here = made(server)
    _barriers.clear()  # as in another process
    there = made(server)
    for _ in range(3):
        with refresh():
            there.predict_many([person(age=age) for age in range(70)])
            if batch:
                ask.many(here, [person()])
            else:
                ask(here, person())
    assert here.stats().stored == 3


def test_rows_are_refreshed_after_many_by_another_process(server: Server) -> None:
    with Cache(server.url, timeout=5.0) as mine:
        _barriers.clear()  # as in another process
        with Cache(server.url, timeout=5.0) as others:
            here, there = [
                cache.memoize_rows(version="1", name="doubled")(
                    lambda rows: [2 * row for row in rows]
                )
                for cache in (mine, others)
            ]
            for _ in range(3):
                with refresh():
                    there(list(range(70)))
                    here([1])
        assert here.stats().stored == 3


@pytest.mark.parametrize("count", [1, 200])
def test_near_caches_learn_of_all_writes_that_were_erased(
    server: Server, client: redis.Redis, count: int
) -> None:
    def model(data: Person) -> Charges:
        if data.age == 0:
            purge_elsewhere(client)
        return Charges(charges=1.0)

    decorator = made(server, FunctionModel(function=model))
    people = [person(age=age) for age in range(count)]
    decorator.predict_many(people)
    now = client.get(GENERATION)
    assert isinstance(now, bytes)
    for each in people:
        mark = mark_of(decorator.cache_key(each).encode())
        assert is_outdated_nearby(mark, stamp_of(b"yet another"), now)
        assert not is_outdated(mark, b"yet another", now)


def test_nothing_is_stored_while_there_is_no_generation(server: Server) -> None:
    """Between two looks that find none, there may have been a purge that was evicted."""
    decorator = made(server, FunctionModel())
    look_ups = inside(decorator)._look_ups
    namespace = decorator._current.get().namespace
    look_ups.generations.of(namespace).refused_until = float("inf")  # Redis refuses to create it
    with record_outcomes() as told:
        for _ in range(2):
            decorator.predict(person())
    assert [each.fate for each in told] == ["dropped"] * 2

"""`purge()` and `refresh()` are barriers: no result from before is served after."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from contextvars import copy_context
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
from model_cache.prediction.barrier import Barrier, Computation
from tests.inside import inside
from tests.models import Charges, FunctionModel, Gate, Person, charge, person
from tests.servers import Server
from tests.stored import entries
from tests.waiting import poll

SECONDS = float(os.environ.get("PURGE_SECONDS", "3"))


def cached(server: Server, model: FunctionModel, **options: Any) -> Any:
    return RedisCachingDecorator(url=server.url, **options).set_model(model)


class Weights:
    """A model whose answer says which weights it was computed with."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, data: Person) -> Charges:
        return Charges(charges=self.number)


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize("decorators", [1, 2])
@pytest.mark.parametrize("write", ["foreground", "background"])
def test_no_older_answer_after_a_purge_under_load(
    server: Server, write: str, decorators: int
) -> None:
    weights = Weights()
    caches = [
        cached(server, FunctionModel(function=weights), write=write) for _ in range(decorators)
    ]
    older: list[str] = []
    purged, done = 0, threading.Event()

    def ask(number: int) -> int:
        count = 0
        while not done.is_set():
            least = purged
            answer = caches[number % decorators].predict(person(age=count % 5))
            if answer.charges < least:
                older.append(f"{answer.charges} after {least}")
            count += 1
        return count

    deadline = time.monotonic() + SECONDS / 4
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(ask, number) for number in range(6)]
        try:
            while time.monotonic() < deadline:
                weights.number += 1
                # Among so many busy threads, it may take seconds to open a connection for it.
                with suppress(StoreUnavailableError):
                    caches[0].purge()
                    purged = weights.number
                time.sleep(0.002)
        finally:
            done.set()
        count = sum(each.result() for each in asked)
    for cache in caches:
        cache.close()
    assert count > 100
    assert older == []


def test_a_reload_and_a_purge_leave_no_answer_of_the_old_model(server: Server) -> None:
    gate = Gate()
    old = FunctionModel(function=lambda data: gate(data) and Charges(charges=1.0))
    new = FunctionModel(function=lambda _: Charges(charges=2.0))
    cache = cached(server, old)
    with ThreadPoolExecutor(1) as pool:
        before = pool.submit(cache.predict, person())
        assert gate.entered.wait(10)
        cache.set_model(new)
        cache.purge()
        gate.go.set()
        assert before.result() == Charges(charges=1.0)
    assert cache.predict(person()) == Charges(charges=2.0)
    assert cache.predict(person()) == Charges(charges=2.0)


@pytest.mark.parametrize("purging", ["the same decorator", "another one"])
def test_a_prediction_computed_during_a_purge_is_not_shared_with_later_callers(
    server: Server, client: redis.Redis, purging: str
) -> None:
    gate = Gate()
    answers = iter([lambda data: gate(data) and Charges(charges=1.0)])
    model = FunctionModel(function=lambda data: next(answers, lambda _: Charges(charges=2.0))(data))
    cache = cached(server, model)
    other = cached(server, FunctionModel())
    with ThreadPoolExecutor(1) as pool:
        before = pool.submit(cache.predict, person())
        assert gate.entered.wait(10)
        (cache if purging == "the same decorator" else other).purge()
        assert cache.predict(person()) == Charges(charges=2.0)  # does not wait for the older one
        gate.go.set()
        assert before.result() == Charges(charges=1.0)
    assert cache.predict(person()) == Charges(charges=2.0)


def test_an_older_computation_does_not_overwrite_a_refreshed_entry(server: Server) -> None:
    gate = Gate()
    answers = iter([lambda data: gate(data) and Charges(charges=1.0)])
    model = FunctionModel(function=lambda data: next(answers, lambda _: Charges(charges=2.0))(data))
    cache = cached(server, model)
    with ThreadPoolExecutor(1) as pool:
        before = pool.submit(cache.predict, person())
        assert gate.entered.wait(10)
        with refresh():
            assert cache.predict(person()) == Charges(charges=2.0)
        gate.go.set()
        assert before.result() == Charges(charges=1.0)
    assert cache.predict(person()) == Charges(charges=2.0)
    assert cache.stats().hits == 1


def second_is_not_stored(server: Server) -> Any:
    """A cache that holds a model's first prediction, and must not store the second."""
    values = iter([1.0, 2.0, 3.0])
    model = FunctionModel(function=lambda _: Charges(charges=next(values)))
    cache = cached(server, model, cache_if=lambda _, made: made.charges != 2.0)
    cache.predict(person())
    return cache


def test_a_refreshed_prediction_that_must_not_be_stored_replaces_the_older_one(
    server: Server, client: redis.Redis
) -> None:
    cache = second_is_not_stored(server)
    with refresh():
        assert cache.predict(person()) == Charges(charges=2.0)
    poll(lambda: entries(client) == [])
    assert cache.predict(person()) == Charges(charges=3.0)


def test_a_key_is_trusted_again_when_its_entry_is_erased(server: Server) -> None:
    cache = second_is_not_stored(server)
    key, barrier = cache.cache_key(person()).encode(), cache._backend.barrier
    barrier.refresh_failed(key)
    assert barrier.distrusts(key)
    assert cache.predict(person()) == Charges(charges=2.0)
    assert not barrier.distrusts(key)


def test_a_refresh_that_must_not_be_stored_waits_for_an_older_write(
    server: Server, client: redis.Redis
) -> None:
    cache = second_is_not_stored(server)
    key, barrier = cache.cache_key(person()).encode(), cache._backend.barrier
    older = client.get(key)
    assert isinstance(older, bytes)
    writing = barrier.begin(key, barrier.epoch)
    assert barrier.may_write(writing)
    with ThreadPoolExecutor(1) as pool, refresh():
        refreshed = pool.submit(copy_context().run, cache.predict, person())
        wait([refreshed], timeout=0.1)
        client.set(key, older)
        barrier.end(writing)
        assert refreshed.result() == Charges(charges=2.0)
    poll(lambda: entries(client) == [])
    assert cache.predict(person()) == Charges(charges=3.0)
    cache.close()


def test_a_refresh_does_not_wait_for_an_older_write_for_ever(server: Server) -> None:
    cache = cached(server, FunctionModel(), timeout=0.2)
    key, barrier = cache.cache_key(person()).encode(), cache._backend.barrier
    writing = barrier.begin(key, barrier.epoch)
    assert barrier.may_write(writing)
    with refresh():
        assert cache.predict(person()) == charge(person())
    assert barrier.distrusts(key)
    barrier.end(writing)
    cache.close()


@pytest.mark.parametrize("batch", [False, True])
def test_no_older_entry_is_served_after_a_refresh_that_another_has_overtaken(
    server: Server, batch: bool
) -> None:
    gate = Gate()

    def refreshed() -> Any:
        with refresh():
            return cache.predict_many([person()])[0] if batch else cache.predict(person())

    def fail(_: Person) -> Charges:
        raise ZeroDivisionError

    answers: list[Callable[[Person], Charges]] = [fail, gate, lambda _: Charges(charges=1.0)]
    model = FunctionModel(
        function=lambda data: answers.pop()(data) if answers else Charges(charges=3.0)
    )
    cache = cached(server, model)
    assert cache.predict(person()) == Charges(charges=1.0)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(refreshed)
        assert gate.entered.wait(10)
        with pytest.raises(ZeroDivisionError):
            refreshed()
        gate.go.set()
        assert first.result() == charge(person())
    for _ in range(2):
        assert cache.predict(person()) == Charges(charges=3.0)
    assert cache.stats().hits == 1
    cache.close()


def test_a_refresh_is_written_before_it_returns(server: Server, client: redis.Redis) -> None:
    cache = cached(server, FunctionModel(), write="background")
    held = threading.Event()
    cache._backend.workers["write"].submit(lambda: held.wait(10))
    with refresh():
        cache.predict(person())
    assert len(entries(client)) == 1
    held.set()
    cache.close()


@pytest.fixture
def frozen() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.mark.parametrize("barrier", ["purge", "refresh"])
def test_a_write_that_arrives_after_the_barrier_is_not_served(frozen: Server, barrier: str) -> None:
    def freeze(_: Person) -> Charges:
        frozen.freeze()
        return Charges(charges=1.0)

    model = FunctionModel(function=freeze)
    cache = RedisCachingDecorator(url=frozen.url, timeout=0.2).set_model(model)
    cache.ping()  # so that the write waits for the answer, and not for a connection
    assert cache.predict(person()) == Charges(charges=1.0)
    assert cache.stats().write_failures == 1
    model._function = lambda _: Charges(charges=2.0)
    key = cache.cache_key(person())
    frozen.thaw()
    with frozen.client() as client:
        poll(lambda: client.exists(key) == 1)  # it is late
        late = client.get(key)
        if barrier == "purge":
            cache.purge()
        else:
            with refresh():
                assert cache.predict(person()) == Charges(charges=2.0)
        client.set(key, late)  # as one would be that is later still
        assert cache.predict(person()) == Charges(charges=2.0)


def test_no_older_row_is_served_after_a_refresh_of_a_large_table_failed(frozen: Server) -> None:
    factor = 1
    with Cache(frozen.url, timeout=0.5) as cache:

        @cache.memoize_rows(version="1", name="multiplied")
        def multiplied(rows: list[int]) -> list[int]:
            return [factor * row for row in rows]

        rows = list(range(1, 5_001))
        multiplied(rows)
        factor = 2
        frozen.freeze()
        with refresh():
            assert multiplied(rows) == [2 * row for row in rows]
        assert multiplied.stats().write_failures == len(rows)
        frozen.thaw()
        poll(lambda: multiplied([0]) == [0] and multiplied.stats().store == "closed")
        assert multiplied(rows) == [2 * row for row in rows]


def test_keys_are_trusted_again_when_no_write_can_be_late() -> None:
    now = 0.0
    barrier = Barrier(clock=lambda: now)
    computation = barrier.begin(b"key", barrier.epoch)
    assert barrier.may_write(computation)
    barrier.write_may_be_late(computation)
    barrier.end(computation)
    assert not barrier.distrusts(b"key")
    barrier.purge(lambda _: True, 0.0)
    assert barrier.distrusts(b"key")
    assert not barrier.distrusts(b"another key")
    barrier.refresh_failed(b"key")  # which a late write may follow as before
    barrier.replaced(b"key")
    assert barrier.distrusts(b"key")
    now = 61.0
    assert barrier.distrusts(b"key")  # until another answer has overwritten it
    barrier.replaced(b"key")
    assert not barrier.distrusts(b"key")


def test_a_purge_waits_for_writes_under_way_and_not_for_ever() -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    barrier = Barrier(clock=lambda: now, sleep=sleep)
    computation = barrier.begin(b"key", barrier.epoch)
    assert barrier.may_write(computation)
    barrier.purge(lambda _: True, 1.0)
    assert 1.0 <= now < 1.1
    assert not computation.is_valid
    assert computation.is_purged  # the writer erases the entry
    assert barrier.distrusts(b"key")


def test_a_computation_whose_binding_was_read_before_a_purge_is_overtaken() -> None:
    barrier = Barrier()
    epoch = barrier.epoch
    barrier.purge(lambda _: True, 0.0)
    assert not barrier.may_write(barrier.begin(b"key", epoch))
    assert barrier.may_write(barrier.begin(b"key", barrier.epoch))


def test_a_barrier_does_not_keep_dropped_computations_alive() -> None:
    barrier = Barrier()
    for _ in range(100):
        barrier.begin(b"key", barrier.epoch)
    assert len(barrier._computations) <= 1


def test_a_write_that_a_refresh_overtook_holds_up_writes_to_its_key_until_it_ends() -> None:
    barrier = Barrier()
    slow = barrier.begin(b"key", barrier.epoch)
    other = barrier.begin(b"other", barrier.epoch)
    assert not barrier.is_held_up(other)
    assert barrier.may_write(slow)
    fresh = barrier.begin(b"key", barrier.epoch, refreshes=True)
    assert barrier.is_held_up(fresh)
    assert not barrier.is_held_up(other)
    barrier.end(slow)
    assert not barrier.is_held_up(fresh)


def test_an_interrupted_write_holds_up_nothing() -> None:
    barrier = Barrier()
    interrupted = barrier.begin(b"key", barrier.epoch)
    assert barrier.may_write(interrupted)
    fresh = barrier.begin(b"key", barrier.epoch, refreshes=True)
    assert barrier.is_held_up(fresh)
    del interrupted
    assert not barrier.is_held_up(fresh)


def test_a_write_that_can_no_longer_be_late_is_forgotten() -> None:
    now = 0.0
    barrier = Barrier(clock=lambda: now)
    barrier.write_may_be_late(barrier.begin(b"early", barrier.epoch))
    now = 1_000_000.0
    barrier.write_may_be_late(barrier.begin(b"late", barrier.epoch))
    barrier.purge(lambda _: True, wait=0.0)
    assert not barrier.distrusts(b"early")
    assert barrier.distrusts(b"late")


def test_a_barrier_distrusts_a_bounded_number_of_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_cache.prediction.barrier._MOST_KEYS", 100)
    barrier = Barrier()
    for number in range(200):
        barrier.distrust(b"%d" % number)
    assert len(barrier.distrusted) == 100
    assert barrier.distrusts(b"199")


def test_late_writes_of_a_large_batch_are_all_distrusted_after_a_purge() -> None:
    now = 0.0
    barrier = Barrier(clock=lambda: now)
    keys = [b"%d" % number for number in range(5_000)]
    for key in keys:
        barrier.write_may_be_late(barrier.begin(key, barrier.epoch))
    barrier.purge(lambda _: True, wait=0.0)
    assert all(map(barrier.distrusts, keys))


def test_writes_that_can_no_longer_be_late_take_no_memory() -> None:
    now = 0.0
    barrier = Barrier(clock=lambda: now)
    for now in range(1_000):
        barrier.write_may_be_late(barrier.begin(b"%d" % now, barrier.epoch))
    assert len(barrier._late_writes) <= 61


def test_no_replica_is_read_after_more_changes_than_a_barrier_remembers() -> None:
    now = 0.0
    barrier = Barrier(clock=lambda: now)
    for number in range(4_096):
        barrier.replaces(b"%d" % number)
    assert barrier.replica_may_lag(b"0")
    assert not barrier.replica_may_lag(b"another key")
    barrier.replaces(b"one more")
    assert barrier.replica_may_lag(b"0")
    now = 61.0
    assert not barrier.replica_may_lag(b"0")


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("single_flight", ["process", "fleet"])
def test_callers_who_may_not_read_an_entry_share_its_replacement(
    server: Server, single_flight: str, batch: bool
) -> None:
    """They do not overtake each other: under load, nobody would ever write the entry."""
    begun, go, count = threading.Event(), threading.Event(), 0

    def model(data: Person) -> Charges:
        nonlocal count
        count += 1
        begun.set()
        assert go.wait(30)
        return Charges(charges=count)

    cache = cached(server, FunctionModel(function=model), single_flight=single_flight)

    def ask() -> float:
        [answer] = cache.predict_many([person()]) if batch else [cache.predict(person())]
        return float(answer.charges)

    go.set()
    assert ask() == 1
    inside(cache)._flow._barrier.refresh_failed(cache.cache_key(person()).encode())
    go.clear()
    begun.clear()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(ask)
        assert begun.wait(30)
        others = [pool.submit(ask) for _ in range(2)]
        time.sleep(0.1)  # they begin while the first one computes
        go.set()
        assert [each.result() for each in (first, *others)] == [2, 2, 2]
    hits = cache.stats().hits
    assert ask() == 2
    assert cache.stats().hits == hits + 1


@pytest.mark.parametrize("batch", [False, True])
def test_an_entry_that_may_not_be_read_is_erased_if_nothing_replaces_it(
    server: Server, client: redis.Redis, batch: bool
) -> None:
    may_store = True
    cache = cached(server, FunctionModel(), cache_if=lambda *_: may_store)
    cache.predict(person())
    may_store = False
    key = cache.cache_key(person())
    inside(cache)._flow._barrier.refresh_failed(key.encode())
    if batch:
        cache.predict_many([person()])
    else:
        cache.predict(person())
    poll(lambda: client.get(key) is None)


def test_a_row_that_may_not_be_read_is_replaced_before_the_answer(server: Server) -> None:
    with Cache(server.url, write="background") as cache:
        rows = cache.memoize_rows(version="1", name="rows")(lambda numbers: numbers)
        backend: Any = cache.backend
        backend.barrier.refresh_failed(rows.cache_keys([1])[0].encode())
        with record_outcomes() as outcomes:
            rows([1])
        assert [one.fate for one in outcomes] == ["stored"]


@pytest.mark.parametrize("batch", [False, True])
def test_an_entry_that_may_not_be_read_is_replaced_before_the_answer(
    server: Server, batch: bool
) -> None:
    cache = cached(server, FunctionModel(), write="background")
    inside(cache)._flow._barrier.refresh_failed(cache.cache_key(person()).encode())
    with record_outcomes() as outcomes:
        if batch:
            cache.predict_many([person()])
        else:
            cache.predict(person())
    assert [one.fate for one in outcomes] == ["stored"]


@pytest.mark.parametrize("change", ["refresh", "rows", "forget"])
def test_a_change_of_many_entries_scans_the_computations_in_progress_only_a_few_times(
    server: Server, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    looks = []

    def under_way(barrier: Barrier) -> list[Computation]:
        looks.append(len(barrier._computations))
        return look(barrier)

    look = Barrier._under_way
    with Cache(server.url, timeout=5.0) as cache:
        model = cache.model(FunctionModel())
        double = cache.memoize_rows(version="1", name="double")(lambda rows: [2 * n for n in rows])
        people, rows = [person(age=age) for age in range(500)], list(range(500))
        model.predict_many(people)
        double(rows)
        monkeypatch.setattr(Barrier, "_under_way", under_way)
        if change == "forget":
            assert double.forget(rows) == 500
        with refresh():
            if change == "refresh":
                model.predict_many(people)
            if change == "rows":
                double(rows)
    assert len(looks) < 20

"""Blocks that control predictions or record their outcomes."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import multiprocessing
import threading
import time
from collections.abc import Generator
from typing import Any

import pytest
import redis

from model_cache import Cache, Outcome, bypass, last_outcome, read_only, record_outcomes, refresh
from model_cache.prediction.backend import RedisBackend
from tests.models import Charges, FunctionModel, charge, person
from tests.observing.heard import made, outcome
from tests.servers import Server
from tests.stored import entries


def test_bypass_neither_reads_nor_writes(server: Server, client: redis.Redis) -> None:
    inner = FunctionModel()
    model = made(server, inner)
    with bypass():
        model.predict(person())
        assert outcome().kind == "bypass"
    assert entries(client) == []
    client.set(model.cache_key(person()), b'{"charges":1.0}')
    with bypass():
        assert model.predict(person()) != Charges(charges=1.0)
    assert model.predict(person()) == Charges(charges=1.0)
    assert len(inner.calls) == 2


class SlowKind:
    """An outcome whose kind takes long to read."""

    def __init__(self) -> None:
        self.asked, self.go = threading.Event(), threading.Event()

    @property
    def kind(self) -> str:
        self.asked.set()
        assert self.go.wait(30)
        return "hit"


def test_a_child_forked_while_another_thread_records_does_not_wait() -> None:
    def record(slow: SlowKind) -> None:
        slow.go = threading.Event()
        slow.go.set()
        recorded.add(made_up)

    slow, made_up = SlowKind(), Outcome("miss", "model", "1", 0.0)
    with record_outcomes() as outcomes:
        recorded: Any = outcomes
        recorded.add(slow)
        for _ in range(255):
            recorded.add(made_up)
        thread = threading.Thread(target=recorded.add, args=(made_up,))
        thread.start()
        assert slow.asked.wait(30)
        child = multiprocessing.get_context("fork").Process(target=record, args=(slow,))
        child.start()
        child.join(30)
        exit_code = child.exitcode
        child.kill()
        slow.go.set()
        thread.join()
    assert exit_code == 0


def test_a_bypassed_prediction_is_rounded_like_any_other(server: Server) -> None:
    inner = FunctionModel()
    model = made(server, inner, reduced_precision_fields=["bmi"], number_of_places=0)
    with bypass():
        model.predict(person(bmi=24.4))
    assert inner.calls[-1].bmi == 24.0


def test_refresh_computes_and_stores(server: Server, client: redis.Redis) -> None:
    inner = FunctionModel()
    model = made(server, inner)
    client.set(model.cache_key(person()), b'{"charges":1.0}')
    with refresh():
        answer = model.predict(person())
        assert (outcome().kind, outcome().refreshed, outcome().fate) == ("miss", True, "stored")
    assert answer != Charges(charges=1.0)
    assert model.predict(person()) == answer
    assert (outcome().kind, outcome().refreshed) == ("hit", False)
    assert len(inner.calls) == 1


class SlowAtFirst:
    """The first call waits for `go_on` and answers 1.0; the next one answers 2.0 at once."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self._answers = iter([1.0, 2.0])

    def __call__(self, data: Any) -> Charges:
        answer = next(self._answers)
        if answer == 1.0:
            self.begun.set()
            assert self.go_on.wait(10)
        return Charges(charges=answer)


def test_a_refresh_joins_no_flight_that_began_before_it(server: Server) -> None:
    slow = SlowAtFirst()
    model = made(server, FunctionModel(function=slow))
    leader = threading.Thread(target=model.predict, args=(person(),))
    leader.start()
    try:
        assert slow.begun.wait(10)
        with refresh():
            assert model.predict(person()) == Charges(charges=2.0)
    finally:
        slow.go_on.set()
        leader.join()


def test_the_innermost_block_counts_and_ends(server: Server) -> None:
    model = made(server)
    model.predict(person())
    with bypass():
        with refresh():
            model.predict(person())
            assert (outcome().kind, outcome().refreshed) == ("miss", True)
        model.predict(person())
        assert outcome().kind == "bypass"
    with pytest.raises(KeyError), bypass():
        raise KeyError
    model.predict(person())
    assert outcome().kind == "hit"


def test_threads_and_tasks_do_not_disturb_each_other(server: Server) -> None:
    model = made(server)
    model.predict(person())

    async def asks(kind: str) -> None:
        for _ in range(20):
            if kind == "bypass":
                with bypass():
                    model.predict(person())
                    await asyncio.sleep(0)
            else:
                model.predict(person())
                await asyncio.sleep(0)
            assert outcome().kind == kind

    async def both() -> None:
        await asyncio.gather(asks("bypass"), asks("hit"))

    asyncio.run(both())
    assert outcome().kind == "miss"  # this context's own

    heard: list[Outcome | None] = []
    thread = threading.Thread(target=lambda: heard.append(last_outcome()))
    thread.start()
    thread.join()
    assert heard == [None]


def test_outcomes_of_worker_threads_reach_the_recorder(server: Server) -> None:
    model = made(server)

    async def request() -> None:
        with record_outcomes() as outcomes:
            assert last_outcome() is None  # of this request
            await asyncio.to_thread(model.predict, person())
            assert outcome().kind == "miss"
            with refresh():
                await asyncio.to_thread(model.predict, person())
            await asyncio.to_thread(model.predict, person())
        assert [(one.kind, one.refreshed) for one in outcomes] == [
            ("miss", False),
            ("miss", True),
            ("hit", False),
        ]

    asyncio.run(request())


def test_a_task_that_outlives_a_block_leaves_it_behind(server: Server) -> None:
    model = made(server)
    kinds = []

    async def later(ended: asyncio.Event) -> None:
        await ended.wait()
        model.predict(person())
        kinds.append(outcome().kind)

    async def request() -> None:
        ended = asyncio.Event()
        with bypass(), record_outcomes() as outcomes:
            task = asyncio.create_task(later(ended))
            await asyncio.sleep(0)
        ended.set()
        await task
        assert len(outcomes) == 0

    asyncio.run(request())
    assert kinds == ["miss"]


def test_a_block_around_a_yield_ends_with_its_generator(server: Server) -> None:
    model = made(server)

    def generate() -> Generator[None]:
        with bypass():
            yield

    generator = generate()
    copied = contextvars.copy_context()
    copied.run(next, generator)
    generator.close()  # in another context
    copied.run(model.predict, person())
    assert copied.run(outcome).kind == "miss"


def test_each_recorder_around_records(server: Server) -> None:
    model = made(server)
    with record_outcomes() as outer:
        with record_outcomes() as inner:
            model.predict(person())
        model.predict(person())
        assert outcome().kind == "hit"
    assert [one.kind for one in inner] == ["miss"]
    assert [one.kind for one in outer] == ["miss", "hit"]
    assert outer[0:2] == list(outer)


def test_hits_are_dropped_first_from_many_outcomes(server: Server) -> None:
    model = made(server)
    with record_outcomes() as outcomes:
        for _ in range(300):
            model.predict(person())
    assert len(outcomes) == 256
    assert [one.kind for one in outcomes][:2] == ["miss", "hit"]


def test_a_thread_hears_of_its_own_prediction_first(server: Server) -> None:
    model = made(server)
    model.predict(person())
    both = threading.Barrier(2)

    def predict(age: int) -> str:
        model.predict(person(age=age))
        both.wait(10)
        return outcome().kind

    async def request() -> list[str]:
        with record_outcomes():
            return await asyncio.gather(*(asyncio.to_thread(predict, age) for age in (42, 43)))

    assert asyncio.run(request()) == ["hit", "miss"]


@pytest.mark.parametrize("near", [None, 100])
def test_read_only_serves_hits_and_stores_nothing(
    server: Server, client: redis.Redis, near: int | None
) -> None:
    inner = FunctionModel()
    model: Any = made(server, inner, near_cache=near, single_flight="fleet")
    model.predict(person())
    with read_only():
        for _ in range(2):
            assert model.predict(person()) == charge(person())
            assert (outcome().kind, outcome().near) == ("hit", near is not None)
        for _ in range(2):
            assert model.predict(person(age=50)) == charge(person(age=50))
            assert (outcome().kind, outcome().fate) == ("miss", None)
        assert model.store(person(age=50), charge(person())) is False
        assert model.lookup(person()) == charge(person())
        assert asyncio.run(model.apredict(person(age=50))) == charge(person(age=50))
    assert entries(client, "*1.0.0/*") == [model.cache_key(person()).encode()]
    assert len(inner.calls) == 4
    assert model.stats().misses == 4


def test_a_batch_in_read_only_stores_nothing(server: Server, client: redis.Redis) -> None:
    inner = FunctionModel()
    model = made(server, inner)
    model.predict(person())
    inputs = [person(), person(age=50), person(age=50), person(age=51)]
    with record_outcomes() as outcomes, read_only():
        assert model.predict_many(inputs) == list(map(charge, inputs))
    assert [(one.kind, one.fate) for one in outcomes] == [("hit", None), *[("miss", None)] * 3]
    assert len(entries(client)) == 1


def test_a_table_in_read_only_replaces_no_entry_that_may_be_too_old(
    server: Server, client: redis.Redis
) -> None:
    with Cache(server.url) as cache:
        counted, backend = itertools.count(), cache.backend
        assert isinstance(backend, RedisBackend)

        @cache.memoize_rows(version="1")
        def function(rows: list[float]) -> list[int]:
            return [next(counted) for _ in rows]

        function([1.0])
        key = function.cache_keys([1.0])[0]
        stored = client.get(key)
        backend.barrier.distrust(key.encode())
        with read_only():
            assert function([1.0]) == [1]
        assert client.get(key) == stored
        assert function([1.0]) == [2]
        assert client.get(key) != stored


def test_read_only_does_not_renew_stale_entries(server: Server, client: redis.Redis) -> None:
    values = iter([1.0, 2.0])

    def fails_in_the_end(_: Any) -> Charges:
        return Charges(charges=next(values, None) or 1 / 0)

    inner = FunctionModel(function=fails_in_the_end)
    model = made(server, inner, ttl=0.05, stale_while_revalidate=60, stale_if_error=60)
    model.predict(person())
    before = client.get(model.cache_key(person()))
    time.sleep(0.06)  # past its ttl
    with read_only():
        assert model.predict(person()) == Charges(charges=2.0)
        assert outcome().kind == "miss"
        assert model.predict(person()) == Charges(charges=1.0)
        assert outcome().kind == "stale"
    model.close()
    assert client.get(model.cache_key(person())) == before


def test_read_only_does_not_wait_for_others_and_nobody_waits_for_it(server: Server) -> None:
    slow = SlowAtFirst()
    model = made(server, FunctionModel(function=slow))

    def reads_only() -> Any:
        with read_only():
            return model.predict(person())

    found: list[Any] = []
    reader = threading.Thread(target=lambda: found.append(reads_only()))
    reader.start()
    try:
        assert slow.begun.wait(10)
        assert model.predict(person()) == Charges(charges=2.0)
    finally:
        slow.go_on.set()
        reader.join()
    assert found == [Charges(charges=1.0)]
    assert model.predict(person()) == Charges(charges=2.0)


def test_read_only_serves_no_entry_from_before_a_barrier(server: Server) -> None:
    model: Any = made(server)
    model.predict(person())
    key = model.cache_key(person()).encode()
    model._backend.barrier.distrust(key)
    with read_only():
        model.predict(person())
    assert outcome().kind == "miss"
    assert key in model._backend.barrier.distrusted

"""Predictions in event loops: what is awaited, shared, cancelled, closed, and warned of."""

from __future__ import annotations

import asyncio
import contextvars
import random
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from fastapi import FastAPI
from ml_base import MLModelDecorator

from model_cache import (
    Cache,
    ConfigurationError,
    RedisCachingDecorator,
    last_outcome,
    record_outcomes,
    refresh,
)
from model_cache.integrations.fastapi import add_model_cache
from model_cache.prediction.asynchronous import AsyncCachedPredictor
from model_cache.prediction.background_tasks import BackgroundTasks
from model_cache.prediction.effects import Effect, Pause, PredictMany
from tests.inside import inside, inside_loops
from tests.loops import MAKERS, run_in
from tests.models import Charges, FunctionModel, Gate, Person, charge, person
from tests.servers import Server
from tests.stored import entries
from tests.waiting import poll

Loop = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture(params=list(MAKERS.values()), ids=list(MAKERS))
def loop(request: pytest.FixtureRequest) -> Loop:
    make: Loop = request.param
    return make


def made(server: Server, model: Any = None, **options: Any) -> RedisCachingDecorator:
    decorator = RedisCachingDecorator(**{"url": server.url, "timeout": 5.0, **options})
    return decorator.set_model(model or FunctionModel())


class AsyncModel(FunctionModel):
    """Its own `predict` is a coroutine function; it computes when the event is set."""

    def __init__(self) -> None:
        super().__init__(qualified_name="async_model")
        self.go = asyncio.Event()
        self.threads: list[int] = []

    async def predict(self, data: Person) -> Charges:
        self.threads.append(threading.get_ident())
        self.calls.append(data)
        await self.go.wait()
        return charge(data)


class FreezingModel(FunctionModel):
    """Freezes the server, so that the write of what it predicted does not end."""

    def __init__(self, server: Server) -> None:
        super().__init__(qualified_name="freezing_model")
        self._server = server

    async def apredict(self, data: Person) -> Charges:
        self.calls.append(data)
        while len(self.calls) < 2:  # the look-up of the other needs the server
            await asyncio.sleep(0)
        self._server.freeze()
        return charge(data)


class TwofoldModel(FunctionModel):
    """A model for threads and for event loops."""

    def __init__(self) -> None:
        super().__init__(qualified_name="twofold_model")

    async def apredict(self, data: Person) -> Charges:
        self.calls.append("awaited")
        await asyncio.sleep(0)
        return charge(data)


def test_a_model_that_is_a_coroutine_is_awaited_and_cached(server: Server, loop: Loop) -> None:
    async def main() -> None:
        model = AsyncModel()
        model.go.set()
        async with made(server, model) as decorator:
            answers = [await decorator.apredict(person()) for _ in range(2)]
            assert answers == [charge(person())] * 2
            assert model.threads == [threading.get_ident()]
            assert decorator.stats().hits == 1

    run_in(loop, main())


def test_a_model_with_an_apredict_of_its_own_is_awaited(server: Server, loop: Loop) -> None:
    async def main() -> None:
        model = TwofoldModel()
        async with made(server, model) as decorator:
            assert await decorator.apredict(person()) == charge(person())
            assert model.calls == ["awaited"]

    run_in(loop, main())


class Around(MLModelDecorator):  # type: ignore[misc]  # ml-base is untyped
    """A decorator that knows nothing of coroutines."""

    def predict(self, data: Any) -> Any:
        return self._model.predict(data)


def test_a_decorator_in_between_that_returns_a_coroutine_is_awaited(server: Server) -> None:
    async def main() -> None:
        model = AsyncModel()
        model.go.set()
        async with made(server, Around().set_model(model)) as decorator:
            assert await decorator.apredict(person()) == charge(person())
            assert decorator.stats().stored == 1

    asyncio.run(main())


def test_the_hint_for_an_asynchronous_model_names_apredict(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        model = AsyncModel()
        model.go.set()
        async with made(server, model) as decorator:
            assert await decorator.predict(person()) == charge(person())
            assert await decorator.apredict(person()) == charge(person())
            assert decorator.stats().stored == 1

    asyncio.run(main())
    assert "the model is asynchronous; use `await model.apredict(data)`" in caplog.text


def test_another_model_runs_in_a_thread_with_the_context(server: Server, loop: Loop) -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")
    seen: list[tuple[str, int]] = []

    def function(data: Any) -> Charges:
        seen.append((tenant.get(), threading.get_ident()))
        return charge(data)

    async def main() -> None:
        async with made(server, FunctionModel(function=function)) as decorator:
            tenant.set("one")
            await decorator.apredict(person())
            assert seen[0][0] == "one"
            assert seen[0][1] != threading.get_ident()
            outcome = last_outcome()
            assert outcome is not None
            assert outcome.kind == "miss"

    run_in(loop, main())


def test_without_a_thread_to_be_had_it_predicts_all_the_same(server: Server) -> None:
    async def main() -> None:
        async with made(server) as decorator:
            await asyncio.get_running_loop().shutdown_default_executor()
            assert await decorator.apredict(person()) == charge(person())

    asyncio.run(main())


@pytest.mark.parametrize("many", [False, True])
def test_where_there_is_no_event_loop_it_predicts_without_the_cache(
    server: Server, many: bool
) -> None:
    decorator = made(server)
    for _ in range(2):  # as in trio, which runs coroutines without asyncio
        asked = decorator.apredict_many([person()]) if many else decorator.apredict(person())
        with pytest.raises(StopIteration) as ended:
            asked.send(None)
        assert ended.value.value == ([charge(person())] if many else charge(person()))
    assert decorator.stats().unavailable == 2
    assert decorator.predict(person()) == charge(person())


def test_a_cancelled_caller_ends_at_once_and_is_not_counted(server: Server, loop: Loop) -> None:
    gate = Gate()

    async def main() -> None:
        async with made(server, FunctionModel(function=gate)) as decorator:
            asked = asyncio.create_task(decorator.apredict(person()))
            await asyncio.to_thread(gate.entered.wait, 10)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            assert decorator.stats().predictions == 0
            gate.go.set()
            assert await decorator.apredict(person()) == charge(person())

    run_in(loop, main())


def test_predict_in_a_running_loop_warns_once_and_names_apredict(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        decorator = made(server)
        await asyncio.to_thread(decorator.predict, person())
        assert "apredict" not in caplog.text
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # which must fail no prediction
            for _ in range(3):
                assert decorator.predict(person()) == charge(person())
        await decorator.aclose()

    asyncio.run(main())
    assert caplog.text.count("await model.apredict(data)") == 1


def test_predict_in_a_notebook_does_not_warn(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        decorator = made(server)
        assert decorator.predict(person()) == charge(person())
        await decorator.aclose()

    monkeypatch.setitem(sys.modules, "ipykernel", sys)  # as in a kernel, whose cells run in a loop
    asyncio.run(main())
    assert caplog.text == ""


def test_of_many_tasks_on_one_key_one_computes(server: Server, loop: Loop) -> None:
    async def main() -> None:
        model = AsyncModel()
        async with made(server, model) as decorator:
            tasks = [asyncio.create_task(decorator.apredict(person())) for _ in range(100)]
            await until(lambda: model.calls)
            model.go.set()
            answers = await asyncio.gather(*tasks)
            assert answers == [charge(person())] * 100
            assert len({id(answer) for answer in answers}) == 100
            assert len(model.calls) == 1

    run_in(loop, main())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def followers(decorator: RedisCachingDecorator) -> int:
    landings = list(inside(decorator)._flow._flights._landings.values())
    return sum(len(landing._waiting) for landing in landings)


def test_a_leader_that_is_cancelled_fails_nobody_and_one_of_the_others_leads(
    server: Server, loop: Loop
) -> None:
    async def main() -> None:
        model = AsyncModel()
        async with made(server, model) as decorator:
            leader = asyncio.create_task(decorator.apredict(person()))
            await until(lambda: model.calls)
            others = [asyncio.create_task(decorator.apredict(person())) for _ in range(20)]
            await until(lambda: followers(decorator) == 20)
            leader.cancel()
            await until(lambda: len(model.calls) == 2)
            model.go.set()
            assert await asyncio.gather(*others) == [charge(person())] * 20
            assert leader.cancelled()
            assert len(model.calls) == 2
            assert decorator.stats().predictions == 20

    run_in(loop, main())


def test_flights_are_shared_with_threads_and_other_loops(server: Server) -> None:
    gate = Gate()
    model = FunctionModel(function=gate)
    decorator = made(server, model)

    async def ask() -> Any:
        return await decorator.apredict(person())

    with ThreadPoolExecutor(5) as pool:
        asking = [pool.submit(asyncio.run, ask())]
        assert gate.entered.wait(10)
        asking += [pool.submit(run_in, make, ask()) for make in MAKERS.values()]
        asking += [pool.submit(decorator.predict, person()) for _ in range(2)]
        poll(lambda: followers(decorator) == len(asking) - 1)
        gate.go.set()
        assert [each.result(10) for each in asking] == [charge(person())] * len(asking)
    assert len(model.calls) == 1
    decorator.close()


def test_a_leader_whose_loop_is_closed_keeps_nobody_waiting(server: Server) -> None:
    model = AsyncModel()
    decorator = made(server, model, single_flight_wait=60.0)
    abandoned = asyncio.new_event_loop()
    task = abandoned.create_task(decorator.apredict(person()))

    async def led() -> None:
        await until(lambda: model.calls)

    abandoned.run_until_complete(led())
    abandoned.close()

    async def main() -> None:
        model.go = asyncio.Event()
        model.go.set()
        async with asyncio.timeout(10):
            assert await decorator.apredict(person()) == charge(person())
        await decorator.aclose()

    asyncio.run(main())
    assert not task.done()
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_leader_whose_loop_has_stopped_keeps_nobody_waiting(server: Server, loop: Loop) -> None:
    model = FunctionModel(function=gated())
    decorator = made(server, model, single_flight_wait=60.0)
    stopped = loop()
    leader = stopped.create_task(decorator.apredict(person()))
    stopped.run_until_complete(until(lambda: model.calls))
    began = time.monotonic()
    assert decorator.predict(person()) == charge(person())
    assert time.monotonic() - began < 30.0
    assert stopped.run_until_complete(leader) == charge(person())
    stopped.close()
    decorator.close()


@pytest.mark.parametrize("leads_many", [False, True])
@pytest.mark.parametrize("asks_many", [False, True])
def test_who_blocks_a_loop_does_not_wait_for_its_tasks(
    server: Server, loop: Loop, leads_many: bool, asks_many: bool
) -> None:
    model = FunctionModel(function=gated())
    decorator = made(server, model, single_flight_wait=60.0)

    async def main() -> None:
        leads = decorator.apredict_many([person()]) if leads_many else decorator.apredict(person())
        leader = asyncio.ensure_future(leads)
        await until(lambda: model.calls)
        began = time.monotonic()
        if asks_many:
            assert decorator.predict_many([person()]) == [charge(person())]
        else:
            assert decorator.predict(person()) == charge(person())
        assert time.monotonic() - began < 30.0
        assert await leader in (charge(person()), [charge(person())])
        await decorator.aclose()

    run_in(loop, main())


def gated() -> Callable[[Person], Charges]:
    """Return a function whose first call ends after the second one has."""
    is_first, go = [True], threading.Event()

    def function(data: Person) -> Charges:
        if is_first.pop() if is_first else False:
            go.wait(90.0)
        go.set()
        return charge(data)

    return function


def test_a_caller_that_is_closed_with_its_loop_has_no_outcome(server: Server) -> None:
    """The garbage collector closes it, in whatever context runs."""
    told: list[object] = []
    model = FreezingModel(server)
    decorator = made(server, model, hooks=[told.append])
    abandoned = asyncio.new_event_loop()
    asked = [decorator.apredict(person()), decorator.apredict_many([person(age=2)])]
    tasks = [abandoned.create_task(each) for each in asked]

    def are_writing() -> bool:
        exchanges = inside_loops(decorator)._store._links._links[abandoned]._asked
        return len(model.calls) == 2 and sum(not each.future.done() for each in exchanges) == 2

    try:
        abandoned.run_until_complete(until(are_writing))
    finally:
        server.thaw()
    abandoned.close()
    for each in asked:
        contextvars.Context().run(closed_without_an_outcome, each)
    assert told == []
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]


def closed_without_an_outcome(coroutine: Any) -> None:
    coroutine.close()
    assert last_outcome() is None


def test_one_decorator_serves_one_loop_after_another(server: Server, loop: Loop) -> None:
    decorator = made(server)

    async def ask() -> None:
        for age in range(20):
            assert await decorator.apredict(person(age=age)) == charge(person(age=age))

    for _ in range(3):
        run_in(loop, ask())  # nothing is closed in between
    assert decorator.stats().hits == 40
    assert len(inside_loops(decorator)._store._links._links) == 1
    decorator.close()


def test_several_loops_in_several_threads_predict_at_once(server: Server) -> None:
    decorator = made(server)

    async def ask() -> int:
        wrong = 0
        for _ in range(10):
            ages = random.sample(range(100), 50)
            answers = await asyncio.gather(*(decorator.apredict(person(age=age)) for age in ages))
            wrong += answers != [charge(person(age=age)) for age in ages]
        return wrong

    with ThreadPoolExecutor(6) as pool:
        makers = [*MAKERS.values()] * (6 // len(MAKERS))
        assert [*pool.map(lambda make: run_in(make, ask()), makers)] == [0] * len(makers)
    assert decorator.stats().unavailable == 0
    decorator.close()


def test_thousands_of_cancelled_callers_leave_no_reply_to_others(
    server: Server, loop: Loop
) -> None:
    async def main() -> None:
        decorator, draw, wrong = made(server), random.Random(7), 0
        people = [person(age=age) for age in range(50)]
        await asyncio.gather(*map(decorator.apredict, people))

        async def ask(data: Person) -> None:
            nonlocal wrong
            answer = await decorator.apredict(data)
            wrong += answer != charge(data)

        for _ in range(100):
            tasks = [asyncio.create_task(ask(draw.choice(people))) for _ in range(50)]
            for _ in range(draw.randrange(4)):
                await asyncio.sleep(0)
            for task in draw.sample(tasks, 40):
                task.cancel()
            await asyncio.wait(tasks)
            assert all(task.cancelled() or task.exception() is None for task in tasks)
        assert wrong == 0
        assert (decorator.stats().unavailable, decorator.stats().store) == (0, "closed")
        await decorator.aclose()

    run_in(loop, main())


def test_aclose_writes_what_waits(server: Server, client: redis.Redis, loop: Loop) -> None:
    async def main() -> None:
        async with made(server, write="background") as decorator:
            with record_outcomes() as recorded:
                await asyncio.gather(*(decorator.apredict(person(age=age)) for age in range(50)))
            assert {one.fate for one in recorded} == {"queued"}

    run_in(loop, main())
    assert len(entries(client)) == 50


def test_jobs_in_the_background_are_bounded_and_drained() -> None:
    async def main() -> None:
        go, done = asyncio.Event(), []

        async def job() -> None:
            await go.wait()
            done.append(1)

        tasks = BackgroundTasks(max_jobs=3, max_bytes=100, drain_seconds=10)
        assert tasks.submit(job, 1000)  # alone, it may be large
        assert not tasks.submit(job, 1)
        go.set()
        await tasks.drain()
        go.clear()
        assert [tasks.submit(job, 10) for _ in range(5)] == [True] * 3 + [False] * 2
        go.set()
        await tasks.drain()
        assert len(done) == 4

    asyncio.run(main())


def test_a_job_that_takes_too_long_holds_up_no_shutdown(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise OSError("disk full")

    async def main() -> None:
        tasks = BackgroundTasks(drain_seconds=0.01)
        tasks.submit(asyncio.Event().wait)
        tasks.submit(fails)
        await tasks.drain()
        await until(lambda: not tasks._jobs[asyncio.get_running_loop()].sizes)

    asyncio.run(main())
    assert "disk full" in caplog.text


def test_purge_in_a_loop_does_not_wait_for_the_loops_own_writes(server: Server) -> None:
    async def main() -> None:
        async with made(server, write="background") as decorator:
            for age in range(20):
                await decorator.apredict(person(age=age))
                decorator.purge()
            await decorator._async_predictor.drain()
            decorator.purge()
            assert await decorator.apredict(person()) == charge(person())

    asyncio.run(asyncio.wait_for(main(), 10))


def test_the_lifespan_closes_the_connections_of_the_loop(
    server: Server, client: redis.Redis
) -> None:
    before = len(client.client_list())
    decorator = made(server, write="background")
    app = FastAPI()
    add_model_cache(app, decorator)

    async def main() -> None:
        async with app.router.lifespan_context(app):
            await decorator.apredict(person())
        await until(lambda: len(client.client_list()) == before)

    asyncio.run(main())
    assert len(entries(client)) == 1


def test_close_from_another_thread_closes_the_connections_of_a_loop(
    server: Server, client: redis.Redis, loop: Loop
) -> None:
    before = len(client.client_list())

    async def main() -> None:
        decorator = made(server)
        await decorator.apredict(person())
        await asyncio.to_thread(decorator.close)
        await until(lambda: len(client.client_list()) == before)
        assert await decorator.apredict(person()) == charge(person())
        assert decorator.stats().hits == 1
        await decorator.aclose()

    run_in(loop, main())


def test_a_dropped_decorator_closes_its_connections(
    server: Server, client: redis.Redis, loop: Loop
) -> None:
    before = len(client.client_list())

    async def main() -> None:
        decorator = made(server)
        await decorator.apredict(person())
        del decorator
        await until(lambda: len(client.client_list()) == before)

    run_in(loop, main())


class BatchModel(FunctionModel):
    """A model whose batches are awaited."""

    def __init__(self) -> None:
        super().__init__(qualified_name="async_batch_model")

    async def apredict_many(self, inputs: list[Person]) -> list[Charges]:
        self.calls.append(len(inputs))
        await asyncio.sleep(0)
        return [charge(data) for data in inputs]


def test_a_models_apredict_many_computes_the_misses(server: Server, loop: Loop) -> None:
    async def main() -> None:
        model = BatchModel()
        async with made(server, model, batch_equality="ignore") as decorator:
            await decorator.apredict(person(age=30))
            people = [person(age=30 + number) for number in range(5)]
            assert await decorator.apredict_many(people) == [charge(each) for each in people]
            assert model.calls[1:] == [4]

    run_in(loop, main())


def test_a_large_table_lets_its_loop_go_on(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    effects: list[Effect] = []
    perform = AsyncCachedPredictor._perform

    async def noting(predictor: AsyncCachedPredictor, effect: Effect) -> Any:
        effects.append(effect)
        return await perform(predictor, effect)

    async def double(rows: list[int]) -> list[int]:
        return [2 * row for row in rows]

    with Cache(server.url, timeout=5.0) as cache, refresh():
        doubled = cache.memoize_rows(version="1", name="doubled")(double)
        monkeypatch.setattr(AsyncCachedPredictor, "_perform", noting)
        asyncio.run(doubled(list(range(3500))))
    kinds = [type(effect) for effect in effects]
    # Once for each thousand rows, when their calls are made and when they begin.
    assert kinds[: kinds.index(PredictMany)].count(Pause) == 6


def test_many_inputs_are_read_lazily(server: Server, loop: Loop) -> None:
    taken: list[int] = []

    def people(count: int) -> Iterator[Person]:
        for number in range(count):
            taken.append(number)
            yield person(age=20 + number)

    async def async_people(count: int) -> AsyncIterator[Person]:
        for each in people(count):
            yield each

    async def main() -> None:
        async with made(server) as decorator:
            for inputs in (people(5), async_people(5)):
                taken.clear()
                answers = decorator.apredict_many(inputs, chunk_size=2)
                assert await anext(answers) == charge(person(age=20))
                assert taken == [0, 1]
                assert len([each async for each in answers]) == 4

    run_in(loop, main())


def test_a_chunk_holds_at_least_one_input(server: Server) -> None:
    with pytest.raises(ConfigurationError, match="chunk_size"):
        asyncio.run(made(server).apredict_many([], chunk_size=0))


def test_a_batch_takes_over_from_a_cancelled_caller(server: Server, loop: Loop) -> None:
    async def main() -> None:
        model = AsyncModel()
        async with made(server, model) as decorator:
            leading = asyncio.create_task(decorator.apredict(person()))
            await until(lambda: len(model.calls) == 1)
            batch = asyncio.create_task(decorator.apredict_many([person(), person(age=50)]))
            await until(lambda: len(model.calls) == 2)  # its own row
            model.go.set()
            leading.cancel()
            assert await batch == [charge(person()), charge(person(age=50))]

    run_in(loop, main())

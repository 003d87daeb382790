"""Outcomes of predictions, and the blocks that control them."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import functools
import logging
import pickle
import threading
import time
from collections.abc import Generator
from typing import Any

import pytest
import redis

from model_cache import (
    ConfigurationError,
    Outcome,
    RedisCachingDecorator,
    StoreUnavailableError,
    bypass,
    last_outcome,
    record_outcomes,
    refresh,
)
from model_cache.observing.events import EntryStored, Event, WriteFailed
from tests.models import Charges, FunctionModel, Person, charge, person
from tests.servers import Server, free_port

HEARD: list[Event] = []


def listen(event: Event) -> None:
    HEARD.append(event)


class Listener:
    """Given as a class, or by an import path to it, it is made by the decorator."""

    def __call__(self, event: Event) -> None:
        HEARD.append(event)


@pytest.fixture(autouse=True)
def _heard() -> None:
    HEARD.clear()


def outcome() -> Outcome:
    found = last_outcome()
    assert found is not None
    return found


def made(server: Server, model: FunctionModel, **options: Any) -> RedisCachingDecorator:
    return RedisCachingDecorator(url=server.url, timeout=1.0, **options).set_model(model)


class Loose(Person):
    """With a field that may hold what has no canonical form."""

    more: Any = None


NO_KEY = Loose(**person().model_dump(), more=iter(""))


def failing(data: Any) -> Charges:
    raise RuntimeError("no weights")


def test_a_miss_then_a_hit(server: Server) -> None:
    model = made(server, FunctionModel())
    model.predict(person())
    first = outcome()
    assert first[:3] == ("miss", "test_model", "1.0.0")
    assert first.fate == "stored"
    assert first.entry_bytes == len('{"charges":42024020.2}')
    assert 0 < first.model_seconds < first.seconds
    assert 0 < first.write_seconds < first.store_seconds < first.seconds

    model.predict(person())
    second = outcome()
    assert (second.kind, second.fate, second.model_seconds) == ("hit", None, 0)
    assert 0 < second.store_seconds < second.seconds
    assert second.entry_bytes == first.entry_bytes


def test_what_is_not_stored_says_why(server: Server, client: redis.Redis) -> None:
    for options, fate in (
        ({"cache_if": lambda *_: False}, "skipped"),
        ({"max_entry_bytes": 3}, "too_large"),
        ({"write": "background"}, "queued"),
    ):
        with made(server, FunctionModel(), prefix=fate, **options) as model:
            model.predict(person())
            assert (outcome().kind, outcome().fate) == ("miss", fate)
    client.config_set("maxmemory", "1")
    client.config_set("maxmemory-policy", "noeviction")
    try:
        model = made(server, FunctionModel(), prefix="full")
        model.predict(person())
    finally:
        client.config_set("maxmemory", "0")
    assert outcome().fate == "write_failed"


def test_an_undecodable_entry_is_a_miss(server: Server, client: redis.Redis) -> None:
    model = made(server, FunctionModel())
    client.set(model.cache_key(person()), b"\xc1nonsense")
    model.predict(person())
    assert (outcome().kind, outcome().undecodable) == ("miss", True)
    assert model.stats().undecodable == 1


def test_a_store_that_does_not_answer() -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    model = RedisCachingDecorator(url=url).set_model(FunctionModel())
    model.predict(person())
    assert (outcome().kind, outcome().store_error) == ("unavailable", "connection")
    raising = RedisCachingDecorator(url=url, on_error="raise").set_model(FunctionModel())
    with pytest.raises(StoreUnavailableError):
        raising.predict(person())
    assert (outcome().kind, outcome().model_seconds) == ("unavailable", 0)


def test_no_key_no_cache_and_a_failing_model(server: Server) -> None:
    made(server, FunctionModel()).predict(NO_KEY)
    assert outcome().kind == "uncacheable"
    made(server, FunctionModel(), enabled=False).predict(person())
    assert outcome().kind == "off"
    model = made(server, FunctionModel(function=failing))
    for data, asked in ((person(), "with"), (NO_KEY, "without")):
        with pytest.raises(RuntimeError, match="no weights") as caught:
            model.predict(data)
        assert outcome().kind == "error", asked
        assert caught.value.__context__ is None  # nothing of ours in the model's traceback
    assert model.stats().errors == 2


def test_stale(server: Server) -> None:
    inner = FunctionModel()
    model = made(server, inner, ttl=0.001, stale_if_error=60)
    model.predict(person())
    inner._function = failing
    time.sleep(0.01)
    model.predict(person())
    assert outcome().kind == "stale"
    with refresh(), pytest.raises(RuntimeError):
        model.predict(person())


def test_the_stats_are_the_sum_of_the_outcomes(server: Server) -> None:
    model = made(server, FunctionModel())
    for data in (person(), person(), person(age=3), NO_KEY):
        model.predict(data)
    with bypass():
        model.predict(person())
    stats = model.stats()
    counts = (stats.hits, stats.misses, stats.uncacheable, stats.bypassed)
    assert counts == (1, 2, 1, 1)
    assert stats.predictions == 5


def test_bypass_neither_reads_nor_writes(server: Server, client: redis.Redis) -> None:
    inner = FunctionModel()
    model = made(server, inner)
    with bypass():
        model.predict(person())
        assert outcome().kind == "bypass"
    assert client.dbsize() == 0
    client.set(model.cache_key(person()), b'{"charges":1.0}')
    with bypass():
        assert model.predict(person()) != Charges(charges=1.0)
    assert model.predict(person()) == Charges(charges=1.0)
    assert len(inner.calls) == 2


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


def test_a_refresh_joins_no_flight_that_began_before_it(server: Server) -> None:
    begun, go_on = threading.Event(), threading.Event()
    answers = iter([1.0, 2.0])

    def slow_at_first(data: Any) -> Charges:
        answer = next(answers)
        if answer == 1.0:
            begun.set()
            assert go_on.wait(10)
        return Charges(charges=answer)

    model = made(server, FunctionModel(function=slow_at_first))
    leader = threading.Thread(target=model.predict, args=(person(),))
    leader.start()
    try:
        assert begun.wait(10)
        with refresh():
            assert model.predict(person()) == Charges(charges=2.0)
    finally:
        go_on.set()
        leader.join()


def test_the_innermost_block_counts_and_ends(server: Server) -> None:
    model = made(server, FunctionModel())
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
    model = made(server, FunctionModel())
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


def test_outcomes_of_worker_threads_come_back_by_a_holder(server: Server) -> None:
    model = made(server, FunctionModel())

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
    model = made(server, FunctionModel())
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
    model = made(server, FunctionModel())

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
    model = made(server, FunctionModel())
    with record_outcomes() as outer:
        with record_outcomes() as inner:
            model.predict(person())
        model.predict(person())
        assert outcome().kind == "hit"
    assert [one.kind for one in inner] == ["miss"]
    assert [one.kind for one in outer] == ["miss", "hit"]
    assert outer[0:2] == list(outer)


def test_of_many_outcomes_hits_are_let_go_first(server: Server) -> None:
    model = made(server, FunctionModel())
    with record_outcomes() as outcomes:
        for _ in range(300):
            model.predict(person())
    assert len(outcomes) == 256
    assert [one.kind for one in outcomes][:2] == ["miss", "hit"]


def test_a_thread_hears_of_its_own_prediction_first(server: Server) -> None:
    model = made(server, FunctionModel())
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


def test_predictions_made_inside_a_hook_are_not_reported(server: Server) -> None:
    ages = iter(range(1000))
    model: RedisCachingDecorator

    def predicting(event: Event) -> None:
        HEARD.append(event)
        model.predict(person(age=next(ages)))

    model = made(server, FunctionModel(), hooks=[predicting])
    model.predict(person(bmi=30.0))
    assert len(HEARD) == 2
    model.predict(person(bmi=30.0))
    assert outcome().kind == "hit"


def test_callers_in_a_flight_do_not_wait_for_a_hook(server: Server) -> None:
    told, go_on = threading.Event(), threading.Event()

    def blocking(event: Event) -> None:
        if isinstance(event, Outcome) and event.kind == "miss":
            told.set()
            assert go_on.wait(10)

    model = made(server, FunctionModel(), hooks=[blocking], cache_if=lambda *_: False)
    first = threading.Thread(target=model.predict, args=(person(),))
    first.start()
    try:
        assert told.wait(10)
        second = made(server, FunctionModel(), cache_if=lambda *_: False)
        second._predictor._flow._flights = model._predictor._flow._flights
        assert second.predict(person()) == charge(person())
    finally:
        go_on.set()
        first.join()


def test_an_interrupted_prediction_is_not_counted_as_an_answer(server: Server) -> None:
    def interrupted(data: Any) -> Charges:
        raise KeyboardInterrupt

    model = made(server, FunctionModel(function=interrupted))
    with pytest.raises(KeyboardInterrupt), bypass():
        model.predict(person())
    with pytest.raises(KeyboardInterrupt):
        model.predict(person())
    assert model.stats().predictions == 0


def test_hooks_hear_each_prediction_and_each_write(server: Server) -> None:
    for hook in (listen, Listener, Listener(), f"{__name__}:listen", f"{__name__}:Listener"):
        HEARD.clear()
        with made(server, FunctionModel(), prefix=repr(hook), hooks=[hook]) as model:
            model.predict(person())
            model.predict(person())
        stored, miss, hit = HEARD
        assert isinstance(stored, EntryStored)
        assert (stored.model, stored.version) == ("test_model", "1.0.0")
        assert stored.seconds > 0
        assert isinstance(miss, Outcome)
        assert isinstance(hit, Outcome)
        assert (miss.kind, hit.kind) == ("miss", "hit")
        assert stored.entry_bytes == miss.entry_bytes == hit.entry_bytes


def test_hooks_hear_of_writes_in_the_background(server: Server) -> None:
    with made(server, FunctionModel(), write="background", hooks=[listen]) as model:
        model.predict(person())
    assert {type(event) for event in HEARD} == {Outcome, EntryStored}


def test_hooks_hear_what_is_logged(server: Server, client: redis.Redis) -> None:
    model = made(server, FunctionModel(), hooks=[listen])
    client.config_set("maxmemory", "1")
    try:
        model.predict(person())
    finally:
        client.config_set("maxmemory", "0")
    failed = HEARD[0]
    assert isinstance(failed, WriteFailed)
    assert (failed.model, failed.version, failed.kind) == ("test_model", "1.0.0", "OOM")


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit])
def test_no_error_of_a_hook_fails_a_prediction(server: Server, error: type[BaseException]) -> None:
    def raising(event: Event) -> None:
        raise error

    with made(server, FunctionModel(), hooks=[raising], write="background") as model:
        for age in range(3):
            model.predict(person(age=age))
    assert model.stats().stored == 3


def test_a_hook_that_raises_fails_nothing_and_is_logged_once(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    def raising(event: Event) -> None:
        raise OSError("disk full")

    model = made(server, FunctionModel(), hooks=[raising, listen])
    with caplog.at_level(logging.WARNING, logger="model_cache"):
        assert model.predict(person()) == model.predict(person())
    assert len(HEARD) == 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "OSError" in caplog.text


def test_what_a_hook_holds_is_not_logged(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    def sending(token: str, event: Event) -> None:
        raise OSError("no route")

    model = made(server, FunctionModel(), hooks=[functools.partial(sending, "s3cret")])
    model.predict(person())
    assert "functools.partial" in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        (["promtheus"], "did you mean 'prometheus'"),
        ("prometheus", "list"),
        ([f"{__name__}:nothing"], "can't import"),
        ([3], "function"),
        (["logging", "logging"], "twice"),
    ],
)
def test_a_bad_hook_is_a_configuration_error(hooks: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        RedisCachingDecorator(hooks=hooks)
    assert "hooks" in str(caught.value)


def test_a_copy_tells_the_same_hooks(server: Server) -> None:
    class Locked:
        def __init__(self) -> None:
            self.lock = threading.Lock()  # can't be copied
            self.heard: list[Event] = []

        def __call__(self, event: Event) -> None:
            with self.lock:
                self.heard.append(event)

    hook = Locked()
    copy.deepcopy(made(server, FunctionModel(), hooks=[hook])).predict(person())
    assert hook.heard


def test_hooks_survive_copies(server: Server) -> None:
    model = made(server, FunctionModel(), hooks=[f"{__name__}:listen"])
    for again in (copy.copy(model), copy.deepcopy(model)):
        HEARD.clear()
        again.predict(person())
        assert HEARD
    hooked = RedisCachingDecorator(url=server.url, hooks=[listen])
    HEARD.clear()
    pickle.loads(pickle.dumps(hooked)).set_model(FunctionModel()).predict(person())
    assert HEARD


def test_a_write_that_fails_says_why(server: Server, client: redis.Redis) -> None:
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1")
    try:
        made(server, FunctionModel()).predict(person())
    finally:
        client.config_set("maxmemory", "0")
    assert (outcome().fate, outcome().store_error) == ("write_failed", "OOM")

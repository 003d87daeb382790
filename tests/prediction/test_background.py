"""Background writes, and stale entries when the model fails."""

from __future__ import annotations

import _thread
import atexit
import gc
import logging
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import redis

from model_cache import ConfigurationError, RedisCachingDecorator, exits, last_outcome
from model_cache.prediction.background import BackgroundWriter, Together
from tests.inside import inside
from tests.models import Charges, FunctionModel, Person, charge, person
from tests.servers import Server, running_server
from tests.signals import signals_every
from tests.stored import entries
from tests.waiting import poll


def test_jobs_are_done_in_their_order_and_flush_waits_for_them() -> None:
    writer, done = BackgroundWriter(), list[int]()
    for number in range(500):
        assert writer.submit(partial(done.append, number))
    writer.flush()
    assert done == list(range(500))


@contextmanager
def held_up(writer: BackgroundWriter, done: list[Any] | None = None) -> Iterator[threading.Event]:
    """Keep the writer's thread at a job until the event is set, or the block ends."""
    begun, go = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        go.wait(10)
        if done is not None:
            done.append("waited")

    assert writer.submit(wait)
    assert begun.wait(10)
    try:
        yield go
    finally:
        go.set()
        assert writer.flush(10)


def test_too_many_jobs_are_not_taken_and_a_drop_forgets_them() -> None:
    writer, done = BackgroundWriter(max_jobs=3), list[Any]()
    with held_up(writer, done):
        taken = [writer.submit(lambda: done.append("dropped")) for _ in range(5)]
        assert taken == [True, True, True, False, False]
        writer.drop()
        assert writer.submit(lambda: done.append("later"))
    assert done == ["waited", "later"]


def test_jobs_of_too_many_bytes_are_not_taken() -> None:
    writer = BackgroundWriter(max_bytes=100)
    with held_up(writer):
        assert [writer.submit(int, 40) for _ in range(3)] == [True, True, False]
        assert writer.submit(int, 20)
        assert not writer.submit(int, 1)
        assert writer.submit(int)
        writer.drop()
        assert writer.submit(int, 1000)  # nothing else waits
        assert not writer.submit(int, 1)


def test_flush_after_a_drop_waits_for_the_job_under_way_alone() -> None:
    writer, done = BackgroundWriter(), list[Any]()
    with held_up(writer, done) as go:
        writer.submit(lambda: done.append("dropped"))
        writer.drop()
        assert not writer.flush(0.01)
        later = threading.Timer(0.05, go.set)
        later.start()
        assert writer.flush(10)
        assert done == ["waited"]
        later.join()


def test_flush_does_not_wait_for_what_is_submitted_meanwhile() -> None:
    writer, ended = BackgroundWriter(), threading.Event()

    def again() -> None:
        if not ended.is_set():
            writer.submit(again)

    writer.submit(again)
    assert writer.flush(10)
    ended.set()
    assert writer.flush(10)


def test_a_job_that_raises_does_not_stop_those_behind_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer, done = BackgroundWriter(), list[Any]()

    def exits() -> None:
        raise SystemExit

    with held_up(writer):
        writer.submit(exits)
        writer.submit(lambda: done.append("behind"))
    assert done == ["behind"]
    assert "Background job failed" in caplog.text


def test_without_a_thread_no_job_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    writer = BackgroundWriter()
    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", refuse)
        assert not writer.submit(int)
        assert writer.flush(0)
    assert writer.submit(int)
    assert writer.flush(10)


def test_flush_waits_no_longer_than_its_bound() -> None:
    writer = BackgroundWriter(flush_seconds=0.05)
    with held_up(writer):
        started = time.monotonic()
        assert not writer.flush()
        assert time.monotonic() - started < 5


class SoftTimeLimit(Exception):
    pass


def interrupted(call: Callable[[], Any], times: int) -> int:
    """Call it often, while a signal handler raises at any moment; return how often it did."""
    count, armed = 0, False

    def handler(signum: int, frame: object) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise SoftTimeLimit

    with signals_every(0.0002, handler):
        for _ in range(times):
            try:
                armed = True
                call()
                armed = False
            except SoftTimeLimit:
                count += 1
    return count


def assert_in_order(writer: BackgroundWriter) -> None:
    """Assert that as many jobs are taken, and done, as if nothing had happened."""
    done: list[int] = []
    assert writer.flush(10)
    with held_up(writer):
        for number in range(3):
            assert writer.submit(partial(done.append, number), 33)
        assert not writer.submit(int, 33)
    assert done == [0, 1, 2]


def test_interrupted_calls_leave_nothing_behind() -> None:
    writer = BackgroundWriter(max_jobs=3, max_bytes=100)

    def use() -> None:
        for _ in range(20):
            writer.submit(int, 30)
            writer.drop()
            writer.submit(int, 30)
        writer.flush(0.002)

    assert interrupted(use, 1000) > 0
    assert_in_order(writer)


def test_an_interrupted_start_of_the_thread_leaves_nothing_behind() -> None:
    count = 0
    while not count:  # a start takes less time than there is between two signals
        writers = [BackgroundWriter(max_jobs=3, max_bytes=100) for _ in range(200)]
        new = iter(writers)
        count = interrupted(lambda: next(new).submit(int, 30), len(writers))  # noqa: B023
    for writer in writers:
        assert_in_order(writer)


@pytest.mark.parametrize("starts", [False, True])
def test_an_interruption_of_the_start_itself_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, starts: bool
) -> None:
    start, ended = _thread.start_new_thread, threading.Event()

    def interrupted(function: Callable[[], object], arguments: tuple[()]) -> None:
        def run() -> None:
            function()
            ended.set()

        if starts:
            start(run, arguments)
        raise SoftTimeLimit

    writer = BackgroundWriter(max_jobs=3, max_bytes=100)
    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", interrupted)
        with pytest.raises(SoftTimeLimit):
            writer.submit(int)
    assert not starts or ended.wait(10)  # it is nobody's thread
    assert_in_order(writer)


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])  # the latter ends the thread
def test_a_log_that_raises_leaves_nothing_behind(error: type[BaseException]) -> None:
    def refuse(_: logging.LogRecord) -> bool:
        raise error

    def fails() -> None:
        raise ValueError

    writer = BackgroundWriter(max_jobs=3, max_bytes=100)
    logger = logging.getLogger("model_cache")
    logger.addFilter(refuse)
    try:
        assert writer.submit(fails)
        assert writer.flush(10)
    finally:
        logger.removeFilter(refuse)
    assert_in_order(writer)


def test_a_writer_that_is_dropped_leaves_nothing_behind() -> None:
    BackgroundWriter()  # the first one registers what all have in common
    handlers = atexit._ncallbacks()
    writers = [BackgroundWriter() for _ in range(200)]
    places = [place for place, one in exits._living.items() if one in writers]
    assert len(places) == 200
    dropped = [weakref.ref(writer) for writer in writers]
    del writers
    gc.collect()
    assert not any(writer() for writer in dropped)
    assert not any(place in exits._living for place in places)
    assert atexit._ncallbacks() == handlers


def test_a_miss_is_written_a_little_later(server: Server, client: redis.Redis) -> None:
    decorator = RedisCachingDecorator(url=server.url, timeout=2.0, write="background")
    decorator.set_model(FunctionModel())
    answer = decorator.predict(person())
    answer.charges = -1.0  # encoded before it was returned
    poll(lambda: len(entries(client)) == 1)
    assert decorator.predict(person()) == charge(person())
    assert decorator.stats().hits == 1


def gets(client: redis.Redis) -> int:
    """Return how many GETs the server has received."""
    found: dict[str, dict[str, int]] = client.info("commandstats")
    return found.get("cmdstat_get", {"calls": 0})["calls"]


def test_entries_that_wait_are_written_in_one_request(server: Server, client: redis.Redis) -> None:
    with RedisCachingDecorator(url=server.url, timeout=5.0, write="background") as decorator:
        decorator.set_model(FunctionModel())
        decorator.predict(person(age=0))
        decorator.close()
        with held_up(inside(decorator)._workers["write"]):
            for age in range(1, 41):
                decorator.predict(person(age=age))
            before = gets(client)
        decorator.close()
        # Each request with entries also reads the generation.
        assert gets(client) == before + 1
        assert decorator.stats().stored == len(entries(client)) == 41
        for age in range(41):
            assert decorator.predict(person(age=age)) == charge(person(age=age))
        assert decorator.stats().hits == 41


def test_the_entry_that_a_fleet_waits_for_is_written_at_once(server: Server) -> None:
    options: dict[str, Any] = {"write": "background", "single_flight": "fleet", "timeout": 5.0}
    with RedisCachingDecorator(url=server.url, **options) as decorator:
        decorator.set_model(FunctionModel()).predict(person())
        outcome = last_outcome()
        assert outcome is not None
        assert outcome.fate == "stored"


def test_jobs_for_one_place_are_done_together_up_to_another_place() -> None:
    writer, done = BackgroundWriter(), list[list[int]]()

    def act(items: Sequence[int]) -> None:
        done.append([*items])
        if 3 in items:
            raise ValueError

    with held_up(writer):
        for place, items in (("a", [1]), ("a", [2, 3]), ("b", [4]), ("a", [5]), ("a", [6] * 50)):
            assert writer.submit(Together(writer, place, act, items))
    assert done == [[1, 2, 3], [4], [5], [6] * 50]


def test_close_writes_what_waits(server: Server, client: redis.Redis) -> None:
    with RedisCachingDecorator(url=server.url, timeout=2.0, write="background") as decorator:
        decorator.set_model(FunctionModel())
        for age in range(200):
            decorator.predict(person(age=age))
    assert len(entries(client)) == 200


def test_a_purge_drops_what_waits() -> None:
    with running_server() as server:
        decorator = RedisCachingDecorator(url=server.url, write="background")
        decorator.set_model(FunctionModel())
        decorator.predict(person(age=0))
        decorator.close()
        with held_up(inside(decorator)._workers["write"]):
            for age in range(1, 20):
                decorator.predict(person(age=age))
            decorator.purge()
        decorator.close()
        with server.client() as client:
            assert entries(client) == []


def test_a_full_queue_drops_the_newest_and_counts_it(server: Server) -> None:
    decorator = RedisCachingDecorator(url=server.url, timeout=2.0, write="background")
    decorator.set_model(FunctionModel())
    inside(decorator)._workers["write"]._max_jobs = 5
    with held_up(inside(decorator)._workers["write"]):
        for age in range(8):
            assert decorator.predict(person(age=age)) == charge(person(age=age))
        assert decorator.stats().write_failures == 3
    decorator.close()
    assert decorator.stats().stored == 5


def test_the_end_of_the_process_writes_what_waits_and_is_not_held_up(
    server: Server, client: redis.Redis
) -> None:
    code = f"""
        from model_cache import RedisCachingDecorator
        from tests.models import FunctionModel, person
        decorator = RedisCachingDecorator(url={server.url!r}, timeout=2.0, write="background")
        decorator.set_model(FunctionModel())
        for age in range(100):
            decorator.predict(person(age=age))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=30)
    assert len(entries(client)) == 100


def test_a_forked_child_writes_its_own_and_only_its_own(
    server: Server, client: redis.Redis
) -> None:
    decorator = RedisCachingDecorator(url=server.url, timeout=2.0, write="background")
    decorator.set_model(FunctionModel())
    decorator.predict(person(age=1))
    child = os.fork()
    if child == 0:
        decorator.predict(person(age=2))
        decorator.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    decorator.close()
    assert len(entries(client)) == 2


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_of_multiprocessing_writes_what_waits_when_it_ends(
    server: Server, client: redis.Redis, method: str
) -> None:
    decorator = RedisCachingDecorator(url=server.url, timeout=5.0, write="background")
    decorator.set_model(FunctionModel())
    context: Any = multiprocessing.get_context(method)
    children = [context.Process(target=predict_many, args=(decorator, 100 * n)) for n in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert len(entries(client)) == 200


def predict_many(decorator: RedisCachingDecorator, first: int) -> None:
    for age in range(first, first + 100):
        decorator.predict(person(age=age))


class Flaky:
    def __init__(self) -> None:
        self.error: Exception | None = None

    def __call__(self, data: Person) -> Charges:
        if self.error is not None:
            raise self.error
        return charge(data)


def test_a_stale_entry_answers_only_if_the_model_raises(
    server: Server, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    flaky = Flaky()
    model = FunctionModel(function=flaky)
    decorator = RedisCachingDecorator(
        url=server.url, timeout=2.0, ttl=0.05, stale_if_error=100
    ).set_model(model)
    decorator.predict(person())
    assert 90_000 < client.pttl(decorator.cache_key(person())) <= 100_050
    poll(lambda: decorator.predict(person()) == charge(person()) and len(model.calls) > 1)
    calls = len(model.calls)
    time.sleep(0.06)  # past its ttl
    flaky.error = RuntimeError("the feature store is down")
    assert decorator.predict(person()) == charge(person())
    assert len(model.calls) == calls + 1
    assert decorator.stats().stale == 1
    assert "RuntimeError" in caplog.text
    with pytest.raises(RuntimeError, match="feature store"):
        decorator.predict(person(age=1))  # nothing stale to answer with
    flaky.error = None
    decorator.predict(person())
    assert len(model.calls) == calls + 3


def test_stale_entries_are_not_hits_for_other_decorators_either(server: Server) -> None:
    model = FunctionModel()
    RedisCachingDecorator(url=server.url, timeout=2.0, ttl=0.02, stale_if_error=100).set_model(
        model
    ).predict(person())
    time.sleep(0.03)  # past its ttl
    RedisCachingDecorator(url=server.url, timeout=2.0).set_model(model).predict(person())
    assert len(model.calls) == 2


def test_an_interruption_is_not_answered_with_what_is_stale(server: Server) -> None:
    flaky = Flaky()
    decorator = RedisCachingDecorator(url=server.url, timeout=2.0, ttl=0.02, stale_if_error=9)
    decorator.set_model(FunctionModel(function=flaky))
    decorator.predict(person())
    time.sleep(0.03)  # past its ttl
    flaky.error = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        decorator.predict(person())


def test_stale_if_error_needs_a_ttl() -> None:
    with pytest.raises(ConfigurationError, match="needs a ttl"):
        RedisCachingDecorator(stale_if_error=10)

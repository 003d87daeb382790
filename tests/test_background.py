"""Writing off the path, and answering with what is stale when the model fails."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable

import pytest
import redis

from model_cache import ConfigurationError, RedisCachingDecorator
from model_cache.background import BackgroundWriter
from tests.models import Charges, FunctionModel, Person, charge, person
from tests.servers import Server, running_server


def poll(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_jobs_are_done_in_their_order_and_flush_waits_for_them() -> None:
    writer, done = BackgroundWriter(), []
    for number in range(500):
        assert writer.submit(lambda number=number: done.append(number))  # type: ignore[misc]
    writer.flush()
    assert done == list(range(500))


def test_too_many_jobs_are_not_taken_and_a_drop_forgets_them() -> None:
    writer, go, done = BackgroundWriter(size=3), threading.Event(), []
    assert writer.submit(lambda: done.append(go.wait(10)))
    poll(lambda: writer._jobs.qsize() == 0)
    taken = [writer.submit(lambda: done.append(False)) for _ in range(5)]
    assert taken == [True, True, True, False, False]
    writer.drop()
    go.set()
    writer.flush()
    assert done == [True]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_is_followed_by_another() -> None:
    writer, done = BackgroundWriter(), []

    def dying() -> None:
        raise SystemExit

    writer.submit(dying)
    poll(lambda: not writer._has_thread)
    writer.submit(lambda: done.append(True))
    writer.flush()
    assert done == [True]


def test_without_a_thread_no_job_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    writer = BackgroundWriter()
    assert not writer.submit(lambda: None)
    started = time.monotonic()
    writer.flush()
    assert time.monotonic() - started < 1


def test_flush_waits_no_longer_than_its_bound() -> None:
    writer, go = BackgroundWriter(flush_seconds=0.05), threading.Event()
    writer.submit(lambda: go.wait(10))  # type: ignore[arg-type]
    started = time.monotonic()
    writer.flush()
    assert time.monotonic() - started < 5
    go.set()


def test_a_miss_is_written_a_little_later(server: Server, client: redis.Redis) -> None:
    decorator = RedisCachingDecorator(url=server.url, timeout=2.0, write="background")
    decorator.set_model(FunctionModel())
    answer = decorator.predict(person())
    answer.charges = -1.0  # encoded before it was returned
    poll(lambda: client.dbsize() == 1)
    assert decorator.predict(person()) == charge(person())
    assert decorator.stats().hits == 1


def test_close_writes_what_waits(server: Server, client: redis.Redis) -> None:
    with RedisCachingDecorator(url=server.url, timeout=2.0, write="background") as decorator:
        decorator.set_model(FunctionModel())
        for age in range(200):
            decorator.predict(person(age=age))
    assert client.dbsize() == 200


def test_a_purge_drops_what_waits() -> None:
    with running_server() as server:
        decorator = RedisCachingDecorator(url=server.url, timeout=5.0, write="background")
        decorator.set_model(FunctionModel())
        decorator.predict(person(age=0))
        decorator.close()
        go = threading.Event()
        decorator._predictor._writer.submit(lambda: go.wait(10))
        for age in range(1, 20):
            decorator.predict(person(age=age))
        decorator.purge()
        go.set()
        decorator.close()
        with server.client() as client:
            assert client.dbsize() == 0


def test_a_full_queue_drops_the_newest_and_counts_it(server: Server) -> None:
    decorator = RedisCachingDecorator(url=server.url, timeout=2.0, write="background")
    decorator.set_model(FunctionModel())
    go = threading.Event()
    decorator._predictor._writer._size = 5
    decorator._predictor._writer.submit(lambda: go.wait(10))
    poll(lambda: decorator._predictor._writer._jobs.qsize() == 0)
    for age in range(8):
        assert decorator.predict(person(age=age)) == charge(person(age=age))
    assert decorator.stats().write_failures == 3
    go.set()
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
    assert client.dbsize() == 100


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
    assert client.dbsize() == 2


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


def test_entries_with_a_time_are_no_hits_for_others_either(server: Server) -> None:
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

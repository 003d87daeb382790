"""The counts of all processes, in a hash beside their entries."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import redis

from model_cache import Cache, RedisCachingDecorator
from model_cache.errors import StoreUnavailableError
from model_cache.observing.counters import Counters
from model_cache.observing.outcome import Outcome
from model_cache.prediction.fleet_counts import counts
from model_cache.prediction.fleet_statistics import FleetStatistics
from tests.checkout import IMPORTS
from tests.models import FunctionModel, person
from tests.servers import Server, free_port, running_server
from tests.waiting import poll

KEY = b"test_model/1.0.0/stats"


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Server]:
    """A server of its own: decorators of other tests may still be sending their counts."""
    with running_server() as server:
        yield server


def made(server: Server, model: Any = None, **options: Any) -> RedisCachingDecorator:
    decorator = RedisCachingDecorator(url=server.url, **options)
    return decorator.set_model(model or FunctionModel())


def total(client: redis.Redis, key: bytes = KEY) -> Any:
    found: Any = client.hgetall(key)
    return counts(found)


def test_processes_add_up(server: Server, client: redis.Redis) -> None:
    for _ in range(3):
        with made(server) as model:
            for age in range(4):
                model.predict(person(age=age))
    found = total(client)
    assert (found.misses, found.hits, found.stored) == (4, 8, 4)
    assert found.seconds_saved != 0.0
    assert 0 < found.model_seconds < found.miss_seconds


def test_the_counts_are_those_of_stats(server: Server, client: redis.Redis) -> None:
    with made(server, near_cache=10, prefix="blue") as model:
        for _ in range(5):
            model.predict(person())
        model.predict_many([person(age=age) for age in range(10)])
        own = model.stats()
    found = total(client, b"blue/" + KEY)
    assert (found.hits, found.near_hits, found.misses) == (own.hits, own.near_hits, own.misses)
    assert found.batch_hits == own.batch_hits
    assert found.hit_seconds == pytest.approx(own.hit_seconds, abs=1e-6)
    assert found.model_seconds == pytest.approx(own.model_seconds, abs=1e-6)


def test_each_version_has_its_own_counts(server: Server, client: redis.Redis) -> None:
    with made(server) as model:
        model.predict(person())
        model.set_model(FunctionModel(version="2.0.0"))
        model.predict(person())
        model.predict(person())
        assert model.stats().misses == 2
    assert total(client).misses == 1
    newer = total(client, b"test_model/2.0.0/stats")
    assert (newer.misses, newer.hits) == (1, 1)


@pytest.mark.parametrize("near_cache", [None, 10])
def test_after_a_restart_on_a_full_cache_time_saved_is_right(
    server: Server, near_cache: int | None
) -> None:
    with made(server) as model:
        model.predict(person())
        own = model.stats().model_seconds
    with made(server, near_cache=near_cache) as model:
        for _ in range(5):
            model.predict(person())
        assert model.stats().seconds_saved == 0.0  # nothing is known yet
        model.close()
        stats = model.stats()
        assert stats.misses == 0
        assert stats.seconds_saved == pytest.approx(5 * own - stats.hit_seconds, abs=1e-4)
        assert stats.break_even is not None
        assert not stats.parts


def test_they_can_be_turned_off(server: Server, client: redis.Redis) -> None:
    with made(server, fleet_stats=False) as model:
        model.predict(person())
    assert not client.exists(KEY)
    with Cache(server.url, fleet_stats=False) as cache:
        cache.model(FunctionModel(version="off")).predict(person())
        cache.model(FunctionModel(version="on"), fleet_stats=True).predict(person())
    assert not client.exists("test_model/off/stats")
    assert client.exists("test_model/on/stats")


def test_a_purge_leaves_them_and_does_not_count_them(server: Server, client: redis.Redis) -> None:
    with made(server) as model:
        model.predict(person())
        model.close()
        assert model.purge() == 1
    assert total(client).misses == 1


@pytest.mark.parametrize("layout", [{}, {"layout": "packed", "expected_entries": 1000}])
def test_every_layout_has_them(server: Server, client: redis.Redis, layout: dict[str, Any]) -> None:
    with made(server, **layout) as model:
        model.predict(person())
    assert total(client).misses == 1


def test_the_end_of_a_process_sends_them(server: Server, client: redis.Redis) -> None:
    program = """
        from model_cache import RedisCachingDecorator
        from tests.models import FunctionModel, person

        model = RedisCachingDecorator(url={url!r}, timeout=5.0).set_model(FunctionModel())
        model.predict(person())
    """
    code = textwrap.dedent(program).format(url=server.url)
    environment = {**os.environ, "PYTHONPATH": IMPORTS}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)
    assert total(client).misses == 1


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_sends_its_own_and_only_its_own(server: Server, client: redis.Redis) -> None:
    with made(server) as model:
        model.predict(person())
        child = os.fork()
        if child == 0:
            try:
                model.predict(person())
                model.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert (total(client).misses, total(client).hits) == (0, 1)
    assert (total(client).misses, total(client).hits) == (1, 1)


def test_event_loops_send_them_when_they_close(server: Server, client: redis.Redis) -> None:
    async def predict_twice() -> None:
        async with made(server) as model:
            await model.apredict(person())
            await model.apredict(person())

    asyncio.run(predict_twice())
    assert (total(client).misses, total(client).hits) == (1, 1)


class Counting:
    """A store that only counts, on the test's command."""

    def __init__(self) -> None:
        self.added: list[Mapping[bytes, int]] = []
        self.errors: list[StoreUnavailableError] = []

    def add_counts(
        self, _: bytes, amounts: Mapping[bytes, int], timeout: float
    ) -> Mapping[bytes, bytes]:
        assert timeout == 1.0
        if self.errors:
            raise self.errors.pop()
        self.added.append(amounts)
        return {}


def joined(store: Any, interval: float = 60.0) -> tuple[FleetStatistics, Counters]:
    statistics, counters = FleetStatistics(store, 1.0, interval), Counters()
    statistics.join(counters, None)
    return statistics, counters


BYPASS = Outcome("bypass", "model", "1", 0.1)


def test_they_are_sent_after_a_while_by_a_thread_that_ends() -> None:
    store = Counting()
    _, counters = joined(store, 0.01)
    threads = threading.active_count()
    counters.count(BYPASS)
    poll(lambda: store.added == [{b"bypassed": 1}])
    counters.count(BYPASS)
    poll(lambda: store.added == [{b"bypassed": 1}] * 2)
    poll(lambda: threading.active_count() == threads)


def test_what_was_not_added_is_sent_later() -> None:
    store = Counting()
    statistics, counters = joined(store)
    store.errors.append(StoreUnavailableError("circuit open", "circuit_open"))
    counters.count(BYPASS)
    statistics.flush()
    assert store.added == []
    counters.count(BYPASS)
    statistics.flush()
    assert store.added == [{b"bypassed": 2}]


def test_what_may_have_been_added_is_not_sent_twice() -> None:
    store = Counting()
    statistics, counters = joined(store)
    store.errors.append(StoreUnavailableError("timed out", "timeout"))
    counters.count(BYPASS)
    statistics.flush()
    counters.count(BYPASS)
    statistics.flush()
    assert store.added == [{b"bypassed": 1}]


def test_an_unused_decorator_is_not_kept_alive(server: Server) -> None:
    own = FunctionModel()
    model = made(server, own)
    model.predict(person())
    references = weakref.ref(model), weakref.ref(own)
    del model, own
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_a_login_that_may_not_count_predicts_as_ever(
    server: Server, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    rules = ["reset", "on", ">secret", "~test_model/*", "+get", "+set"]
    admin: Any = client
    admin.execute_command("ACL", "SETUSER", "uncounted", *rules)
    try:
        with made(server, username="uncounted", password="secret") as model:
            with caplog.at_level(logging.INFO, "model_cache"):
                model.predict(person())
                model.close()
                model.predict(person())
                model.close()
            assert (model.stats().hits, model.stats().store) == (1, "closed")
    finally:
        admin.execute_command("ACL", "DELUSER", "uncounted")
    [record] = caplog.records
    assert "Fleet statistics not written" in record.getMessage()
    assert "NOPERM" in record.getMessage()


def test_without_redis_nothing_is_sent_and_nothing_fails() -> None:
    model = RedisCachingDecorator(url=f"redis://127.0.0.1:{free_port()}", timeout=0.1)
    with model.set_model(FunctionModel()):
        model.predict(person())
    assert model.stats().unavailable == 1


def test_foreign_values_in_the_hash_are_zeros() -> None:
    found = counts({b"hits": b"7", b"misses": b"-3", b"errors": b"x", b"stored": b"9" * 5000})
    assert (found.hits, found.misses, found.errors, found.stored) == (7, 0, 0, 0)

"""Never a failed prediction: the decorator on a Redis that refuses, hangs, dies or lies."""

from __future__ import annotations

import asyncio
import logging
import pickle
import time
from types import FrameType

import pytest
import redis

from model_cache import RedisCachingDecorator, StoreUnavailableError
from tests.models import Charges, FunctionModel, charge, person
from tests.servers import Server, free_port, running_server
from tests.signals import signals_every

SLACK = 0.5  # for a busy machine; what is bounded is the wait for the store


def predict_all(decorator: RedisCachingDecorator, count: int = 50) -> float:
    """Check each answer; return the longest time that one took, in seconds."""
    longest = 0.0
    for number in range(count):
        data = person(age=number % 20)
        started = time.monotonic()
        assert decorator.predict(data) == charge(data)
        longest = max(longest, time.monotonic() - started)
    return longest


def test_a_refused_port_fails_no_prediction(caplog: pytest.LogCaptureFixture) -> None:
    decorator = RedisCachingDecorator(host="127.0.0.1", port=free_port())
    decorator.set_model(FunctionModel())
    assert predict_all(decorator) < 0.1 + SLACK
    stats = decorator.stats()
    assert stats.unavailable == 50
    assert stats.store == "open"
    assert len(caplog.records) == 1
    assert "Redis unavailable" in caplog.text


def test_a_frozen_server_costs_the_timeout_and_then_next_to_nothing() -> None:
    with running_server() as server:
        decorator = RedisCachingDecorator(url=server.url, timeout=0.2).set_model(FunctionModel())
        predict_all(decorator)
        server.freeze()
        started = time.monotonic()
        assert predict_all(decorator) < 0.2 + SLACK
        assert time.monotonic() - started < 3 * 0.2 + 3 * SLACK
        server.thaw()
        wait_for_a_hit(decorator)
        decorator.close()


def wait_for_a_hit(decorator: RedisCachingDecorator) -> None:
    hits = decorator.stats().hits
    deadline = time.monotonic() + 5
    while decorator.stats().hits == hits:
        assert time.monotonic() < deadline
        predict_all(decorator, 20)
        time.sleep(0.02)


def test_a_server_that_dies_and_comes_back_is_used_again(caplog: pytest.LogCaptureFixture) -> None:
    with running_server() as server:
        decorator = RedisCachingDecorator(url=server.url).set_model(FunctionModel())
        predict_all(decorator)
        server.kill()
        predict_all(decorator)
        assert decorator.stats().store == "open"
        server.start()
        wait_for_a_hit(decorator)
        assert decorator.stats().store == "closed"
        decorator.close()
    messages = [record.message for record in caplog.records]
    assert len(messages) == 2
    assert "Redis unavailable" in messages[0]
    assert "Redis available again" in messages[1]


def test_a_server_that_is_down_at_the_start_is_found_later() -> None:
    port = free_port()
    decorator = RedisCachingDecorator(host="127.0.0.1", port=port).set_model(FunctionModel())
    predict_all(decorator)
    server = Server(port=port)
    try:
        wait_for_a_hit(decorator)
    finally:
        server.stop()


def test_on_error_raise_says_that_the_store_failed() -> None:
    model = FunctionModel()
    decorator = RedisCachingDecorator(host="127.0.0.1", port=free_port(), on_error="raise")
    decorator.set_model(model)
    kinds = set()
    for _ in range(10):
        with pytest.raises(StoreUnavailableError) as raised:
            decorator.predict(person())
        kinds.add(raised.value.kind)
    assert kinds == {"connection", "circuit_open"}
    assert model.calls == []
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.kind) == (str(raised.value), raised.value.kind)


def test_a_failing_write_fails_no_prediction_and_hits_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running_server() as server:
        decorator = RedisCachingDecorator(url=server.url, on_error="raise", timeout=1.0)
        decorator.set_model(FunctionModel())
        decorator.predict(person())
        with server.client() as client:
            client.config_set("maxmemory", "1")
        for age in range(10):
            assert decorator.predict(person(age=age)) == charge(person(age=age))
        assert decorator.predict(person()) == charge(person())
        stats = decorator.stats()
        assert (stats.hits, stats.write_failures, stats.store) == (1, 10, "read_only")
        decorator.close()
    assert len([r for r in caplog.records if "OOM" in r.message]) == 1


def test_a_read_only_server_still_answers_hits() -> None:
    with running_server() as server:
        decorator = RedisCachingDecorator(url=server.url, timeout=1.0).set_model(FunctionModel())
        decorator.predict(person())
        with server.client() as client:
            client.replicaof("127.0.0.1", str(free_port()))
        assert decorator.predict(person(age=1)) == charge(person(age=1))
        decorator.predict(person())
        stats = decorator.stats()
        assert (stats.hits, stats.write_failures, stats.store) == (1, 1, "read_only")
        decorator.close()


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"{",
        b'{"charges":"many"}',
        b'{"charges":null}',
        b"[1]",
        b"null",
        b"\x80",
        b"\x81\xa7charges\xa1x",
        b"\xc1",
        b"\xc1\x01\x01\x00\x00",
        b"\xc1\x02\x01\x00\x00{}",
        b"\xc1\x01\x63\x00\x00{}",
        b"\xc1\x01\x01\x63\x00{}",
        b"\x80\x04\x95garbage of a pickle.",
        b"\xff" * 1000,
    ],
)
def test_an_invalid_entry_is_a_miss_and_is_overwritten(
    decorator: RedisCachingDecorator, client: redis.Redis, entry: bytes
) -> None:
    decorator.set_model(FunctionModel())
    client.set(decorator.cache_key(person()), entry)
    assert decorator.predict(person()) == charge(person())
    assert decorator.stats().undecodable == 1
    assert decorator.predict(person()) == charge(person())
    assert decorator.stats().hits == 1


def test_a_key_of_another_type_is_a_miss_and_is_overwritten(
    decorator: RedisCachingDecorator, client: redis.Redis
) -> None:
    decorator.set_model(FunctionModel())
    client.hset(decorator.cache_key(person()), "a", "b")
    for _ in range(2):
        assert decorator.predict(person()) == charge(person())
    assert decorator.stats().hits == 1


def test_a_swapped_or_forged_entry_is_a_miss_with_integrity(
    server: Server, client: redis.Redis
) -> None:
    decorator = RedisCachingDecorator(url=server.url, key_secret="k", prefix="i")
    decorator.set_model(FunctionModel())
    for age in (1, 2):
        decorator.predict(person(age=age))
    keys = [decorator.cache_key(person(age=age)) for age in (1, 2)]
    first = client.get(keys[0])
    assert first is not None
    client.set(keys[1], first)
    assert decorator.predict(person(age=2)) == charge(person(age=2))
    client.set(keys[0], b'{"charges":0.0}')
    assert decorator.predict(person(age=1)) == charge(person(age=1))
    assert decorator.stats().undecodable == 2


class Interrupted(BaseException):
    pass


def test_an_interrupted_prediction_leaves_the_next_answer_ones_own(server: Server) -> None:
    decorator = RedisCachingDecorator(url=server.url)
    decorator.set_model(FunctionModel())
    predict_all(decorator, 20)
    armed = False

    def interrupt(_: int, frame: FrameType | None) -> None:
        if armed and frame is not None and "model_cache" in frame.f_code.co_filename:
            raise Interrupted

    interruptions = 0
    with signals_every(0.0007, interrupt):
        for number in range(5000):
            data = person(age=number % 20)
            answer: Charges | None = None
            try:
                armed = True
                answer = decorator.predict(data)
                armed = False
            except Interrupted:
                armed = False
                interruptions += 1
            assert answer is None or answer == charge(data)
    assert interruptions > 20
    assert predict_all(decorator) < 5.0


def test_a_signal_handler_may_predict_in_the_middle_of_a_prediction(server: Server) -> None:
    decorator = RedisCachingDecorator(url=server.url)
    decorator.set_model(FunctionModel())
    inner = []
    busy = False

    def predict_too(*_: object) -> None:
        nonlocal busy
        if not busy:  # one inside another is enough
            busy = True
            inner.append(decorator.predict(person()) == charge(person()))
            busy = False

    with signals_every(0.001, predict_too):
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            predict_all(decorator, 50)
    assert len(inner) > 20
    assert all(inner)


def test_nothing_is_logged_while_all_is_well(
    decorator: RedisCachingDecorator, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "model_cache"):
        decorator.set_model(FunctionModel())
        predict_all(decorator)
    assert not caplog.records


def test_hanging_writes_open_their_circuit_and_hits_go_on() -> None:
    with running_server() as server:
        decorator = RedisCachingDecorator(url=server.url, timeout=0.2).set_model(FunctionModel())
        decorator.predict(person())
        with server.client() as client:
            client.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
            started = time.monotonic()
            for age in range(30):
                assert decorator.predict(person(age=age)) == charge(person(age=age))
            assert time.monotonic() - started < 10 * 0.2 + SLACK
            hits = decorator.stats().hits
            decorator.predict(person())
            assert decorator.stats().hits == hits + 1
            client.execute_command("CLIENT", "UNPAUSE")
        decorator.close()


def test_a_logging_filter_that_raises_fails_no_prediction() -> None:
    def refuse(_: logging.LogRecord) -> bool:
        raise RuntimeError("no logging today")

    logger = logging.getLogger("model_cache")
    logger.addFilter(refuse)
    try:
        decorator = RedisCachingDecorator(host="127.0.0.1", port=free_port())
        decorator.set_model(FunctionModel())
        predict_all(decorator, 10)
        asyncio.run(in_a_loop(decorator))  # which logs that it blocks the loop
    finally:
        logger.removeFilter(refuse)


async def in_a_loop(decorator: RedisCachingDecorator) -> None:
    predict_all(decorator, 10)

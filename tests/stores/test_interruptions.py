"""An interruption anywhere in the store does no lasting harm and reaches the caller."""

from __future__ import annotations

import _thread
import contextlib
import gc
import linecache
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from model_cache import RedisCachingDecorator
from model_cache.errors import StoreUnavailableError
from model_cache.stores import access
from model_cache.stores import pool as pool_module
from model_cache.stores.breaker import CircuitBreaker
from model_cache.stores.cluster import ClusterStore
from model_cache.stores.connection import Connection
from model_cache.stores.opening import compose
from model_cache.stores.server import RedisStore
from model_cache.stores.url import parse_url
from tests.faults.topologies import running_node_behind_nat
from tests.models import FunctionModel, charge, person
from tests.servers import Server
from tests.signals import may_be_lost, signals_every
from tests.waiting import poll

# A signal that raises inside coverage leaves its lock held.
pytestmark = pytest.mark.no_cover

TIMEOUT = 5.0  # generous: the machine may be busy
FILES = ("/model_cache/stores/", "/model_cache/steps.py", "/threading.py", "/weakref.py")


class Interrupted(BaseException):
    """What Ctrl-C raises, or a worker's soft time limit."""


def can_be_interrupted(frame: FrameType) -> bool:
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    # What is raised in a finalizer is lost; and Python calls no signal handler between the end of
    # a `with` block and the release of its lock, where there is a line event.
    return frame.f_code.co_name not in ("close", "_remove") and "with " not in line


@contextmanager
def interrupted_at(number: int) -> Iterator[list[int]]:
    """Raise `Interrupted` in this thread before the line of that number; count the lines."""
    lines = [0]

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if not any(part in frame.f_code.co_filename for part in FILES):
            return None
        if event == "line":
            lines[0] += 1
            if lines[0] == number and can_be_interrupted(frame):
                raise Interrupted
        return trace

    before = sys.gettrace()
    with may_be_lost([Interrupted]):
        sys.settrace(trace)
        try:
            yield lines
        finally:
            sys.settrace(before)


def at_each_line(call: Callable[[], object]) -> int:
    """Interrupt a call once before each of its lines; return how many interruptions arrived."""
    arrived = number = 0
    while True:
        number += 1
        with interrupted_at(number) as lines:
            try:
                call()
            except Interrupted:
                arrived += 1
        if lines[0] < number:
            return arrived


def test_an_interruption_at_any_line_takes_up_no_connection_for_good(server: Server) -> None:
    store = RedisStore(parse_url("url", server.url), max_connections=2)
    store.set(b"key", b"entry", None, TIMEOUT)

    def opens_and_gets() -> None:
        store._pool.close_idle()
        store.get(b"key", TIMEOUT)

    assert at_each_line(opens_and_gets) > 50
    assert at_each_line(lambda: store.get(b"key", TIMEOUT)) > 20
    poll(lambda: store.get(b"key", TIMEOUT) == b"entry")
    store.close()


def test_an_interruption_at_any_line_does_no_harm_in_a_cluster() -> None:
    with running_node_behind_nat() as (server, announced):
        here = f"127.0.0.1:{server.port}"
        store = compose(
            parse_url("url", f"redis+cluster://{here}?replicas=true"),
            lambda _: None,
            timeout=TIMEOUT,
            address_map=access.address_map({announced: here}),
        )
        assert isinstance(store, ClusterStore)
        store.set(b"key", b"entry", None, TIMEOUT)

        def begins_and_gets() -> None:
            if store.cluster._refreshing is not None:
                store.cluster._refreshing.wait(TIMEOUT)
            store.cluster._slots, store.cluster._refreshed = [], -1e9
            store.get(b"key", TIMEOUT)

        assert at_each_line(begins_and_gets) > 100
        poll(lambda: store.get(b"key", TIMEOUT) == b"entry")
        assert store.state == "closed"
        store.close()


def test_threads_that_never_begin_count_for_a_while_only(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise Interrupted

    now = 100.0
    store = RedisStore(parse_url("url", server.url), clock=lambda: now)
    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", interrupted)
        for _ in range(10):
            with contextlib.suppress(Interrupted, StoreUnavailableError):
                store.get(b"key", 0.001)
    assert len(store._pool._openings) == pool_module._MOST_OPENING
    now += 2
    assert store.get(b"key", TIMEOUT) is None
    store.close()


def test_a_thread_that_can_not_be_started_fails_no_prediction(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with RedisCachingDecorator(url=server.url) as decorator:
        decorator.set_model(FunctionModel())
        with monkeypatch.context() as patch:
            patch.setattr(_thread, "start_new_thread", refused)
            assert decorator.predict(person()) == charge(person())
        assert decorator.stats().unavailable == 1


def test_an_interrupted_probe_is_followed_by_another() -> None:
    now = 100.0
    breaker = CircuitBreaker(lambda: now, lambda: 1.0, threshold=1)
    breaker.failed()

    def probe() -> None:
        nonlocal now
        now += 2
        assert breaker.allows()
        breaker.succeeded()
        breaker.failed()

    assert at_each_line(probe) > 10
    now += 2
    assert breaker.allows()


class SoftTimeLimitExceeded(Exception):
    """As Celery's: an Exception, unlike Ctrl-C."""


class LateError(TimeoutError):
    """One that looks like a failure of the socket."""


class Interrupt:
    """A signal handler that raises in the code of the stores, once each time it is armed."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.is_armed = False
        self.raised = 0
        self._kind = kind

    def __call__(self, _: int, frame: FrameType | None) -> None:
        inside = frame is not None and "/stores/" in frame.f_code.co_filename
        # What is raised in a finalizer that happens to run is lost.
        if self.is_armed and inside and frame is not None and frame.f_code.co_name != "close":
            self.is_armed = False
            self.raised += 1
            raise self._kind


@contextmanager
def no_cycles_through_connections() -> Iterator[None]:
    """Fail if connections in reference cycles wait for a collection, which may close them late.

    A collection may finalize the socket before the connection that would close it: a
    ResourceWarning.
    """
    gc.collect()
    gc.disable()
    try:
        before = number_of_connections()
        yield
        poll(lambda: number_of_connections() <= before)  # one may be opening
    finally:
        gc.enable()


def number_of_connections() -> int:
    return sum(type(each) is Connection for each in gc.get_objects())


@pytest.mark.parametrize("kind", [SoftTimeLimitExceeded, LateError, ConnectionError])
def test_soft_time_limits_reach_the_caller_and_are_no_failures(
    server: Server, kind: type[Exception]
) -> None:
    lost: list[object] = []
    store = compose(parse_url("url", server.url), lost.append, timeout=TIMEOUT, max_connections=2)
    keys = [b"key%d" % number for number in range(20)]
    for key in keys:
        store.set(key, key * 50, None, TIMEOUT)
    interrupt, arrived, number = Interrupt(kind), 0, 0
    with no_cycles_through_connections(), signals_every(0.0005, interrupt):
        while interrupt.raised < 1000:
            number += 1
            try:
                interrupt.is_armed = True
                found = store.get(keys[number % 20], TIMEOUT)
                interrupt.is_armed = False
            except kind:
                arrived += 1
            else:
                assert found == keys[number % 20] * 50
        store.close()
    assert (arrived, lost, store.state) == (interrupt.raised, [], "closed")

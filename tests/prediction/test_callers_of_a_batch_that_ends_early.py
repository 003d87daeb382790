"""Callers that wait for a row of a batch go on when the batch ends before it has computed it."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from types import FrameType
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from model_cache import RedisCachingDecorator
from tests.models import Charges, FunctionModel, Person, person
from tests.prediction.test_many import BatchModel, cached
from tests.prediction.test_single_flight import waiting_in
from tests.servers import Server
from tests.waiting import poll

# A signal that raises inside coverage leaves its lock held.
pytestmark = pytest.mark.no_cover

YOUNG, OLD = person(age=1), person(age=2)


class SoftTimeLimit(Exception):
    pass


def raise_soft_time_limit(signum: int, frame: FrameType | None) -> None:
    raise SoftTimeLimit


class Watched(BaseModel):
    """A prediction whose loading a test can watch."""

    charges: float

    @field_validator("charges")
    @classmethod
    def _tell(cls, value: float) -> float:
        if value == OLD.age:
            while_loading()
        return value


def nothing() -> None:
    pass


while_loading = nothing


def test_a_batch_interrupted_in_its_look_up_holds_nobody_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = FunctionModel(
        Person, Watched, lambda data: Watched.model_construct({"charges"}, charges=float(data.age))
    )
    cached(server, model).predict(OLD)
    cache = cached(server, model, single_flight_wait=60)
    with ThreadPoolExecutor(1) as pool:
        waiting: list[Future[Any]] = []

        def interrupt() -> None:
            """Raise a soft time limit once another caller waits for the batch's first row."""
            monkeypatch.setattr(f"{__name__}.while_loading", nothing)
            waiting.append(pool.submit(cache.predict, YOUNG))
            poll(lambda: waiting_in(cache) == 1)
            signal.raise_signal(signal.SIGUSR1)

        monkeypatch.setattr(f"{__name__}.while_loading", interrupt)
        before = signal.signal(signal.SIGUSR1, raise_soft_time_limit)
        try:
            with pytest.raises(SoftTimeLimit) as caught:
                cache.predict_many([YOUNG, OLD])
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert caught.value.__traceback__ is not None  # it still refers to the batch's frames
        assert waiting[0].result(5).charges == YOUNG.age


@pytest.mark.parametrize("kind", [FunctionModel, BatchModel])
def test_a_row_that_another_rows_error_left_out_is_computed_by_its_caller(
    server: Server, kind: Any
) -> None:
    entered, go = threading.Event(), threading.Event()

    def model(data: Person) -> Charges:
        if data == YOUNG:
            entered.set()
            assert go.wait(10)
            raise RuntimeError("too young")
        return Charges(charges=2.0)

    options = {"ttl": 0.05, "stale_if_error": 60, "single_flight_wait": 60}
    cached(server, kind(), **options).predict(OLD)
    time.sleep(0.1)  # past its ttl
    cache: RedisCachingDecorator = cached(server, kind(function=model), **options)
    with ThreadPoolExecutor(2) as pool:
        batch = pool.submit(cache.predict_many, [YOUNG, OLD])
        assert entered.wait(10)
        single = pool.submit(cache.predict, OLD)
        poll(lambda: waiting_in(cache) == 1)
        go.set()
        with pytest.raises(RuntimeError, match="too young"):
            batch.result()
        assert single.result() == Charges(charges=2.0)
    assert cache.stats().stale == 0


class Interrupted(BaseException):
    """What a signal handler raises."""


def test_a_batch_that_computes_an_interrupted_callers_row_waits_for_its_other_rows(
    server: Server,
) -> None:
    go, taken_over = threading.Event(), threading.Event()

    def function(data: Person) -> Charges:
        if data == OLD:
            assert taken_over.wait(10)
        elif not go.is_set():
            assert go.wait(10)
            raise Interrupted
        else:
            taken_over.set()
        return Charges(charges=data.age)

    model = FunctionModel(function=function)
    cache = cached(server, model, single_flight_wait=60)
    with ThreadPoolExecutor(3) as pool:
        interrupted, other = pool.submit(cache.predict, YOUNG), pool.submit(cache.predict, OLD)
        poll(lambda: len(model.calls) == 2)
        batch = pool.submit(cache.predict_many, [YOUNG, OLD])
        poll(lambda: waiting_in(cache) == 1)
        go.set()
        with pytest.raises(Interrupted):
            interrupted.result()
        assert batch.result() == [Charges(charges=YOUNG.age), Charges(charges=OLD.age)]
        assert other.result() == Charges(charges=OLD.age)
    assert model.calls.count(OLD) == 1

"""Hooks hear each prediction, each write and what is logged, and fail nothing."""

from __future__ import annotations

import asyncio
import copy
import functools
import logging
import pickle
import threading
from typing import Any

import pytest
import redis

from model_cache import ConfigurationError, Outcome, RedisCachingDecorator, bypass
from model_cache.observing.events import EntryStored, Event, WriteFailed
from tests.inside import inside
from tests.models import Charges, FunctionModel, charge, person
from tests.observing.heard import made, outcome
from tests.servers import Server
from tests.stored import full

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


def test_predictions_made_inside_a_hook_are_not_reported(server: Server) -> None:
    ages = iter(range(1000))
    model: RedisCachingDecorator

    def predicting(event: Event) -> None:
        HEARD.append(event)
        model.predict(person(age=next(ages)))

    model = made(server, hooks=[predicting])
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

    model = made(server, hooks=[blocking], cache_if=lambda *_: False)
    first = threading.Thread(target=model.predict, args=(person(),))
    first.start()
    try:
        assert told.wait(10)
        second = made(server, cache_if=lambda *_: False)
        inside(second)._flow._flights = inside(model)._flow._flights
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


def test_hooks_receive_each_prediction_and_each_write(server: Server) -> None:
    for hook in (listen, Listener, Listener(), f"{__name__}:listen", f"{__name__}:Listener"):
        HEARD.clear()
        with made(server, prefix=repr(hook), hooks=[hook]) as model:
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


def test_hooks_receive_writes_in_the_background(server: Server) -> None:
    with made(server, write="background", hooks=[listen]) as model:
        model.predict(person())
    assert {type(event) for event in HEARD} == {Outcome, EntryStored}


def test_hooks_receive_the_events_that_are_logged(server: Server, client: redis.Redis) -> None:
    model = made(server, hooks=[listen])
    with full(client):
        model.predict(person())
    failed = HEARD[0]
    assert isinstance(failed, WriteFailed)
    assert (failed.model, failed.version, failed.kind) == ("test_model", "1.0.0", "OOM")


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit])
def test_no_error_of_a_hook_fails_a_prediction(server: Server, error: type[BaseException]) -> None:
    def raising(event: Event) -> None:
        raise error

    with made(server, hooks=[raising], write="background") as model:
        for age in range(3):
            model.predict(person(age=age))
    assert model.stats().stored == 3


def test_a_hook_that_raises_fails_nothing_and_is_logged_once(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    def raising(event: Event) -> None:
        raise OSError("disk full")

    model = made(server, hooks=[raising, listen])
    with caplog.at_level(logging.WARNING, logger="model_cache"):
        assert model.predict(person()) == model.predict(person())
    assert len(HEARD) == 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "OSError" in caplog.text


def test_a_hooks_state_is_not_logged(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    def sending(token: str, event: Event) -> None:
        raise OSError("no route")

    model = made(server, hooks=[functools.partial(sending, "s3cret")])
    model.predict(person())
    assert "functools.partial" in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        (["promtheus"], "did you mean 'prometheus'"),
        ("prometheus", "list"),
        ([f"{__name__}:nothing"], "can't import"),
        ([3], "callable"),
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
    copy.deepcopy(made(server, hooks=[hook])).predict(person())
    assert hook.heard


def test_hooks_survive_copies(server: Server) -> None:
    model = made(server, hooks=[f"{__name__}:listen"])
    for again in (copy.copy(model), copy.deepcopy(model)):
        HEARD.clear()
        again.predict(person())
        assert HEARD
    hooked = RedisCachingDecorator(url=server.url, hooks=[listen])
    HEARD.clear()
    pickle.loads(pickle.dumps(hooked)).set_model(FunctionModel()).predict(person())
    assert HEARD


def test_a_write_that_fails_says_why(server: Server, client: redis.Redis) -> None:
    with full(client):
        made(server).predict(person())
    assert (outcome().fate, outcome().store_error) == ("write_failed", "OOM")

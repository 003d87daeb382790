"""`stale_while_revalidate`: stale entries answer at once while they are computed anew."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from model_cache import ConfigurationError, RedisCachingDecorator, last_outcome
from model_cache.observing.events import Event, RevalidationFailed
from tests.models import Charges, FunctionModel, Gate, Person, charge, person
from tests.servers import Server
from tests.waiting import poll

TTL = 0.1


class Counting:
    """A model that answers 1, 2, 3, ..., or waits or fails when it is told to."""

    def __init__(self) -> None:
        self.count = 0
        self.fails = False
        self.go = threading.Event()
        self.go.set()

    def __call__(self, _: Person) -> Charges:
        assert self.go.wait(10)
        if self.fails:
            raise RuntimeError
        self.count += 1
        return Charges(charges=self.count)


def cached(server: Server, model: Callable[[Any], Any], **options: Any) -> Any:
    options = {"ttl": TTL, "stale_while_revalidate": 60, "timeout": 5.0, **options}
    cache = RedisCachingDecorator(url=server.url, **options)
    return cache.set_model(FunctionModel(function=model))


def pass_the_ttl() -> None:
    time.sleep(1.2 * TTL)


def kind() -> str:
    outcome = last_outcome()
    assert outcome is not None
    return outcome.kind


@pytest.mark.parametrize("single_flight", ["process", "fleet", "off"])
def test_a_stale_entry_answers_at_once_and_is_computed_anew(
    server: Server, single_flight: str
) -> None:
    model = Counting()
    with cached(server, model, single_flight=single_flight, ttl=0.5) as cache:
        assert cache.predict(person()) == Charges(charges=1)
        time.sleep(0.55)
        model.go.clear()  # nobody waits for the model
        assert cache.predict(person()) == Charges(charges=1)
        assert kind() == "stale"
        model.go.set()
        poll(lambda: cache.stats().revalidated == 1)
        assert cache.predict(person()) == Charges(charges=2)
        assert kind() == "hit"


def test_one_caller_starts_the_computation(server: Server) -> None:
    model = Counting()
    with cached(server, model) as cache:
        cache.predict(person())
        pass_the_ttl()
        model.go.clear()
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(cache.predict, [person()] * 8))
        assert answers == [Charges(charges=1)] * 8
        model.go.set()
        poll(lambda: cache.stats().revalidated == 1)
        assert model.count == 2
        assert cache.stats().stale == 8


def test_an_error_of_the_model_leaves_the_stale_entry(server: Server) -> None:
    heard: list[Event] = []
    model = Counting()
    with cached(server, model, hooks=[heard.append]) as cache:
        cache.predict(person())
        pass_the_ttl()
        model.fails = True
        for _ in range(3):
            assert cache.predict(person()) == Charges(charges=1)
        poll(lambda: any(isinstance(event, RevalidationFailed) for event in heard))
        model.fails = False
        cache.predict(person())
        poll(lambda: cache.stats().revalidated == 1)
        assert cache.stats().errors == 0


def test_an_input_that_its_caller_changes_meanwhile_is_not_stored(server: Server) -> None:
    """Its answer belongs to another key."""
    go = threading.Event()
    go.set()

    def age(data: Person) -> Charges:
        assert go.wait(10)
        return Charges(charges=data.age)

    data = person(age=1)
    with cached(server, age) as cache:
        cache.predict(data)
        pass_the_ttl()
        go.clear()
        assert cache.predict(data) == Charges(charges=1)
        assert kind() == "stale"
        data.age = 2
        go.set()
    with cached(server, age) as cache:  # what ran in the background has ended
        assert cache.predict(person(age=1)) == Charges(charges=1)


def test_after_its_time_an_entry_answers_no_more(server: Server) -> None:
    with cached(server, Counting(), stale_while_revalidate=0.1, stale_if_error=60) as cache:
        cache.predict(person())
        time.sleep(0.25)
        assert cache.predict(person()) == Charges(charges=2)
        assert kind() == "miss"


def test_close_waits_for_what_is_being_computed(server: Server) -> None:
    cache = cached(server, Counting())
    cache.predict(person())
    pass_the_ttl()
    cache.predict(person())
    cache.close()
    assert cache.stats().revalidated == 1


def test_a_purge_overtakes_a_computation_in_the_background(server: Server) -> None:
    model = Counting()
    with cached(server, model) as cache:
        cache.predict(person())
        pass_the_ttl()
        model.go.clear()
        cache.predict(person())
        cache.purge()
        model.go.set()
        cache.close()
        assert cache.stats().revalidated == 0
        assert cache.predict(person()) == Charges(charges=3)


def test_an_input_that_its_caller_changes_meanwhile_harms_no_entry(server: Server) -> None:
    gate = Gate()
    gate.go.set()
    with cached(server, gate) as cache:
        cache.predict(person(age=1))
        pass_the_ttl()
        gate.entered.clear()
        gate.go.clear()
        data = person(age=1)
        assert cache.predict(data) == charge(person(age=1))
        assert gate.entered.wait(10)
        data.age = 99
        gate.go.set()
        cache.close()
        assert (cache.stats().stored, cache.stats().revalidated) == (1, 0)


def test_batches_answer_with_stale_entries_at_once(server: Server) -> None:
    model = Counting()
    people = [person(age=age) for age in range(5)]
    with cached(server, model) as cache:
        before = cache.predict_many(people)
        pass_the_ttl()
        model.go.clear()
        assert cache.predict_many(people) == before
        model.go.set()
        poll(lambda: cache.stats().revalidated == 5)


def test_it_needs_a_ttl() -> None:
    with pytest.raises(ConfigurationError, match="stale_while_revalidate: needs a ttl"):
        RedisCachingDecorator(stale_while_revalidate=60)

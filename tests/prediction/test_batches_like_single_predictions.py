"""A batch fails, waits and refreshes like single predictions, whatever the model does."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from model_cache import do_not_store, record_outcomes, refresh
from tests.models import Anything, Charges, Echo, FunctionModel, Person, charge, person
from tests.prediction.test_many import BatchModel, cached, charges
from tests.servers import Server

PEOPLE = [person(age=age) for age in range(20)]
A_WHILE = 5.0  # less than the 10 seconds for which a caller waits for another


def test_a_model_may_raise_stop_iteration(server: Server) -> None:
    def model(data: Person) -> Charges:
        if data.age == 3:
            raise StopIteration("no more")
        return charge(data)

    cache = cached(server, FunctionModel(function=model))
    answers = cache.predict_many(PEOPLE[:5], return_exceptions=True)
    assert isinstance(answers.pop(3), StopIteration)
    assert answers == charges([*PEOPLE[:3], PEOPLE[4]])
    with pytest.raises(StopIteration, match="no more"):
        cache.predict_many(PEOPLE[:5])
    with pytest.raises(RuntimeError, match="StopIteration"):  # as in any generator
        list(cache.predict_many(iter(PEOPLE[:5])))


def test_a_model_may_raise_a_runtime_error_caused_by_stop_iteration(server: Server) -> None:
    def model(_: Person) -> Charges:
        raise RuntimeError("mine") from StopIteration()

    cache = cached(server, FunctionModel(function=model))
    with pytest.raises(RuntimeError, match="mine"):
        cache.predict_many(PEOPLE[:2])


def unlike_any(_: Anything) -> Anything:
    return Anything(value=lambda: 1)


def large() -> Callable[[Anything], Anything]:
    numbers = iter(range(100))
    return lambda _: Anything(value=10**400 + next(numbers))


@pytest.mark.parametrize("model", [unlike_any, large()])
def test_answers_that_cannot_be_compared_are_returned(server: Server, model: Any) -> None:
    cache = cached(server, BatchModel(Anything, Anything, model))
    with warnings.catch_warnings(action="ignore"):
        answers = cache.predict_many([Anything(value=1), Anything(value=2)])
    assert len(answers) == 2


class DifferentModel(BatchModel):
    def predict_many(self, inputs: list[Any]) -> list[Any]:
        return [Charges(charges=-1) for _ in inputs]


class ShortModel(BatchModel):
    def predict_many(self, inputs: list[Any]) -> list[Any]:
        return charges(inputs)[1:]


@pytest.mark.parametrize("model", [DifferentModel, ShortModel])
def test_a_warning_that_is_an_error_fails_no_prediction(
    server: Server, model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cache = cached(server, model(qualified_name=model.__name__))
    with warnings.catch_warnings(action="error"):
        assert len(cache.predict_many(PEOPLE)) == 20
    assert "predict_many" in caplog.text


def test_a_batch_waits_for_others_no_longer_than_a_single_prediction(server: Server) -> None:
    may_answer, leads = threading.Event(), threading.Event()

    def model(data: Person) -> Charges:
        if threading.current_thread() is not threading.main_thread():
            leads.set()
            may_answer.wait(30)
        return charge(data)

    cache = cached(server, BatchModel(function=model), single_flight_wait=0.2)
    with ThreadPoolExecutor(1) as pool, record_outcomes() as outcomes:
        slow = pool.submit(cache.predict_many, PEOPLE)
        leads.wait()
        assert cache.predict_many(PEOPLE) == charges(PEOPLE)
        may_answer.set()
        slow.result()
    assert sum(outcome.seconds for outcome in outcomes[:20]) < A_WHILE


def test_a_model_may_ask_its_own_cache_while_it_answers_a_batch(server: Server) -> None:
    class Recursive(BatchModel):
        def predict(self, data: Person) -> Charges:
            if data.age > 0:
                cache.predict(person(age=data.age - 1))
            return charge(data)

    cache = cached(server, Recursive(qualified_name="recursive"))
    with record_outcomes() as outcomes:
        assert cache.predict_many(PEOPLE[:4]) == charges(PEOPLE[:4])
    assert sum(outcome.seconds for outcome in outcomes) < A_WHILE


def test_an_input_without_a_key_may_ask_for_another_one_of_the_batch(server: Server) -> None:
    def model(data: Anything) -> Echo:
        if callable(data.value):
            cache.predict(Anything(value=1))
        return Echo(text=str(data.value)[:5])

    cache = cached(server, FunctionModel(Anything, Echo, model))
    with record_outcomes() as outcomes:
        answers = cache.predict_many([Anything(value=len), Anything(value=1)])
    assert [answer.text for answer in answers] == ["<buil", "1"]
    assert sum(outcome.seconds for outcome in outcomes) < A_WHILE


@pytest.mark.parametrize("near_cache", [None, 100])
def test_a_refresh_that_stores_nothing_erases_the_older_entries(
    server: Server, near_cache: int | None
) -> None:
    value = 1.0

    def model(_: Person) -> Charges:
        if value == 2.0:
            do_not_store()
        return Charges(charges=value)

    cache = cached(server, FunctionModel(function=model), near_cache=near_cache)
    cache.predict_many(PEOPLE)
    value = 2.0
    with refresh():
        cache.predict_many(PEOPLE)
    value = 3.0
    assert cache.predict_many(PEOPLE) == [Charges(charges=3.0)] * 20

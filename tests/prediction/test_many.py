"""`predict_many`: the answers of `predict` with one lookup, one model call and one write."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from pydantic import BaseModel

from model_cache import (
    ConfigurationError,
    RedisCachingDecorator,
    StoreUnavailableError,
    bypass,
    do_not_store,
    record_outcomes,
    refresh,
)
from model_cache.prediction.veto import is_inside_a_flight
from tests.models import Anything, Charges, Echo, FunctionModel, Person, charge, person
from tests.servers import Server, free_port
from tests.stored import entries

PEOPLE = [person(age=age) for age in range(20)]


class BatchModel(FunctionModel):
    """A model that takes many inputs at once."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"qualified_name": "batch_model", **options})
        self.batches: list[list[Any]] = []

    def predict_many(self, inputs: list[Any]) -> list[Any]:
        self.batches.append(list(inputs))
        return [self._function(data) for data in inputs]


def cached(server: Server, model: FunctionModel, **options: Any) -> Any:
    return RedisCachingDecorator(url=server.url, **options).set_model(model)


def charges(inputs: list[Person]) -> list[Charges]:
    return [charge(data) for data in inputs]


@pytest.mark.parametrize("kind", [FunctionModel, BatchModel])
def test_the_answers_are_those_of_predict_in_order(server: Server, kind: Any) -> None:
    cache = cached(server, kind())
    mixed = [PEOPLE[5], *PEOPLE[::-1], PEOPLE[5]]
    for _ in range(2):
        assert cache.predict_many(mixed) == charges(mixed)
    assert [cache.predict(data) for data in mixed] == charges(mixed)
    stats = cache.stats()
    assert (stats.misses, stats.shared, stats.hits) == (20, 2, 44)
    assert stats.stored == 20


def test_the_model_is_called_once_for_what_is_missing(server: Server) -> None:
    model = BatchModel()
    cache = cached(server, model, batch_equality="ignore")
    cache.predict_many(PEOPLE[:10])
    cache.predict_many(PEOPLE)
    assert model.batches == [PEOPLE[:10], PEOPLE[10:]]
    assert model.calls == []


def test_each_answer_is_an_object_of_its_own(server: Server) -> None:
    cache = cached(server, FunctionModel())
    same = [person()] * 3
    for _ in range(2):
        answers = cache.predict_many(same)
        answers[0].charges = -1
        assert answers[1:] == charges(same[1:])


def test_entries_are_read_and_written_by_one_request_each(
    server: Server, client: redis.Redis
) -> None:
    cache = cached(server, BatchModel(), batch_equality="ignore")
    cache.predict_many(PEOPLE[:1])  # opens the connection
    client.config_resetstat()
    cache.predict_many(PEOPLE)
    cache.predict_many(PEOPLE)
    commands = {name: each["calls"] for name, each in client.info("commandstats").items()}
    assert commands["cmdstat_mget"] == 2
    assert commands["cmdstat_set"] == 19
    assert commands["cmdstat_get"] == 1  # the generation, along with the write


def test_no_input_and_one_input(server: Server) -> None:
    cache = cached(server, BatchModel())
    assert cache.predict_many([]) == []
    assert cache.predict_many([person()]) == [charge(person())]


def test_a_generator_is_taken_in_chunks(server: Server) -> None:
    taken: list[int] = []

    def requests() -> Iterator[Person]:
        for age in range(10):
            taken.append(age)
            yield person(age=age)

    model = BatchModel()
    answers = iter(cached(server, model).predict_many(requests(), chunk_size=4))
    assert taken == []
    assert next(answers) == charge(person(age=0))
    assert taken == [0, 1, 2, 3]
    assert list(answers) == charges([person(age=age) for age in range(1, 10)])
    assert [len(batch) for batch in model.batches] == [4, 4, 2]


@pytest.mark.parametrize("size", [0, -1, 1.5, "many"])
def test_a_bad_chunk_size_is_refused(server: Server, size: Any) -> None:
    with pytest.raises(ConfigurationError, match="chunk_size: expected a whole number"):
        cached(server, FunctionModel()).predict_many([], chunk_size=size)


@pytest.mark.parametrize("kind", [FunctionModel, BatchModel])
def test_an_input_without_a_key_is_computed(server: Server, kind: Any) -> None:
    def echo(data: Anything) -> Echo:
        return Echo(text=str(data.value)[:5])

    cache = cached(server, kind(Anything, Echo, echo))
    inputs = [Anything(value=1), Anything(value=lambda: 1), Anything(value=2)]
    for _ in range(2):
        assert [each.text for each in cache.predict_many(inputs)] == ["1", "<func", "2"]
    assert cache.stats().uncacheable == 2
    assert cache.stats().hits == 2


def test_an_entry_that_cannot_be_decoded_is_recomputed(server: Server, client: redis.Redis) -> None:
    cache = cached(server, FunctionModel())
    client.set(cache.cache_key(PEOPLE[3]), "{")
    assert cache.predict_many(PEOPLE) == charges(PEOPLE)
    assert cache.stats().undecodable == 1
    assert cache.predict_many(PEOPLE) == charges(PEOPLE)
    assert cache.stats().hits == 20


def test_a_store_that_does_not_answer_fails_no_prediction() -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    model = BatchModel()
    cache: Any = RedisCachingDecorator(url=url).set_model(model)
    assert cache.predict_many(PEOPLE) == charges(PEOPLE)
    assert cache.stats().unavailable == 20
    raising: Any = RedisCachingDecorator(url=url, on_error="raise").set_model(model)
    with pytest.raises(StoreUnavailableError):
        raising.predict_many(PEOPLE)


def failing_at(*ages: int) -> Callable[[Person], Charges]:
    def predict(data: Person) -> Charges:
        if data.age in ages:
            raise RuntimeError(f"age {data.age}")
        return charge(data)

    return predict


@pytest.mark.parametrize("kind", [FunctionModel, BatchModel])
def test_an_error_of_the_model_comes_through_and_the_rest_is_stored(
    server: Server, kind: Any
) -> None:
    cache = cached(server, kind(function=failing_at(7)))
    with pytest.raises(RuntimeError, match="age 7"):
        cache.predict_many(PEOPLE)
    assert cache.stats().stored == 7
    assert cache.stats().errors == 1


@pytest.mark.parametrize("kind", [FunctionModel, BatchModel])
def test_errors_may_be_returned_in_place(server: Server, kind: Any) -> None:
    cache = cached(server, kind(function=failing_at(3, 7)))
    inputs = [*PEOPLE, PEOPLE[7]]
    for _ in range(2):
        answers = cache.predict_many(inputs, return_exceptions=True)
        assert [str(answers[place]) for place in (3, 7, 20)] == ["age 3", "age 7", "age 7"]
        good = [data for data in PEOPLE if data.age not in (3, 7)]
        assert [each for each in answers if isinstance(each, Charges)] == charges(good)


@pytest.mark.parametrize("kind", [FunctionModel, BatchModel])
def test_stale_entries_answer_for_a_model_that_fails(server: Server, kind: Any) -> None:
    model = kind()
    cache = cached(server, model, ttl=0.05, stale_if_error=60)
    cache.predict_many(PEOPLE[:10])
    threading.Event().wait(0.1)  # past their ttl
    model._function = failing_at(*range(20))
    answers = cache.predict_many(PEOPLE, return_exceptions=True)
    assert answers[:10] == charges(PEOPLE[:10])
    assert all(isinstance(each, RuntimeError) for each in answers[10:])
    assert (cache.stats().stale, cache.stats().errors) == (10, 10)


def test_each_prediction_has_an_outcome(server: Server) -> None:
    cache = cached(server, BatchModel())
    cache.predict(PEOPLE[0])
    with record_outcomes() as outcomes:
        cache.predict_many(PEOPLE[:3])
    assert [one.kind for one in outcomes] == ["hit", "miss", "miss"]
    assert [one.fate for one in outcomes] == [None, "stored", "stored"]


def test_bypass_and_refresh_hold_for_batches(server: Server, client: redis.Redis) -> None:
    values = iter(range(100))
    cache = cached(server, FunctionModel(function=lambda _: Charges(charges=next(values))))
    with bypass():
        cache.predict_many(PEOPLE[:2])
    assert entries(client) == []
    before = cache.predict_many(PEOPLE[:2])
    with refresh():
        after = cache.predict_many(PEOPLE[:2])
    assert before != after
    assert cache.predict_many(PEOPLE[:2]) == after


def test_a_prediction_that_must_not_be_stored_is_not_stored(
    server: Server, client: redis.Redis
) -> None:
    def predict(data: Person) -> Charges:
        if data.age == 1:
            do_not_store()
        return charge(data)

    cached(server, FunctionModel(function=predict)).predict_many(PEOPLE[:3])
    assert len(entries(client)) == 2
    client.flushall()
    cached(server, BatchModel(function=predict)).predict_many(PEOPLE[:3])
    assert entries(client) == []  # one call of the model made them all


def test_equal_inputs_whose_prediction_cannot_be_stored_are_computed_each(server: Server) -> None:
    model = FunctionModel()
    cache = cached(server, model, cache_if=lambda *_: False)
    assert cache.predict_many([person()] * 3) == [charge(person())] * 3
    assert len(model.calls) == 3


def test_callers_outside_the_batch_share_its_computation(server: Server) -> None:
    entered, go = threading.Event(), threading.Event()

    def slow(data: Person) -> Charges:
        entered.set()
        assert go.wait(10)
        return charge(data)

    model = BatchModel(function=slow)
    cache = cached(server, model, batch_equality="ignore")
    with ThreadPoolExecutor(2) as pool:
        batch = pool.submit(cache.predict_many, PEOPLE)
        assert entered.wait(10)
        single = pool.submit(cache.predict, PEOPLE[4])
        while not any(
            landing._waiting for landing in cache._predictor._flow._flights._landings.values()
        ):
            threading.Event().wait(0.001)
        go.set()
        assert single.result() == charge(PEOPLE[4])
        assert batch.result() == charges(PEOPLE)
    assert cache.stats().shared == 1
    assert len(model.batches) == 1
    assert model.calls == []


def test_batches_that_overlap_do_not_wait_for_each_other_for_ever(server: Server) -> None:
    model = BatchModel()
    cache = cached(server, model, single_flight_wait=60)
    orders = [PEOPLE, PEOPLE[::-1], PEOPLE[10:] + PEOPLE[:10]]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(10):
            with server.client() as client:
                client.flushall()
            batches = [pool.submit(cache.predict_many, order) for order in orders * 2]
            for batch, order in zip(batches, orders * 2, strict=True):
                assert batch.result(30) == charges(order)


def test_inputs_are_rounded_in_a_batch(server: Server) -> None:
    options = {"reduced_precision": True, "number_of_places": 0}
    for enabled in (True, False):
        cache = cached(server, FunctionModel(), enabled=enabled, **options)
        assert cache.predict_many([person(bmi=24.3)]) == [charge(person(bmi=24.0))]


class Shifted(BatchModel):
    """Answers a little differently in a batch, as linear algebra does."""

    def __init__(self) -> None:
        super().__init__(qualified_name="shifted_model")

    def predict_many(self, inputs: list[Any]) -> list[Any]:
        made = super().predict_many(inputs)
        return [Charges(charges=each.charges + 0.25) for each in made]


def test_a_batch_that_answers_differently_is_warned_of_once(server: Server) -> None:
    cache = cached(server, Shifted())
    with pytest.warns(UserWarning, match=r"predict_many answers differently .* by up to 0\.25"):
        answers = cache.predict_many(PEOPLE[:10])
    assert answers[0].charges == charge(PEOPLE[0]).charges + 0.25
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.predict_many(PEOPLE)


def test_a_difference_fails_no_batch_where_warnings_and_logging_raise(
    server: Server,
) -> None:
    def refuse(_: logging.LogRecord) -> bool:
        raise RuntimeError("no logging today")

    cache, logger = cached(server, Shifted()), logging.getLogger("model_cache")
    logger.addFilter(refuse)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(cache.predict_many(PEOPLE[:10])) == 10
    finally:
        logger.removeFilter(refuse)


def test_a_batch_that_answers_differently_can_be_refused(server: Server) -> None:
    model = Shifted()
    cache = cached(server, model, batch_equality="refuse")
    with pytest.warns(UserWarning, match=r"predict_many answers differently .* row by row"):
        assert cache.predict_many(PEOPLE[:10]) == charges(PEOPLE[:10])
    assert cache.predict_many(PEOPLE) == charges(PEOPLE)
    assert len(model.batches) == 1


def test_a_difference_can_be_ignored(server: Server) -> None:
    model = Shifted()
    cached(server, model, batch_equality="ignore").predict_many(PEOPLE)
    assert model.calls == []


def test_a_batch_of_another_length_is_computed_row_by_row(server: Server) -> None:
    class Short(BatchModel):
        def __init__(self) -> None:
            super().__init__(qualified_name="short_model")

        def predict_many(self, inputs: list[Any]) -> list[Any]:
            return super().predict_many(inputs)[1:]

    cache = cached(server, Short())
    with pytest.warns(UserWarning, match="predict_many returned 19 predictions for 20 inputs"):
        assert cache.predict_many(PEOPLE) == charges(PEOPLE)


def test_forwarded_attributes_do_not_count_as_the_decorators_own(server: Server) -> None:
    from ml_base import MLModelDecorator

    class Doubling(MLModelDecorator):  # type: ignore[misc]
        def predict(self, data: BaseModel) -> Any:
            return Charges(charges=2 * super().predict(data).charges)

    cache: Any = RedisCachingDecorator(url=server.url)
    cache.set_model(Doubling().set_model(BatchModel()))
    expected = [Charges(charges=2 * charge(data).charges) for data in PEOPLE]
    assert cache.predict_many(PEOPLE) == expected


@pytest.mark.parametrize("kind", [FunctionModel, BatchModel])
def test_a_model_waits_for_nobody_while_others_may_wait_for_its_batch(
    server: Server, kind: Any
) -> None:
    """Else, models that call each other could wait for each other."""
    found = []

    def function(data: Person) -> Charges:
        found.append(is_inside_a_flight())
        return charge(data)

    cached(server, kind(function=function)).predict_many(PEOPLE)
    assert len(found) >= len(PEOPLE)
    assert all(found)

"""Hits are verified: wrong entries are found, counted, logged, replaced, and no longer served."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest
import redis
from sklearn.linear_model import LinearRegression

from model_cache import (
    Cache,
    ConfigurationError,
    RedisCachingDecorator,
    do_not_store,
    last_outcome,
    read_only,
    refresh,
)
from model_cache.observing.events import Event, HitVerified, ServingStopped, WrongHit
from model_cache.prediction.barrier import _barriers
from tests.models import Charges, FunctionModel, Person, charge, person
from tests.prediction.test_generations import a_second_passes
from tests.servers import Server
from tests.waiting import poll

EVERY: dict[str, Any] = {"verify": 1.0, "verify_limit": None}


def cached(server: Server, function: Callable[[Any], Any] = charge, **options: Any) -> Any:
    options = {"url": server.url, "timeout": 5.0, **options}
    return RedisCachingDecorator(**options).set_model(FunctionModel(function=function))


def off_by_one(data: Person) -> Charges:
    return Charges(charges=charge(data).charges + 1)


def fill(server: Server, ages: int = 5, **options: Any) -> None:
    """Store what an older model has answered."""
    with cached(server, off_by_one, **options) as cache:
        cache.predict_many([person(age=age) for age in range(ages)])


def kind() -> str:
    outcome = last_outcome()
    assert outcome is not None
    return outcome.kind


@pytest.mark.parametrize("near_cache", [None, 100])
@pytest.mark.parametrize("layout", [{}, {"layout": "packed", "expected_entries": 100}])
def test_a_wrong_entry_is_found_counted_told_logged_and_replaced(
    server: Server,
    caplog: pytest.LogCaptureFixture,
    near_cache: int | None,
    layout: dict[str, Any],
) -> None:
    fill(server, **layout)
    heard: list[Event] = []
    data = person(age=1)
    options = {"near_cache": near_cache, "hooks": [heard.append], **EVERY, **layout}
    with cached(server, **options) as cache:
        assert cache.predict(data) == off_by_one(data)
        assert kind() == "hit"
        poll(lambda: cache.stats().stored == 1)
        assert cache.predict(data) == charge(data)
        assert kind() == "hit"
        poll(lambda: cache.stats().verified == 2)
        stats, key = cache.stats(), cache.cache_key(data)
    assert (stats.verified, stats.wrong, stats.wrong_share) == (2, 1, 0.5)
    assert (stats.misses, stats.model_seconds, stats.predictions) == (0, 0, 2)
    assert WrongHit("test_model", "1.0.0", key, ("charges",), 1.0) in heard
    assert sum(isinstance(event, HitVerified) for event in heard) == 2
    assert [record.message for record in caplog.records] == [
        f"Wrong hit: entry {key} differs from what test_model returns now, "
        "in charges (by up to 1.0)"
    ]
    assert str(charge(data).charges) not in caplog.text
    with cached(server, **layout) as other:
        assert other.predict(data) == charge(data)


def test_a_wrong_entry_leaves_the_near_caches_of_other_processes(server: Server) -> None:
    fill(server)
    data = person(age=1)
    with cached(server, near_cache=100) as other:
        assert other.predict(data) == off_by_one(data)
        _barriers.clear()  # as in another process
        with cached(server, **EVERY) as cache:
            cache.predict(data)
            poll(lambda: cache.stats().stored == 1)
        a_second_passes(other)
        assert other.predict(data) == charge(data)


def test_right_entries_stay_as_they_are(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with cached(server, near_cache=100, **EVERY) as cache:
        for _ in range(5):
            for age in range(10):
                assert cache.predict(person(age=age)) == charge(person(age=age))
        cache.close()
        stats = cache.stats()
    assert (stats.hits, stats.verified, stats.wrong) == (40, 40, 0)
    assert stats.highest_wrong_share < 0.1
    assert stats.stored == 10
    assert caplog.text == ""


def test_nobody_waits_for_a_verification(server: Server) -> None:
    fill(server)
    go = threading.Event()

    def waiting(data: Person) -> Charges:
        assert go.wait(10)
        return charge(data)

    with cached(server, waiting, **EVERY) as cache:
        for age in range(5):
            assert cache.predict(person(age=age)) == off_by_one(person(age=age))
        go.set()
        poll(lambda: cache.stats().wrong == 5)


def test_more_than_a_hundred_hits_do_not_wait(server: Server) -> None:
    go = threading.Event()
    with cached(server) as cache:
        cache.predict(person())

    def waiting(data: Person) -> Charges:
        assert go.wait(10)
        return charge(data)

    with cached(server, waiting, **EVERY) as cache:
        for _ in range(300):
            cache.predict(person())
        go.set()
        cache.close()
        assert 100 <= cache.stats().verified <= 102
        assert cache.stats().hits == 300


def test_batches_are_verified_row_by_row(server: Server) -> None:
    fill(server, 20)
    people = [person(age=age) for age in range(20)]
    with cached(server, **EVERY) as cache:
        cache.predict_many(people)
        poll(lambda: cache.stats().wrong == 20)
        poll(lambda: cache.stats().stored == 20)
        assert cache.predict_many(people) == list(map(charge, people))


def test_event_loops_verify_in_tasks(server: Server) -> None:
    fill(server, 20)
    people = [person(age=age) for age in range(20)]

    async def run() -> Any:
        async with cached(server, near_cache=100, **EVERY) as cache:
            first = [await cache.apredict(data) for data in people[:10]]
            await cache.drain()
            first += await cache.apredict_many(people[10:])
            await cache.drain()
            return first, [await cache.apredict(data) for data in people], cache.stats()

    first, second, stats = asyncio.run(run())
    assert first == list(map(off_by_one, people))
    assert second == list(map(charge, people))
    assert stats.wrong == 20


@pytest.mark.parametrize("encryption_key", [None, "a-key"])
def test_functions_and_rows_are_verified(server: Server, encryption_key: str | None) -> None:
    shift = 1.0
    with Cache(server.url, near_cache=100, encryption_key=encryption_key, **EVERY) as cache:

        @cache.memoize(version="1")
        def add(number: float) -> dict[str, float]:
            return {"sum": number + shift}

        @cache.memoize_rows(version="1")
        def double(rows: np.ndarray) -> np.ndarray:
            return rows * 2 + shift

        rows = np.arange(40.0).reshape(20, 2)
        add(1.0)
        double(rows)
        shift = 2.0
        assert add(1.0) == {"sum": 2.0}
        np.testing.assert_array_equal(double(rows), rows * 2 + 1)
        rows[:] = 7.0  # the caller's own
        poll(lambda: cache.stats().wrong == 21)
        rows = np.arange(40.0).reshape(20, 2)
        poll(lambda: bool(cache.stats().stored == 42))
        assert add(1.0) == {"sum": 3.0}
        np.testing.assert_array_equal(double(rows), rows * 2 + 2)


@pytest.mark.parametrize("share_wrong", [0.02, 0.2])
def test_wrong_entries_are_found_at_the_rate_that_arithmetic_says(
    server: Server, share_wrong: float
) -> None:
    """Of n hits, a share is verified, and of these a share is wrong: both are binomial."""
    hits, verify, draw = 4_000, 0.25, random.Random(5)
    model = FunctionModel()
    with cached(server, verify=verify, verify_limit=None) as cache:
        wrong = {age for age in range(hits) if draw.random() < share_wrong}
        for age in range(hits):
            data = person(age=age)
            cache.store(data, off_by_one(data) if age in wrong else charge(data))
        cache._predictor._flow.verifying._draw = random.Random(6).random
        stored = cache.stats().stored
        for start in range(0, hits, 100):
            cache.predict_many([person(age=age) for age in range(start, start + 100)])
            cache._backend.workers["verify"].flush(30)
        stats = cache.stats()
    del model

    def within(found: float, expected: float, count: float, share: float) -> bool:
        return abs(found - expected) <= 6 * math.sqrt(count * share * (1 - share)) + 1

    assert within(stats.verified, hits * verify, hits, verify)
    found = len(wrong) / hits
    assert within(stats.wrong, stats.verified * found, stats.verified, found)
    assert stats.stored - stored == stats.wrong
    assert stats.highest_wrong_share >= found * 0.8


def test_a_model_that_was_retrained_is_noticed_at_the_deployment(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    fill(server, 50)
    heard: list[Event] = []
    with cached(server, verify_first=20, hooks=[heard.append]) as cache:
        for age in range(50):
            cache.predict(person(age=age))
            cache._backend.workers["verify"].flush(10)
        stats = cache.stats()
        assert (stats.verified, stats.wrong, stats.store) == (11, 11, "wrong_entries")
        assert cache.predict(person(age=49)) == charge(person(age=49))
        outcome = last_outcome()
        assert outcome is not None
        assert (outcome.kind, outcome.store_error) == ("unavailable", "wrong_entries")
    assert ServingStopped("test_model", "1.0.0", 11, 11) in heard
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 12
    assert "Was the model retrained" in caplog.text


def test_an_entry_that_is_hit_often_is_one_wrong_entry(server: Server) -> None:
    """It may be the only one: memory failed, or another client wrote to it."""
    with cached(server) as cache:
        cache.store(person(age=1), off_by_one(person(age=1)))
    go = threading.Event()

    def waiting(data: Person) -> Charges:
        assert go.wait(10)
        return charge(data)

    with cached(server, waiting, verify_first=20) as cache:
        for _ in range(20):
            cache.predict(person(age=1))
        go.set()
        cache.close()
        assert (cache.stats().wrong, cache.stats().store) == (20, "closed")


def test_a_model_that_is_not_deterministic_is_not_cached_any_more(server: Server) -> None:
    draw = random.Random(1)
    with cached(server, lambda _: Charges(charges=draw.random()), verify=1.0) as cache:
        for _ in range(30):
            cache.predict(person(age=1))
            assert cache._backend.workers["verify"].flush(10)
        assert cache.stats().wrong == 11
        assert cache.stats().store == "wrong_entries"


def test_the_first_hits_of_each_model_are_verified(server: Server) -> None:
    with cached(server, verify_first=3) as cache:
        for _ in range(2):
            for _ in range(10):
                cache.predict(person())
            cache._backend.workers["verify"].flush(10)
            cache.set_model(FunctionModel())
        assert cache.stats().verified == 6
        cache.predict(person())
        cache.close()
        assert cache.stats().verified == 7


def stopped(server: Server, **options: Any) -> Any:
    fill(server)
    cache = cached(server, verify=1.0, verify_limit=0, **options)
    cache.predict(person(age=0))
    poll(lambda: cache.stats().store == "wrong_entries")
    return cache


def test_entries_that_are_not_served_come_back_after_a_purge(server: Server) -> None:
    with stopped(server, near_cache=100) as cache:
        for _ in range(3):
            assert cache.predict(person(age=1)) == charge(person(age=1))
            assert kind() == "unavailable"
        assert cache.predict_many([person(age=2)]) == [charge(person(age=2))]
        assert asyncio.run(cache.apredict(person(age=3))) == charge(person(age=3))
        assert cache.lookup(person(age=4)) is None
        cache.purge()
        assert cache.stats().store == "closed"
        for expected in ("miss", "hit"):
            assert cache.predict(person(age=1)) == charge(person(age=1))
            assert kind() == expected


def test_the_purge_may_be_another_processs(server: Server) -> None:
    with stopped(server) as cache, cached(server) as other:
        other.purge()
        client: redis.Redis = server.client()
        with client:
            assert client.exists("test_model/1.0.0/generation")

        def comes_back() -> bool:
            cache.predict(person(age=1))
            return kind() == "hit"

        poll(comes_back)


def test_predictions_of_many_other_models_are_no_purge(server: Server) -> None:
    answer, verified = 1.0, threading.Event()
    with Cache(server.url, timeout=5.0, verify=1.0, verify_limit=0) as cache:
        others = [
            cache.memoize(version="1", name=f"other_{each}")(lambda value: value)
            for each in range(300)
        ]

        def predict(_: Person) -> Charges:
            if answer > 1 and not verified.is_set():
                verified.set()
                with ThreadPoolExecutor(1) as pool:  # while the hit is verified
                    list(pool.map(lambda other: other(1), others))
            return Charges(charges=answer)

        model = cache.model(FunctionModel(function=predict))
        model.predict_many([person(age=age) for age in range(5)])
        answer = 2.0
        model.predict(person(age=0))
        poll(lambda: model.stats().store == "wrong_entries")
        for age in range(1, 5):
            assert model.predict(person(age=age)) == Charges(charges=2.0)


def test_a_new_version_or_revision_is_served(server: Server) -> None:
    with stopped(server) as cache:
        model = FunctionModel(version="2.0.0")
        cache.set_model(model)
        cache.predict(person(age=1))
        cache.predict(person(age=1))
        assert kind() == "hit"
        assert cache.stats().store == "closed"


def test_other_entries_of_a_cache_go_on(server: Server) -> None:
    wrong = False
    with Cache(server.url, timeout=5.0, verify=1.0, verify_limit=0) as cache:

        @cache.memoize(version="1")
        def changing(number: int) -> int:
            return number + wrong

        @cache.memoize(version="1")
        def steady(number: int) -> int:
            return number

        @cache.memoize_rows(version="1")
        def rows(numbers: np.ndarray) -> np.ndarray:
            return numbers + float(wrong)

        for _ in range(2):
            changing(1), steady(1), rows(np.ones(3))
        backend: Any = cache.backend
        assert backend.workers["verify"].flush(10)
        wrong = True
        changing(1), steady(1), rows(np.ones(3))
        poll(lambda: changing.stats().store == rows.stats().store == "wrong_entries")
        assert cache.stats().store == "wrong_entries"
        np.testing.assert_array_equal(rows(np.ones(3)), np.full(3, 2.0))
        assert rows.stats().unavailable == 3
        assert steady(1) == 1
        assert steady.stats().store == "closed"


def test_a_purge_overtakes_a_verification(server: Server) -> None:
    fill(server)
    entered, go = threading.Event(), threading.Event()

    def waiting(data: Person) -> Charges:
        entered.set()
        assert go.wait(10)
        return charge(data)

    with cached(server, waiting, **EVERY) as cache:
        cache.predict(person(age=1))
        assert entered.wait(10)
        cache.purge()
        go.set()
        cache.close()
        assert (cache.stats().verified, cache.stats().stored) == (0, 0)


def test_a_refresh_overtakes_the_replacement_of_a_wrong_entry(server: Server) -> None:
    fill(server)
    answers = iter([2.0, 3.0])
    model = FunctionModel(function=lambda _: Charges(charges=next(answers)))

    def stores(_: Person, prediction: Charges) -> bool:
        if prediction == Charges(charges=2.0):  # the replacement
            with refresh():
                cache.predict(person(age=1))
        return True

    options: dict[str, Any] = {"url": server.url, "timeout": 5.0, "cache_if": stores, **EVERY}
    cache = RedisCachingDecorator(**options).set_model(model)
    cache.predict(person(age=1))
    poll(lambda: cache.stats().wrong == 1)
    cache.close()  # which waits for the replacement
    assert cache.lookup(person(age=1)) == Charges(charges=3.0)


def test_an_input_that_its_caller_changes_meanwhile_harms_no_entry(server: Server) -> None:
    with cached(server) as cache:
        cache.predict(person(age=1))
    entered, go = threading.Event(), threading.Event()

    def waiting(data: Person) -> Charges:
        entered.set()
        assert go.wait(10)
        return charge(data)

    with cached(server, waiting, **EVERY) as cache:
        data = person(age=1)
        cache.predict(data)
        assert entered.wait(10)
        data.age = 99
        go.set()
        cache.close()
        assert (cache.stats().wrong, cache.stats().stored) == (0, 0)


def refusing(data: Person) -> Charges:
    do_not_store()
    return Charges(charges=-1.0)


def raising(data: Person) -> Charges:
    raise RuntimeError


@pytest.mark.parametrize("function", [refusing, raising])
def test_a_fallback_or_an_error_says_nothing_about_an_entry(
    server: Server, caplog: pytest.LogCaptureFixture, function: Callable[[Any], Any]
) -> None:
    fill(server)
    with cached(server, function, **EVERY) as cache:
        cache.predict(person(age=1))
        cache.close()
        assert (cache.stats().verified, cache.stats().wrong) == (0, 0)
    assert caplog.text == ""


def test_an_entry_that_nothing_may_replace_is_erased(server: Server) -> None:
    fill(server)
    with cached(server, cache_if=lambda _, prediction: prediction.charges < 0, **EVERY) as cache:
        cache.predict(person(age=1))
        poll(lambda: cache.stats().wrong == 1)
        cache.close()
        cache.predict(person(age=1))
        assert kind() == "miss"


def test_read_only_predictions_are_verified_and_replace_nothing(server: Server) -> None:
    fill(server)
    with cached(server, **EVERY) as cache:
        with read_only():
            cache.predict(person(age=1))
        cache.close()
        assert (cache.stats().wrong, cache.stats().stored) == (1, 0)


@pytest.fixture
def batches_round(server: Server) -> Callable[..., Any]:
    """A cache filled by batches, whose answers differ in the last digits from single ones."""

    class Batching(FunctionModel):
        def predict_many(self, inputs: list[Any]) -> list[Charges]:
            return [Charges(charges=charge(data).charges * (1 + 3e-16)) for data in inputs]

    def made(**options: Any) -> Any:
        cache = RedisCachingDecorator(url=server.url, batch_equality="ignore", **options)
        return cache.set_model(Batching(qualified_name="batching"))

    with made() as cache:
        cache.predict_many([person(age=age) for age in range(1, 20)])
    return made


def test_batches_that_round_differently_are_not_wrong(
    batches_round: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    for tolerance, wrong in ((None, 0), (1e-12, 0), (0.0, 19)):
        with batches_round(verify_tolerance=tolerance, **EVERY) as cache, read_only():
            for age in range(1, 20):
                cache.predict(person(age=age))
            cache.close()
            assert (cache.stats().verified, cache.stats().wrong) == (19, wrong)
    assert "charges (by up to 1.86e-09)" in caplog.text


def test_labels_and_larger_differences_are_wrong_for_batches_as_well(server: Server) -> None:
    shift: Any = 0

    with Cache(server.url, batch_equality="ignore", **EVERY) as cache:

        @cache.memoize_rows(version="1")
        def labels(rows: list[float]) -> list[dict[str, Any]]:
            return [{"label": 1_000_000_000 + shift, "score": row} for row in rows]

        @cache.memoize_rows(version="1")
        def scores(rows: np.ndarray) -> np.ndarray:
            return np.asarray(rows * (1 + shift / 100_000))

        @cache.memoize_rows(version="1")
        def frame(rows: pd.DataFrame) -> pd.DataFrame:
            return pd.DataFrame({"y": rows["x"] + shift, "name": "a"}, index=rows.index)

        table = pd.DataFrame({"x": [1.0, 2.0]}, index=["p", "q"])
        for _ in range(2):
            labels([0.5]), scores(np.ones((1, 3))), frame(table)
            assert cache.backend.workers["verify"].flush(10)  # type: ignore[union-attr]
            shift = 1
        poll(lambda: cache.stats().wrong == 4)
        assert frame(table)["y"].tolist() == [2.0, 3.0]


def test_an_estimator_whose_batches_round_differently_stays_cached(server: Server) -> None:
    draw = np.random.default_rng(1)
    inputs = draw.random((200, 3))
    model = LinearRegression().fit(inputs, inputs @ [1.0, 2.0, 3.0])
    with Cache(server.url, verify=1.0, batch_equality="ignore") as cache:
        fast = cache.wrap(model, name="linear", version="1")
        fast.predict(inputs)
        fast.predict(inputs)
        poll(lambda: cache.stats().verified >= 100)
        assert cache.stats().wrong == 0


def test_models_inside_are_computed_as_well(server: Server) -> None:
    """Otherwise a wrong entry of an inner cache would prove the outer one right."""
    fill(server)
    with cached(server) as inner:
        with cached(server, inner.predict, prefix="outer") as outer:
            outer.predict(person(age=1))
        with cached(server, inner.predict, prefix="outer", **EVERY) as outer:
            outer.predict(person(age=1))
            poll(lambda: outer.stats().wrong == 1)


@pytest.mark.parametrize(
    "options",
    [
        {"verify": -0.1},
        {"verify": 1.5},
        {"verify": "often"},
        {"verify": True},
        {"verify_first": -1},
        {"verify_first": 0.5},
        {"verify": 0.1, "verify_limit": -1},
        {"verify": 0.1, "verify_tolerance": -1},
        {"verify_limit": 5},
        {"verify_tolerance": 1e-9},
    ],
)
def test_other_values_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=list(options)[-1]):
        RedisCachingDecorator(**options)


def test_logging_names_no_values(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with cached(server, lambda data: Charges(charges=4711.5)) as cache:
        cache.predict(person(age=1))
    with caplog.at_level(logging.DEBUG), cached(server, **EVERY) as cache:
        cache.predict(person(age=1))
        cache.close()
    assert "Wrong hit" in caplog.text
    assert "4711" not in caplog.text


def test_frames_whose_batches_round_differently_are_told_apart_by_their_size(
    server: Server,
) -> None:
    with Cache(server.url) as cache:

        @cache.memoize_rows(version="1")
        def frame(rows: pd.DataFrame) -> pd.DataFrame:
            return pd.DataFrame({"y": rows["x"] * (1 + len(rows) * 1e-3)}, index=rows.index)

        table = pd.DataFrame({"x": [1.0, 2.0]}, index=["p", "q"])
        with pytest.warns(UserWarning, match=r"differ, by up to 0\.002"):
            assert frame(table)["y"].tolist() == [1.002, 2.004]

"""Decorators outside the cache, inside it, and caches around caches."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from ml_base import MLModelDecorator

from model_cache import ConfigurationError, RedisCachingDecorator
from tests.binding.rebinding import bound_again, constant
from tests.models import Charges, FunctionModel, Gate, charge, person
from tests.servers import Server
from tests.stored import entries


@pytest.fixture
def cached(server: Server) -> Callable[..., Any]:
    def make(model: Any, **options: Any) -> Any:
        return RedisCachingDecorator(url=server.url, **options).set_model(model)

    return make


class PredictionId(MLModelDecorator):  # type: ignore[misc]
    """Gives each prediction an id: the article's companion."""

    counter = 0

    def predict(self, data: Any) -> Any:
        PredictionId.counter += 1
        return self._model.predict(data).model_copy(update={"charges": float(PredictionId.counter)})


def test_a_decorator_outside_the_cache_runs_each_time(decorator: RedisCachingDecorator) -> None:
    model = FunctionModel()
    stacked = PredictionId().set_model(decorator.set_model(model))
    assert stacked.predict(person()) != stacked.predict(person())
    assert len(model.calls) == 1


def test_a_decorator_inside_the_cache_runs_once(decorator: RedisCachingDecorator) -> None:
    decorator.set_model(PredictionId().set_model(FunctionModel()))
    assert decorator.predict(person()) == decorator.predict(person())
    assert repr(decorator) == "RedisCachingDecorator(PredictionId(FunctionModel))"


def test_two_caches_can_be_stacked(server: Server) -> None:
    model = FunctionModel()
    inner = RedisCachingDecorator(url=server.url, prefix="inner").set_model(model)
    outer = RedisCachingDecorator(url=server.url, prefix="outer").set_model(inner)
    for _ in range(2):
        assert outer.predict(person()) == charge(person())
    assert len(model.calls) == 1


class Doubling(MLModelDecorator):  # type: ignore[misc]
    def predict(self, data: Any) -> Any:
        return Charges(charges=2 * self._model.predict(data).charges)


def test_decorators_between_cache_and_model_are_part_of_the_key(
    cached: Callable[..., Any],
) -> None:
    assert cached(Doubling().set_model(FunctionModel())).predict(person()).charges == (
        2 * charge(person()).charges
    )
    assert cached(FunctionModel()).predict(person()) == charge(person())
    rounding = cached(FunctionModel(), reduced_precision=True, number_of_places=0)
    assert cached(rounding).predict(person(bmi=24.4)) == charge(person(bmi=24.0))
    assert cached(FunctionModel()).predict(person(bmi=24.4)) == charge(person(bmi=24.4))
    keys = {
        cached(Doubling(factor=factor).set_model(FunctionModel())).cache_key(person())
        for factor in (1, 2, 2)
    }
    assert len(keys) == 2
    # Where the inner cache keeps its entries makes no difference to its answers.
    inner = [cached(FunctionModel(), prefix=prefix) for prefix in ("a", "b")]
    assert len({cached(each).cache_key(person()) for each in inner}) == 1


class Factor:
    """An option's type that has no canonical form."""


def double(value: float) -> float:
    return 2 * value


class Naming(Doubling):
    ANSWER_OPTIONS = ("factor",)


def test_a_decorator_with_an_option_without_canonical_form_is_refused_inside_the_cache(
    server: Server,
) -> None:
    cache = RedisCachingDecorator(url=server.url)
    for option in (Factor(), double):
        inner = Doubling(factor=1, how=option).set_model(FunctionModel())
        with pytest.raises(ConfigurationError, match=r"'how' .*Doubling .*ANSWER_OPTIONS"):
            cache.set_model(inner)
    # Its word that the rest makes no difference.
    cache.set_model(Naming(factor=1, how=Factor()).set_model(FunctionModel()))
    assert cache.predict(person()).charges == 2 * charge(person()).charges


def test_the_revision_of_a_cache_inside_counts_at_any_depth(cached: Callable[..., Any]) -> None:
    def stacks(revision: str) -> list[Any]:
        inner = cached(FunctionModel(), revision=revision)
        return [
            cached(inner),
            cached(Doubling().set_model(inner)),
            cached(cached(Doubling().set_model(inner))),
        ]

    keys = [stack.cache_key(person()) for revision in "ab" for stack in stacks(revision)]
    assert len(set(keys)) == len(keys)
    assert [stack.cache_key(person()) for stack in stacks("a")] == keys[:3]


@pytest.mark.parametrize("between", [(), (Doubling,), (RedisCachingDecorator, Doubling)])
def test_a_cache_inside_that_gets_another_model_is_noticed_outside(
    cached: Callable[..., Any], tmp_path: Path, between: tuple[type, ...]
) -> None:
    weights, factor = tmp_path / "weights", 2 if Doubling in between else 1
    weights.write_text("1")
    inner = cached(FunctionModel(function=constant(1)), revision=[weights], prefix="inner")
    middle = inner
    for cls in between:
        is_cache = cls is RedisCachingDecorator
        middle = cached(middle, prefix="mid") if is_cache else cls().set_model(middle)
    outer = cached(middle)
    assert outer.predict(person()) == Charges(charges=factor)
    weights.write_text("2")
    inner.set_model(FunctionModel(function=constant(2)))
    for _ in range(2):
        assert outer.predict(person()) == Charges(charges=2 * factor)
    assert outer.stats().hits == 1


def test_a_decorator_inside_that_gets_another_cache_is_noticed_outside(
    cached: Callable[..., Any],
) -> None:
    first = cached(FunctionModel(function=constant(1)), revision="1")
    second = cached(FunctionModel(function=constant(2)), revision="2")
    doubling = Doubling().set_model(first)
    outer = cached(doubling)
    for inner, answer in ((first, 2), (second, 4), (first, 2), (second, 4)):
        doubling.set_model(inner)
        assert outer.predict(person()) == Charges(charges=answer)
    assert outer.stats().hits == 2


def test_a_cache_inside_that_gets_another_model_meanwhile_leaves_nothing_outside(
    cached: Callable[..., Any], client: redis.Redis
) -> None:
    gate = Gate()
    inner = cached(FunctionModel(function=gate), revision="1", prefix="inner")
    outer = cached(inner, prefix="outer")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(outer.predict, person())
        assert gate.entered.wait(10)
        inner.set_model(FunctionModel(function=constant(2)))
        gate.go.set()
        assert answer.result() == charge(person())
    assert entries(client, "outer/*") == []


def test_while_a_cache_inside_hashes_its_files_the_outer_one_stores_nothing(
    cached: Callable[..., Any], tmp_path: Path, client: redis.Redis
) -> None:
    weights = tmp_path / "weights"
    weights.write_text("1")
    model = FunctionModel(function=constant(1))
    inner = cached(model, revision=[weights], prefix="inner")
    outer = cached(Doubling().set_model(inner), prefix="outer", revision="same")
    outer.predict(person())
    model.current_version, model._function = "2", constant(2)
    assert outer.predict(person()) == Charges(charges=4)
    assert entries(client, "outer/test_model/2/*") == []
    bound_again()
    for _ in range(2):
        assert outer.predict(person()) == Charges(charges=4)
    assert outer.stats().hits == 1
    assert len(entries(client, "outer/test_model/2/*")) == 1


def test_a_cache_is_set_outside_while_the_one_inside_hashes_its_files(
    cached: Callable[..., Any], tmp_path: Path
) -> None:
    weights = tmp_path / "weights"
    weights.write_text("1")
    model = FunctionModel()
    inner = cached(model, revision=[weights])
    for version in ("2", "3"):
        model.current_version = version
        outer = cached(inner)
        assert outer.cache_key(person()).startswith(f"test_model/{version}/")
        inner.predict(person())


def test_copies_keep_the_revision_of_a_cache_inside(
    cached: Callable[..., Any], tmp_path: Path
) -> None:
    weights = tmp_path / "weights"
    weights.write_text("1")
    outer = cached(cached(cached(FunctionModel(), revision=[weights])))
    key = outer.cache_key(person())
    weights.write_text("2")
    for made in (copy.copy(outer), copy.deepcopy(outer), pickle.loads(pickle.dumps(outer))):
        assert made.cache_key(person()) == key


def test_threads_that_predict_while_the_cache_inside_is_set_get_right_answers(
    cached: Callable[..., Any], tmp_path: Path
) -> None:
    weights = tmp_path / "weights"
    models = [FunctionModel(function=constant(number)) for number in range(3)]
    for number, model in enumerate(models):
        weights.write_text(str(number))
        inner = cached(model, revision=[weights], prefix="inner")
    outer = cached(Doubling().set_model(inner), prefix="outer")
    stop = threading.Event()

    def work(seed: int) -> None:
        for number in range(150):
            outer.predict(person(age=(seed * 7 + number) % 30))

    def disturb() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            inner.set_model(models[number % 3])

    with ThreadPoolExecutor(5) as pool:
        disturbing = pool.submit(disturb)
        list(pool.map(work, range(4)))
        stop.set()
        disturbing.result()
    for number, model in enumerate(models):
        inner.set_model(model)
        for age in range(30):
            assert outer.predict(person(age=age)) == Charges(charges=2 * number)

"""The revision is that of the weights in memory: files are hashed once, in the background."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from model_cache import RedisCachingDecorator, revision_of
from model_cache.binding import Unbound, taken_revisions
from model_cache.binding.current import _RETRY_SECONDS
from model_cache.observing.events import BindingFailed
from tests.binding.rebinding import THREAD, bound_again, constant
from tests.models import Charges, FunctionModel, charge, person
from tests.servers import Server


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_text("1")
    return path


@pytest.fixture
def cached(server: Server, weights: Path) -> Callable[..., Any]:
    def make(model: Any, **options: Any) -> Any:
        options = {"revision": [weights], "timeout": 5.0, **options}
        return RedisCachingDecorator(url=server.url, **options).set_model(model)

    return make


def test_a_model_keeps_the_revision_that_its_files_had(
    cached: Callable[..., Any], weights: Path
) -> None:
    model = FunctionModel()
    decorator = cached(model)
    key = decorator.cache_key(person())
    weights.write_text("2")
    made = [
        decorator.set_model(model),
        copy.copy(decorator),
        copy.deepcopy(decorator),
        pickle.loads(pickle.dumps(decorator)),
        copy.deepcopy(pickle.loads(pickle.dumps(copy.deepcopy(decorator)))),
        cached(model),
    ]
    assert {each.cache_key(person()) for each in made} == {key}
    assert cached(FunctionModel()).cache_key(person()) != key
    weights.unlink()
    assert copy.deepcopy(decorator).cache_key(person()) == key


def test_other_files_of_a_model_are_hashed_as_well(
    cached: Callable[..., Any], weights: Path, tmp_path: Path
) -> None:
    model, other = FunctionModel(), tmp_path / "other"
    other.write_text("2")
    keys = {cached(model, revision=files).cache_key(person()) for files in ([weights], [other])}
    assert len(keys) == 2


def test_the_revision_can_be_taken_before_the_model_is_loaded(
    cached: Callable[..., Any], weights: Path
) -> None:
    revision, key = revision_of(weights), cached(FunctionModel()).cache_key(person())
    weights.write_text("2")
    assert cached(FunctionModel(), revision=revision).cache_key(person()) == key


def test_each_new_version_is_hashed(cached: Callable[..., Any], weights: Path) -> None:
    model = FunctionModel()
    decorator = cached(model)
    keys = [decorator.cache_key(person())]
    for version in ("2", "1.0.0"):
        weights.write_text(f"of {version}")
        model.current_version = version
        keys.append(decorator.set_model(model).cache_key(person()))
    assert len(set(keys)) == 3


class Equal(FunctionModel):
    """Equal to all others, and without a hash."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True


def test_models_are_identified_by_identity_and_forgotten_when_collected(
    cached: Callable[..., Any], weights: Path
) -> None:
    gc.collect()
    before = len(taken_revisions._models)
    keys = set()
    for text in "123":
        weights.write_text(text)
        keys.add(cached(Equal()).cache_key(person()))
    assert len(keys) == 3
    gc.collect()
    assert len(taken_revisions._models) <= before


class Held(FunctionModel):
    """Held while a thread binds it anew, until the test says go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go = threading.Event(), threading.Event()
        self.bound_by: list[str] = []

    @property
    def output_schema(self) -> type[BaseModel]:
        self.bound_by.append(threading.current_thread().name)
        if self.bound_by[-1] == THREAD:
            self.entered.set()
            assert self.go.wait(10)
        return Charges


def test_files_are_hashed_once_and_no_prediction_waits_for_it(cached: Callable[..., Any]) -> None:
    model = Held()
    decorator = cached(model)
    model.current_version = "2"
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(decorator.predict, [person()] * 12))
    assert answers == [charge(person())] * 12
    assert decorator.stats().uncacheable == 12
    model.go.set()
    bound_again()
    for _ in range(2):
        assert decorator.predict(person()) == charge(person())
    assert (decorator.stats().misses, decorator.stats().hits) == (1, 1)
    assert model.bound_by == ["MainThread", THREAD]


def test_inputs_are_rounded_while_files_are_hashed(cached: Callable[..., Any]) -> None:
    model = Held()
    decorator = cached(model, reduced_precision=True, number_of_places=0)
    model.current_version = "2"
    assert decorator.predict(person(bmi=24.3)) == charge(person(bmi=24.0))
    assert isinstance(decorator._current.binding, Unbound)
    model.go.set()
    bound_again()


def test_a_version_that_changes_while_files_are_hashed_is_bound_in_its_turn(
    cached: Callable[..., Any],
) -> None:
    model = Held()
    decorator = cached(model)
    model.current_version = "2"
    decorator.predict(person())
    assert model.entered.wait(10)
    model.current_version = "3"
    decorator.predict(person())
    model.go.set()
    bound_again()
    decorator.predict(person())
    bound_again()
    assert decorator.cache_key(person()).startswith("test_model/3/")
    assert decorator.stats().uncacheable == 3
    assert model.bound_by == ["MainThread", THREAD, THREAD]


def test_a_set_model_while_files_are_hashed_is_not_lost(cached: Callable[..., Any]) -> None:
    model = Held()
    decorator = cached(model)
    model.current_version = "2"
    decorator.predict(person())
    assert model.entered.wait(10)
    decorator.set_model(FunctionModel(function=constant(-1), qualified_name="new"))
    model.go.set()
    bound_again()
    assert decorator.predict(person()) == Charges(charges=-1)
    assert decorator.cache_key(person()).startswith("new/")


def test_a_process_forked_while_files_are_hashed_hashes_them_itself(
    cached: Callable[..., Any],
) -> None:
    model = Held()
    decorator = cached(model)
    model.current_version = "2"
    decorator.predict(person())
    assert model.entered.wait(10)
    child = os.fork()
    if child == 0:
        try:
            model.go = threading.Event()
            model.go.set()
            decorator.predict(person())
            bound_again()
            os._exit(0 if decorator.cache_key(person()).startswith("test_model/2/") else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    model.go.set()
    bound_again()
    assert os.waitstatus_to_exitcode(status) == 0
    assert decorator.cache_key(person()).startswith("test_model/2/")


def test_a_fault_at_a_reload_that_passes_turns_the_cache_off_for_no_longer(
    cached: Callable[..., Any], weights: Path
) -> None:
    events: list[Any] = []
    model = FunctionModel()
    cache = cached(model, hooks=[events.append])
    weights.unlink()  # it is being replaced
    model.current_version = "2.0.0"
    cache.predict(person())
    bound_again()
    for _ in range(3):  # not tried again at once
        cache.predict(person())
    failures = [event for event in events if isinstance(event, BindingFailed)]
    assert len(failures) == 1
    assert str(weights) in failures[0].reason
    weights.write_text("2")
    now = time.monotonic() + _RETRY_SECONDS
    cache._current._clock = lambda: now
    cache.predict(person())
    bound_again()
    for _ in range(2):
        cache.predict(person())
    assert (cache.stats().misses, cache.stats().hits) == (1, 1)
    assert cache.stats().uncacheable == 5

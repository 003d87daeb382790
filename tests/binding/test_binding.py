"""The binding: models that change under the decorator, schemas that are rebuilt."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from pydantic import BaseModel, create_model

from model_cache import RedisCachingDecorator
from tests.binding.rebinding import constant
from tests.inside import inside
from tests.models import Charges, FunctionModel, Gate, Person, charge, person
from tests.servers import Server, free_port
from tests.signals import SoftTimeLimitError, soft_time_limit
from tests.stored import entries


def test_a_set_model_during_a_request_does_not_mix_two_models(
    decorator: RedisCachingDecorator,
) -> None:
    gate = Gate()
    old = FunctionModel(function=gate, qualified_name="old")
    new = FunctionModel(function=constant(-1), qualified_name="new")
    decorator.set_model(old)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(decorator.predict, person())
        assert gate.entered.wait(10)
        decorator.set_model(new)
        gate.go.set()
        assert answer.result() == charge(person())
    assert decorator.predict(person()) == Charges(charges=-1)
    decorator.set_model(old)
    assert decorator.predict(person()) == charge(person())


def test_a_model_reloaded_in_place_gets_keys_of_its_own(
    decorator: RedisCachingDecorator, client: redis.Redis
) -> None:
    model = FunctionModel(function=constant(1))
    decorator.set_model(model)
    assert decorator.predict(person()) == Charges(charges=1)
    model.current_version, model._function = "2.0.0", constant(2)
    assert decorator.predict(person()) == Charges(charges=2)
    assert decorator.cache_key(person()).startswith("test_model/2.0.0/")
    model.current_version = "1.0.0"
    assert decorator.predict(person()) == Charges(charges=1)
    assert len(entries(client)) == 2


def test_a_model_reloaded_during_its_prediction_stores_nothing(
    decorator: RedisCachingDecorator, client: redis.Redis
) -> None:
    gate = Gate()
    model = FunctionModel(function=gate)
    decorator.set_model(model)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(decorator.predict, person())
        assert gate.entered.wait(10)
        model.current_version = "2.0.0"
        gate.go.set()
        assert answer.result() == charge(person())
    assert entries(client) == []


def test_a_model_that_no_longer_fits_the_options_is_predicted_without_the_cache(
    server: Server, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    model = FunctionModel()
    decorator = RedisCachingDecorator(url=server.url, hashing_fields=["age"])
    decorator.set_model(model)
    decorator.predict(person())
    model.current_version, model._input_schema = "2", create_model("Other", years=(int, ...))
    model._function = lambda data: Charges(charges=data.years)
    with caplog.at_level(logging.ERROR, "model_cache"):
        for _ in range(3):
            answer = decorator.predict(model.input_schema(years=7))
            assert answer == Charges(charges=7)
    assert len(caplog.records) == 2 - 1
    assert "'age'" in caplog.text
    assert len(entries(client)) == 1
    assert decorator.stats().uncacheable == 3


class FreshSchemas(FunctionModel):
    """As the data-enrichment decorators do: a new class at each access."""

    @property
    def input_schema(self) -> type[BaseModel]:
        return create_model("Fresh", __module__="fresh", age=(int, ...))

    @property
    def output_schema(self) -> type[BaseModel]:
        return create_model("FreshOutput", __module__="fresh", age=(int, ...))

    def predict(self, data: Any) -> Any:
        self.calls.append(data)
        return self.output_schema(age=data.age)


def test_schemas_rebuilt_at_each_access_are_one_schema(
    decorator: RedisCachingDecorator,
) -> None:
    model = FreshSchemas()
    decorator.set_model(model)
    for _ in range(3000):
        assert decorator.predict(model.input_schema(age=7)).age == 7
    assert len(model.calls) == 1
    assert decorator.stats().hits == 2999


def test_a_field_added_with_a_default_is_not_answered_by_old_entries(
    decorator: RedisCachingDecorator,
) -> None:
    def output(**fields: Any) -> type[BaseModel]:
        return create_model("Output", __module__="output", **fields)

    schemas = [
        output(charges=(float, ...)),
        output(charges=(float, ...), currency=(str, "USD")),
        output(charges=(float, ...), currency=(str, "EUR")),
        output(charges=(float, 0.0), currency=(str, "EUR")),
        output(charges=(int, ...)),
    ]
    keys = set()
    for schema in schemas:
        decorator.set_model(FunctionModel(output_schema=schema))
        keys.add(decorator.cache_key(person()))
    assert len(keys) == len(schemas)


class PersonWithMore(Person):
    weight: float


def test_an_input_of_a_subclass_counts_with_all_its_fields(
    decorator: RedisCachingDecorator,
) -> None:
    model = FunctionModel(function=lambda data: Charges(charges=getattr(data, "weight", 0.0)))
    decorator.set_model(model)
    fields = dict(person())
    for weight in (1.0, 2.0, 1.0):
        data = PersonWithMore(**fields, weight=weight)
        assert decorator.predict(data) == Charges(charges=weight)
    assert decorator.predict(person()) == Charges(charges=0.0)
    assert len(model.calls) == 3


def test_a_write_under_way_when_a_purge_begins_is_dropped(
    decorator: RedisCachingDecorator, client: redis.Redis
) -> None:
    gate = Gate()
    decorator.set_model(FunctionModel(function=gate))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(decorator.predict, person())
        assert gate.entered.wait(10)
        assert decorator.purge() == 0
        gate.go.set()
        answer.result()
    assert entries(client) == []
    decorator.predict(person())
    assert len(entries(client)) == 1


def test_many_threads_get_right_answers_while_the_model_is_set_and_purged(
    server: Server,
) -> None:
    decorator = RedisCachingDecorator(url=server.url, timeout=2.0)
    models = [
        FunctionModel(function=charge, qualified_name="a"),
        FunctionModel(function=lambda d: Charges(charges=-charge(d).charges), qualified_name="b"),
    ]
    decorator.set_model(models[0])
    stop = threading.Event()

    def work(seed: int) -> int:
        wrong = 0
        for number in range(400):
            data = person(age=(seed * 7 + number) % 50)
            wrong += abs(decorator.predict(data).charges) != charge(data).charges
        return wrong

    def disturb() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            decorator.set_model(models[number % 2])
            decorator.purge()

    with ThreadPoolExecutor(9) as pool:
        disturbing = pool.submit(disturb)
        assert sum(pool.map(work, range(8))) == 0
        stop.set()
        disturbing.result()
    for model in models:
        decorator.set_model(model)
        for age in range(50):
            data = person(age=age)
            assert decorator.predict(data) == model._function(data)


def test_copies_share_the_cache_and_not_the_connections(decorator: RedisCachingDecorator) -> None:
    decorator.set_model(FunctionModel())
    decorator.predict(person())
    for made in (copy.copy(decorator), copy.deepcopy(decorator)):
        assert type(made) is RedisCachingDecorator
        assert made.predict(person()) == charge(person())
        assert made.stats().hits == 1
        assert inside(made)._store is not inside(decorator)._store
        made.close()
    assert copy.copy(decorator)._model is decorator._model
    assert copy.deepcopy(decorator)._model is not decorator._model
    assert copy.copy(RedisCachingDecorator())._current.binding is None


class Broken(FunctionModel):
    broken = False

    @property
    def version(self) -> str:
        if self.broken:
            raise RuntimeError("the registry is down")
        return "1"


@pytest.mark.parametrize("enabled", [True, False])
def test_a_model_that_can_not_tell_its_version_is_predicted_without_the_cache(
    server: Server, enabled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model = Broken()
    decorator = RedisCachingDecorator(url=server.url, enabled=enabled).set_model(model)
    model.broken = True
    for _ in range(2):
        assert decorator.predict(person()) == charge(person())
    model.broken = False
    decorator.predict(person())
    assert decorator.predict(person()) == charge(person())
    assert decorator.stats().hits == int(enabled)


class Interrupted(FunctionModel):
    interrupts = ""

    def _interrupt(self, name: str) -> None:
        if self.interrupts == name:
            os.kill(os.getpid(), signal.SIGUSR1)

    @property
    def version(self) -> str:
        self._interrupt("version")
        return self.current_version

    @property
    def input_schema(self) -> type[BaseModel]:
        self._interrupt("input_schema")
        return Person


@pytest.mark.parametrize("interrupted", ["version", "input_schema"])
def test_a_soft_time_limit_gets_through_while_a_model_is_bound_again(
    decorator: RedisCachingDecorator, interrupted: str
) -> None:
    model = Interrupted()
    decorator.set_model(model)
    model.current_version, model.interrupts = "2", interrupted
    with soft_time_limit(), pytest.raises(SoftTimeLimitError):
        decorator.predict(person())
    model.interrupts = ""
    assert decorator.cache_key(person()).startswith("test_model/2/")


def test_a_set_model_while_a_reloaded_model_is_bound_again_is_not_lost(
    decorator: RedisCachingDecorator,
) -> None:
    class Slow(FunctionModel):
        def __init__(self) -> None:
            super().__init__(qualified_name="old")
            self.in_the_middle: Any = None

        @property
        def input_schema(self) -> type[BaseModel]:
            if self.in_the_middle is not None:
                self.in_the_middle()
            return Person

    old, new = Slow(), FunctionModel(function=constant(-1), qualified_name="new")
    decorator.set_model(old)
    old.current_version = "2"
    old.in_the_middle = lambda: decorator.set_model(new)
    decorator.predict(person())
    assert decorator.predict(person()) == Charges(charges=-1)


class Tenant(RedisCachingDecorator):
    def __init__(self, tenant: str, **options: Any) -> None:
        super().__init__(prefix=tenant, **options)
        self.__dict__["tenant"] = tenant


def test_a_subclass_and_a_cycle_survive_copies(server: Server) -> None:
    model = FunctionModel(function=charge)
    decorator = Tenant("acme", url=server.url).set_model(model)
    model.wrapper = decorator
    for made in (
        copy.copy(decorator),
        copy.deepcopy(decorator),
        pickle.loads(pickle.dumps(decorator)),
    ):
        assert type(made) is Tenant
        assert made.tenant == "acme"
        assert made.predict(person()) == charge(person())
    assert copy.deepcopy(decorator)._model.wrapper is not decorator


def test_a_models_error_says_nothing_of_redis() -> None:
    def fail(_: Person) -> Charges:
        raise RuntimeError("no weights")

    decorator = RedisCachingDecorator(host="127.0.0.1", port=free_port())
    decorator.set_model(FunctionModel(function=fail))
    with pytest.raises(RuntimeError) as raised:
        decorator.predict(person())
    # None, unless CPython has kept the exception of a block that a signal interrupted.
    assert raised.value.__context__ is sys.exception()

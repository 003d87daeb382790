"""Which fields are part of the decorator's keys, and how they are rounded."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from model_cache import RedisCachingDecorator
from tests.models import Charges, FunctionModel, Person, charge, person
from tests.servers import Server


@pytest.mark.parametrize("option", ["hashing_fields", "ignored_fields"])
def test_fields_left_out_of_the_key_share_an_entry(server: Server, option: str) -> None:
    left_out = ["region"]
    names = [name for name in Person.model_fields if name not in left_out]
    fields: Any = {option: names if option == "hashing_fields" else left_out}
    model = FunctionModel()
    with RedisCachingDecorator(url=server.url, **fields) as decorator:
        decorator.set_model(model)
        first = decorator.predict(person(region="northwest"))
        assert decorator.predict(person(region="southeast")) == first
        assert decorator.predict(person(region="southeast", age=43)) != first
    assert len(model.calls) == 2


class Income(BaseModel):
    amount: float
    source: str = "work"


class Customer(BaseModel):
    name: str
    income: Income | None = None
    history: list[Income] = []


class Application(BaseModel):
    customer: Customer
    request_id: str = ""


def test_dotted_paths_reach_into_nested_models(server: Server) -> None:
    def key(decorator: RedisCachingDecorator, **income: Any) -> str:
        data = Application(
            customer=Customer(name="A", income=Income(**income), history=[Income(**income)])
        )
        return decorator.cache_key(data)

    model = FunctionModel(Application, Charges, lambda _: Charges(charges=1))
    keep = RedisCachingDecorator(
        url=server.url, hashing_fields=["customer.income.amount", "customer.history.amount"]
    )
    keep.set_model(model)
    assert key(keep, amount=1, source="a") == key(keep, amount=1, source="b")
    assert key(keep, amount=1) != key(keep, amount=2)
    drop = RedisCachingDecorator(
        url=server.url, ignored_fields=["customer.income.source", "customer.history.source"]
    )
    drop.set_model(model)
    assert key(drop, amount=1, source="a") == key(drop, amount=1, source="b")
    assert key(drop, amount=1) != key(drop, amount=2)


def test_the_model_sees_the_rounded_input_and_the_caller_keeps_its_own(
    decorator: RedisCachingDecorator, server: Server
) -> None:
    model = FunctionModel()
    with RedisCachingDecorator(
        url=server.url, reduced_precision_fields=["bmi"], number_of_places=0
    ) as rounding:
        rounding.set_model(model)
        for bmi in (24.12345, 24.4321):
            data = person(bmi=bmi)
            assert rounding.predict(data) == charge(person(bmi=24.0))
            assert data.bmi == bmi
    assert [call.bmi for call in model.calls] == [24.0]


def test_entries_of_one_precision_never_answer_for_another(server: Server) -> None:
    for places in (0, 1, 2, 1, 0):
        with RedisCachingDecorator(
            url=server.url, reduced_precision_fields=["bmi"], number_of_places=places
        ) as decorator:
            decorator.set_model(FunctionModel())
            expected = charge(person(bmi=round(24.456, places)))
            assert decorator.predict(person(bmi=24.456)) == expected

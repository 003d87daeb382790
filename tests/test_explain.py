"""`explain` says why two inputs share a key, or why they do not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr

from model_cache import Explanation, ModelCacheError, RedisCachingDecorator
from tests.models import Charges, FunctionModel, Person, person


class Request(BaseModel):
    model_config = ConfigDict(extra="allow")
    age: float = 0
    token: SecretStr = SecretStr("")
    note: str = Field("", repr=False)
    payload: dict[str, Any] = {}
    request_id: str = ""
    _cache: int = PrivateAttr(0)


def decorated(schema: type[BaseModel] = Request, **options: Any) -> RedisCachingDecorator:
    decorator = RedisCachingDecorator(url="redis://nowhere:1", **options)
    return decorator.set_model(FunctionModel(schema, Charges, lambda _: Charges(charges=1)))


def explained(a: BaseModel, b: BaseModel, **options: Any) -> Explanation:
    decorator = decorated(**options)
    explanation = decorator.explain(a, b)
    if explanation.key_a and explanation.key_b:
        assert explanation.key_a == decorator.cache_key(a)
        assert explanation.key_b == decorator.cache_key(b)
        assert explanation.same == (explanation.key_a == explanation.key_b)
        assert explanation.same == (not explanation.differences)
    return explanation


def test_the_fields_that_differ_are_named() -> None:
    explanation = decorated(Person).explain(person(age=1, bmi=2.0), person(age=2, bmi=2.5))
    assert not explanation.same
    assert str(explanation) == (
        "The inputs have different keys.\nThey differ in:\n  age: 1 and 2\n  bmi: 2.0 and 2.5"
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        explanation.same = True  # type: ignore[misc]


def test_equal_inputs_have_the_same_key() -> None:
    explanation = explained(Request(age=1), Request(age=1))
    assert explanation.same
    assert str(explanation) == "The inputs have the same key."


def test_what_differs_outside_the_key_is_named_apart() -> None:
    a = Request(request_id="one", payload={"id": 1, "a": 1, "b": 2})
    b = Request(request_id="two", payload={"id": 2, "b": 2, "a": 1})
    options: dict[str, Any] = {"ignored_fields": ["request_id", "payload.id"]}
    explanation = explained(a, b, **options, ordered_dicts=False)
    assert explanation.same
    assert [each.field for each in explanation.ignored] == [
        "payload['id']",
        "payload",
        "request_id",
    ]
    assert "Not part of the key:\n  payload['id']: 1 and 2" in str(explanation)
    assert [each.field for each in explained(a, b, **options).differences] == ["payload"]


def test_rounding_shows_the_values_before_and_after() -> None:
    explanation = explained(
        Request(age=24.12), Request(age=24.1), reduced_precision=True, number_of_places=1
    )
    assert explanation.same
    assert str(explanation) == (
        "The inputs have the same key.\nRounded:\n  age of a: 24.12 becomes 24.1"
    )


def test_extra_fields_and_private_attributes_are_compared() -> None:
    a, b = Request(**{"more": 1}), Request()
    b._cache = 2
    assert [str(each) for each in explained(a, b).differences] == [
        "more: 1, only a has it",
        "_cache: 0 and 2",
    ]


def test_secrets_are_not_shown() -> None:
    a = Request(token=SecretStr("hunter1"), note="hunter2", payload={"t": SecretStr("hunter3")})
    b = Request(token=SecretStr("hunter4"), note="hunter5", payload={"t": SecretStr("hunter6")})
    explanation = explained(a, b)
    assert [each.field for each in explanation.differences] == ["token", "note", "payload['t']"]
    assert "hunter" not in f"{explanation} {explanation!r}"


def test_with_a_key_secret_no_value_is_shown() -> None:
    a, b = (Request(age=age, payload={"a b": age}, request_id=f"{age}") for age in (11.23, 22.34))
    explanation = explained(
        a,
        b,
        key_secret="k",
        ignored_fields=["request_id"],
        reduced_precision_fields=["age"],
        number_of_places=1,
    )
    shown = f"{explanation} {explanation!r}".replace(str(explanation.key_a), "")
    shown = shown.replace(str(explanation.key_b), "")
    assert not any(text in shown for text in ("11.2", "22.3", "a b"))
    assert "age: their values differ" in str(explanation)
    assert "age of b\n" in str(explanation)
    assert str(explanation).endswith(
        "Values are not shown, because key_secret or encryption_key is set."
    )


def test_an_input_without_a_key_says_why() -> None:
    explanation = explained(Request(payload={"when": object()}), Request(age=1))
    assert not explanation.same
    assert explanation.key_a is None
    assert explanation.no_key_a is not None
    assert explanation.no_key_a.startswith("payload['when']: a value of type builtins.object")
    assert explanation.no_key_b is None
    assert "Input a has no key: payload['when']: " in str(explanation)
    assert "age: 0 and 1.0" in str(explanation) or "age: 0.0 and 1.0" in str(explanation)


def test_an_input_of_another_class_has_no_key() -> None:
    explanation = decorated().explain(person(), Request())
    assert explanation.no_key_a == "expected an instance of Request, got Person"
    assert [each.field for each in explanation.differences] == [""]


def test_a_long_list_of_differences_is_cut_short() -> None:
    a, b = (Request(payload={"v": [float(n)] * 100}) for n in (1, 2))
    explanation = explained(a, b)
    assert len(explanation.differences) == 100
    assert str(explanation).endswith("  ... and 80 more")


def test_without_a_model_there_is_nothing_to_explain() -> None:
    with pytest.raises(ModelCacheError, match="no model is set"):
        RedisCachingDecorator().explain(person(), person())

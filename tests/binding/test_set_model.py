"""Warnings of `set_model`: echoed input fields, and models with the same keys."""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, create_model

from model_cache import RedisCachingDecorator
from tests.models import Charges, FunctionModel


class Meta(BaseModel):
    request_id: str
    user: str


class In(BaseModel):
    age: int
    request_id: str = ""
    meta: Meta | None = None
    more: list[Meta] = []


class Tree(BaseModel):
    children: list[Tree] = []
    request_id: str = ""


def warned(*, output: dict[str, Any], **options: Any) -> list[str]:
    """Return which fields of an output are warned of."""
    fields: Any = {name: (kind, ...) for name, kind in output.items()}
    schema = create_model("Out", **fields)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        RedisCachingDecorator(**options).set_model(FunctionModel(In, schema))
    assert all(each.filename == __file__ for each in caught)
    return [str(each.message).split("'")[1] for each in caught]


def test_a_field_of_the_input_outside_the_key_is_found_at_any_depth_of_the_output() -> None:
    ignoring: dict[str, Any] = {"ignored_fields": ["request_id"]}
    assert warned(output={"request_id": str}, **ignoring) == ["request_id"]
    assert warned(output={"meta": Meta, "age": int}, **ignoring) == ["meta.request_id"]
    assert warned(output={"pages": list[Meta]}, **ignoring) == ["pages.request_id"]
    assert warned(output={"by_name": dict[str, Meta | None]}, **ignoring) == ["by_name.request_id"]
    assert warned(output={"tree": Tree}, **ignoring) == ["tree.request_id"]
    assert "input.request_id" in warned(output={"input": In}, **ignoring)
    assert warned(output={"user": str}, **ignoring) == []


def test_a_nested_field_outside_the_key_is_found_by_its_path_or_the_end_of_it() -> None:
    ignoring: dict[str, Any] = {"ignored_fields": ["meta.request_id"]}
    assert warned(output={"meta": Meta}, **ignoring) == ["meta.request_id"]
    assert warned(output={"input": In}, **ignoring) == ["input.meta.request_id"]
    assert warned(output={"request_id": str}, **ignoring) == ["request_id"]
    assert warned(output={"page": Meta}, **ignoring) == []
    assert warned(output={"meta": Meta}, ignored_fields=["meta"]) == ["meta"]
    assert warned(output={"user": str}, ignored_fields=["meta"]) == ["user"]
    assert warned(output={"user": str}, hashing_fields=["age", "meta.request_id"]) == ["user"]
    assert warned(output={"input": In}) == []


def test_a_cache_that_is_turned_off_warns_of_nothing() -> None:
    assert warned(output={"request_id": str}, ignored_fields=["request_id"], enabled=False) == []


class First(FunctionModel):
    pass


class Second(FunctionModel):
    pass


def named(cls: type[FunctionModel], **options: Any) -> Any:
    return cls(qualified_name="namesakes", **options)


def test_two_models_with_the_same_keys_are_warned_of() -> None:
    first = RedisCachingDecorator().set_model(named(First))
    with pytest.warns(UserWarning, match=r"First and .*Second both .*'namesakes'") as caught:
        RedisCachingDecorator().set_model(named(Second))
    assert [each.filename for each in caught] == [__file__]
    with pytest.warns(UserWarning, match="share cache entries"):
        first.set_model(named(Second)), first.set_model(named(First))


def defined_again(factor: str) -> Any:
    """Return a model whose class a notebook's cell defines anew each time that it runs."""
    scope: dict[str, Any] = {"FunctionModel": FunctionModel, "Charges": Charges, "__name__": "cell"}
    cell = f"""
class Again(FunctionModel):
    def predict(self, data):
        return Charges(charges={factor} * data.age)
"""
    exec(cell, scope)
    return scope["Again"](qualified_name="again")


def test_a_model_that_was_defined_again_with_other_code_is_warned_of() -> None:
    kept = RedisCachingDecorator().set_model(defined_again("2.0"))
    same = RedisCachingDecorator().set_model(defined_again("2.0"))  # warnings are errors
    with pytest.warns(
        UserWarning, match=r"cell\.Again was defined again with other code"
    ) as caught:
        RedisCachingDecorator().set_model(defined_again("3.0"))
    assert [each.filename for each in caught] == [__file__]
    assert kept is not same


def test_models_that_share_no_keys_are_not_warned_of() -> None:
    kept = [RedisCachingDecorator().set_model(named(First)) for _ in range(2)]
    cases: list[tuple[Any, dict[str, Any]]] = [
        (named(Second, version="2"), {}),
        (named(Second, output_schema=Meta), {}),
        (named(Second, input_schema=Meta), {}),
        (named(Second), {"prefix": "other"}),
        (named(Second), {"revision": "other"}),
        (named(Second), {"ignored_fields": ["age"]}),
        (named(Second), {"database": 1}),
        (named(Second), {"host": "other"}),
        (named(Second), {"enabled": False}),
    ]
    for model, options in cases:
        kept.append(RedisCachingDecorator(**options).set_model(model))


def test_a_model_whose_class_was_reloaded_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    code = "from tests.models import FunctionModel\nclass Reloaded(FunctionModel): pass\n"
    (tmp_path / "reloaded_model.py").write_text(code)
    module = importlib.import_module("reloaded_model")
    first = module.Reloaded
    kept = RedisCachingDecorator().set_model(named(first))
    importlib.reload(module)
    assert module.Reloaded is not first
    RedisCachingDecorator().set_model(named(module.Reloaded))
    kept.set_model(named(module.Reloaded))
    monkeypatch.delitem(sys.modules, "reloaded_model")

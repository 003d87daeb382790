"""What differs between two inputs is found, and nothing else."""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, ConfigDict, SecretStr

from model_cache.errors import NotCacheableError
from model_cache.keys.canonical import INPUTS, UNORDERED_INPUTS, KeyTree, Selection
from model_cache.keys.comparing import Comparer
from tests.catalogue import Case
from tests.keys.forms import SQUARE, Anything
from tests.properties.cases import chances, each_case
from tests.properties.variants import some_mutants


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    known: int = 0


def found(a: Any, b: Any, **how: Any) -> list[str]:
    one, other = Anything.model_construct(value=a), Anything.model_construct(value=b)
    return [str(each) for each in Comparer(**how).differences(one, other)]


@each_case
def test_there_are_differences_exactly_where_the_keys_differ(case: Case) -> None:
    @settings(max_examples=15)
    @given(st.lists(case.instances, min_size=2, max_size=2), chances)
    def compared(values: list[BaseModel], chance: random.Random) -> None:
        one, *others = [*values, *some_mutants(values[0], chance, 5)]
        for canonicalizer in (INPUTS, UNORDERED_INPUTS):
            comparer = Comparer(canonicalizer)
            for other in others:
                differences = comparer.differences(one, other)
                try:
                    same = canonicalizer.encode(one) == canonicalizer.encode(other)
                except NotCacheableError:
                    continue
                assert (not differences) == same
                hidden = Comparer(canonicalizer, hides=True).differences(one, other)
                assert all(each.a is None and each.b is None for each in hidden)
                assert len(hidden) == len(differences)

    compared()


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (40, 41, ["value: 40 and 41"]),
        (40, 40.0, ["value: 40 and 40.0, their types differ: int and float"]),
        ([1, 2, 3], [1, 5, 3], ["value[1]: 2 and 5"]),
        ([1, 2], [7, 2, 3], ["value: their lengths differ: 2 and 3", "value[0]: 1 and 7"]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, ["value: the items are in another order"]),
        ({"a": {"b": [1]}}, {"a": {"b": [2]}}, ["value['a']['b'][0]: 1 and 2"]),
        ({"a": 1}, {"b": 1}, ["value['a']: 1, only a has it", "value['b']: 1, only b has it"]),
        ({1: 2}, {1.0: 2}, ["value[1]: 2, only a has it", "value[1.0]: 2, only b has it"]),
        ({1}, {2}, ["value: <set of 1>, they have different items"]),
        ("x" * 99 + "a", "x" * 99 + "b", None),
        (SecretStr("one"), SecretStr("two"), ["value: they are secrets, which are not shown"]),
        ([SecretStr("one")], ["two"], None),
        (OrderedDict(a="pw"), OrderedDict(a="q"), None),
        (SQUARE, SQUARE.copy(order="F"), None),
        (np.int64(1), np.longlong(1), None),
        (Open(known=1), Open(known=2), ["value.known: 1 and 2"]),
        (Open(more=1), Open(), ["value.more: 1, only a has it"]),
        (Open(known=1), Anything(value=1), None),
        (Open(a=1, b=2), Open(b=2, a=1), ["value: the items are in another order"]),
        (object, None, None),
    ],
)
def test_a_difference_is_found_where_it_is(a: Any, b: Any, expected: list[str] | None) -> None:
    lines = found(a, b)
    assert lines == expected if expected else len(lines) == 1
    assert "two" not in str(lines)
    assert "pw" not in str(lines)
    assert not found(a, a)


def test_a_long_text_says_where_it_differs() -> None:
    (line,) = found("x" * 99 + "a", "x" * 99 + "b")
    assert line.endswith("they differ from position 99 on")
    assert len(line) < 250


def test_an_url_does_not_show_its_password() -> None:
    for kind in (str, AnyUrl):
        (line,) = found(kind("http://user:pw1@host/x"), kind("http://user:pw2@host/x"))
        assert "pw" not in line
        assert "http://***" in line


def test_what_a_selection_leaves_out_makes_no_difference() -> None:
    tree = {"value": KeyTree({"id": None, "user": KeyTree({"name": None})})}
    a, b = {"id": 1, "user": {"name": "a"}, "x": 1}, {"user": {"name": "b"}, "x": 1}
    one, other = Anything(value=a), Anything(value=b)
    assert not Comparer().differences(one, other, Selection(tree, keep=False))
    kept = Comparer().differences(one, other, Selection(tree, keep=True))
    assert [each.field for each in kept] == ["value['id']", "value['user']['name']"]
    dropped = Anything(value={**b, "x": 2})
    (found,) = Comparer().differences(one, dropped, Selection(tree, keep=False))
    assert found.field == "value['x']"


def test_hidden_values_include_keys_that_are_data() -> None:
    text = str(found({"secret key": 12345}, {"secret key": 67890}, hides=True))
    assert text == "['value[...]: their values differ']"
    assert found([1], [1, 2], hides=True) == ["value: their lengths differ"]


def test_a_value_that_contains_itself_ends() -> None:
    a: list[Any] = [1]
    a += [a, a]
    b: list[Any] = [2]
    b += [b, b]
    assert "value[0]: 1 and 2" in found(a, b)

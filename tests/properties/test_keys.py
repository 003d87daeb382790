"""Inputs share a key only if no model can distinguish them."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import itertools
import math
import random
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from model_cache import NotCacheableError
from model_cache.binding.places import path_tree
from model_cache.keys.canonical import Selection, Tree
from model_cache.keys.key import KeyMaker, Namespace
from tests.catalogue import CASES, Case, choices, hidden_state, plain_fields, structures, subclasses
from tests.properties.cases import KEYS, chances, each_case, key
from tests.properties.pictures import picture, slots
from tests.properties.variants import rebuilt, revalidated, some_mutants


def assert_keys_tell_apart_what_differs(values: list[BaseModel]) -> None:
    keys: dict[Any, bytes] = {}
    pictures: dict[bytes, Any] = {}
    for value in values:
        made = key(value)
        if made is not None:
            seen = picture(value)
            assert keys.setdefault(seen, made) == made, "one input, two keys"
            assert pictures.setdefault(made, seen) == seen, "two inputs, one key"


@each_case
def test_a_copy_of_an_input_has_the_same_key(case: Case) -> None:
    @given(case.instances)
    def copies(value: BaseModel) -> None:
        expected = KEYS.key(value)
        assert KEYS.key(rebuilt(value)) == expected
        for made in (copy.copy(value), copy.deepcopy(value)):
            # pydantic's own copies lack what a class keeps in slots; numpy's have no gaps.
            assert KEYS.key(made) == expected or picture(made) != picture(value)

    copies()


@each_case
def test_inputs_share_a_key_only_if_they_are_the_same(case: Case) -> None:
    @given(st.lists(case.instances, min_size=2, max_size=4), chances)
    def partition(values: list[BaseModel], chance: random.Random) -> None:
        again = [made for made in map(revalidated, values) if made is not None]
        near = some_mutants(values[0], chance, 20)
        assert_keys_tell_apart_what_differs([*values, *again, *near])

    partition()


@given(st.tuples(*(case.instances for case in CASES)))
def test_inputs_of_different_schemas_do_not_share_a_key(values: tuple[BaseModel, ...]) -> None:
    assert_keys_tell_apart_what_differs(list(values))


def test_strings_that_look_like_canonical_bytes_do_not_share_a_key() -> None:
    words = ["".join(letters) for n in range(3) for letters in itertools.product("s1:;", repeat=n)]
    pairs = list(itertools.product(words, repeat=2))
    values: list[BaseModel] = [plain_fields.Texts(first=a, second=b, third="") for a, b in pairs]
    for arrange in (
        lambda a, b: [a, b],
        lambda a, b: [[a], b],
        lambda a, b: [[a, b]],
        lambda a, b: [a + b],
        lambda a, b: {a: b},
        lambda a, b: {a.encode(), b},
        lambda a, b: (a.encode(), b.encode()),
    ):
        values += [plain_fields.Anything(value=arrange(a, b)) for a, b in pairs]
    assert_keys_tell_apart_what_differs(values)


def test_the_picture_distinguishes_values_that_look_alike() -> None:
    alike: list[Any] = [1, 1.0, True, "1", b"1", Decimal(1), np.int64(1), np.float64(1), [1], (1,)]
    alike += [0, 0.0, -0.0, False, None, "", b"", [], (), {}, set(), frozenset(), math.nan]
    alike += [{1: 2, 3: 4}, {3: 4, 1: 2}, {"1": 2, 3: 4}, subclasses.Token("1"), SecretStr("1")]
    alike += [choices.Color.red, "red", choices.Level.low, choices.Mode.a, {1}, {True}, {1.0}]
    alike += [dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, fold=1), dt.date(2024, 1, 1)]
    alike += [Decimal("1.0"), Decimal("NaN"), Decimal("sNaN"), np.array([1]), np.array([[1]])]
    assert len(set(map(picture, alike))) == len(alike)
    assert picture(math.nan) == picture(float("nan")) != picture(-math.nan)


SELECTABLE = {
    structures.Outer: ["inner", "inner.left", "several", "several.right", "named.left", "maybe"],
    structures.Dataclasses: ["plain.x", "plain.note", "slots.x", "checked.points.x", "either.y"],
    structures.Lookalikes: ["value", "value.left", "value.right"],
    structures.Boxes: ["numbers.value", "inner.value.left", "nested.value", "nested.value.value"],
    structures.Node: ["value", "children.value", "children.children", "parent"],
    hidden_state.Open: ["known"],
    hidden_state.Private: ["shown"],
    plain_fields.Texts: ["first", "second"],
}


def selected(value: Any, tree: Tree, *, keep: bool) -> Any:
    """Return the picture of what counts of a value."""
    if not isinstance(value, BaseModel) and not dataclasses.is_dataclass(value):
        if type(value) is dict:
            return [(picture(name), selected(value[name], tree, keep=keep)) for name in value]
        if type(value) in (list, tuple):
            return (type(value), [selected(item, tree, keep=keep) for item in value])
        return picture(value)
    state = {**getattr(value, "__dict__", {}), **slots(value)}
    cls: Any = type(value)
    declared = cls.model_fields if isinstance(value, BaseModel) else cls.__dataclass_fields__
    if keep and not declared.keys() & tree.keys():
        return picture(value)
    seen: list[Any] = [type(value)]
    for name in sorted(state):
        below = tree.get(name, {})
        if name not in tree:
            if not keep:
                seen.append((name, picture(state[name])))
        elif below is not None:
            seen.append((name, selected(state[name], below, keep=keep)))
        elif keep:
            seen.append((name, picture(state[name])))
    if isinstance(value, BaseModel) and not keep:
        seen += [picture(value.__pydantic_extra__ or {}), picture(value.__pydantic_private__ or {})]
    return seen


@pytest.mark.parametrize("schema", SELECTABLE, ids=lambda schema: schema.__name__)
def test_a_selection_of_fields_counts_and_nothing_else(schema: type[BaseModel]) -> None:
    (instances, *_) = [case.instances for case in CASES if case.schema is schema]

    @given(
        st.lists(instances, min_size=2, max_size=4),
        st.sets(st.sampled_from(SELECTABLE[schema]), min_size=1),
        st.booleans(),
        chances,
    )
    def partition(
        values: list[BaseModel], paths: set[str], keep: bool, chance: random.Random
    ) -> None:
        tree = path_tree(paths)
        maker = KeyMaker(Namespace(None, "m", "1"), selection=Selection(tree, keep))
        keys: dict[str, bytes] = {}
        pictures: dict[bytes, str] = {}
        for value in [*values, *some_mutants(values[0], chance, 20)]:
            try:
                made = maker.key(value)
            except NotCacheableError:
                continue
            seen = repr(selected(value, tree, keep=keep))
            assert keys.setdefault(seen, made) == made, "what does not count made a difference"
            assert pictures.setdefault(made, seen) == seen, "what counts made no difference"

    partition()

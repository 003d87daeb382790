"""With `ordered_dicts=False`, dicts with the same items in another order are the same."""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict, defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, RootModel

from model_cache import NotCacheableError, RedisCachingDecorator, pydantic_attributes
from model_cache.keys.canonical import INPUTS, UNORDERED_INPUTS, Selection
from model_cache.keys.key import KeyMaker, Namespace
from tests.keys.forms import Anything
from tests.models import Charges, FunctionModel
from tests.servers import Server

NAMESPACE = Namespace(None, "m", "1")
ORDERED, UNORDERED = KeyMaker(NAMESPACE), KeyMaker(NAMESPACE, ordered_dicts=False)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


def opened(extra: dict[str, Any]) -> Open:
    made = Open()
    pydantic_attributes.set_extra(made, extra)
    return made


class Named(dict[str, int]):
    pass


def form(value: Any) -> bytes:
    return UNORDERED_INPUTS.encode(value)


SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=2), st.dates()
)
VALUES = st.recursive(
    SCALARS,
    lambda inside: st.one_of(
        st.lists(inside, max_size=3),
        st.dictionaries(SCALARS, inside, max_size=4),
        st.dictionaries(st.text(max_size=3), inside, max_size=3).map(opened),
    ),
    max_leaves=12,
)


def backwards(value: Any) -> Any:
    """Return the same value with the items of all dicts in the opposite order."""
    if type(value) is dict:
        return {key: backwards(item) for key, item in reversed(value.items())}
    if type(value) is list:
        return [backwards(item) for item in value]
    if isinstance(value, Open):
        return opened(backwards(value.model_extra))
    return value


@given(VALUES)
def test_the_order_means_nothing_at_any_level(value: Any) -> None:
    assert form(value) == form(backwards(value))


def sorted_picture(value: Any) -> Any:
    if type(value) is dict:
        return (dict, sorted((repr(key), sorted_picture(item)) for key, item in value.items()))
    if type(value) is list:
        return [sorted_picture(item) for item in value]
    if isinstance(value, Open):
        return (Open, sorted_picture(value.model_extra or {}))
    return repr(value)


@given(VALUES, VALUES)
def test_values_with_other_items_stay_apart(one: Any, other: Any) -> None:
    same = repr(sorted_picture(one)) == repr(sorted_picture(other))
    # repr shows all NaNs alike
    assert (form(one) == form(other)) <= same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
        ({"a": 1}, {"a": 1.0}),
        ({1: "a", "1": "b"}, {1: "b", "1": "a"}),
        ({"a": "b", "c": "d"}, {"a": "d", "c": "b"}),
        ({float("nan"): 1, -float("nan"): 2}, {float("nan"): 2, -float("nan"): 1}),
        ([1, 2], [2, 1]),
        (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)),
    ],
)
def test_what_differs_otherwise_still_differs(one: Any, other: Any) -> None:
    assert form(one) != form(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Named(a=1, b=2), Named(b=2, a=1)),
        (defaultdict(int, a=1, b=2), defaultdict(int, b=2, a=1)),
        (RootModel[dict[str, int]]({"a": 1, "b": 2}), RootModel[dict[str, int]]({"b": 2, "a": 1})),
        (OrderedDict(a={"b": 1, "c": 2}), OrderedDict(a={"c": 2, "b": 1})),
        ({dt.date(2024, 1, 1): 1, None: 2}, {None: 2, dt.date(2024, 1, 1): 1}),
    ],
)
def test_other_classes_of_dicts(one: Any, other: Any) -> None:
    assert INPUTS.encode(one) != INPUTS.encode(other)
    assert form(one) == form(other)


def test_two_nans_as_keys_may_swap_places() -> None:
    one, other = float("nan"), float("nan")
    assert form({one: 1, other: 2}) == form({other: 2, one: 1}) == form({one: 2, other: 1})


def test_the_order_means_nothing_inside_a_selection() -> None:
    class Outer(BaseModel):
        inner: Open
        other: int = 0

    chosen = Selection({"other": None}, keep=False)
    maker = KeyMaker(NAMESPACE, selection=chosen, ordered_dicts=False)
    one = Outer(inner=Open(**{"a": 1, "b": {"c": 1, "d": 2}}), other=1)
    other = Outer(inner=Open(**{"b": {"d": 2, "c": 1}, "a": 1}), other=2)
    assert maker.key(one) == maker.key(other)
    below = Selection({"value": {"other": None}}, keep=False)
    maker = KeyMaker(NAMESPACE, selection=below, ordered_dicts=False)
    assert maker.key(Anything(value={"a": one, "b": 1})) == maker.key(
        Anything(value={"b": 1, "a": other})
    )


def test_the_two_modes_never_share_a_key() -> None:
    for value in ({}, {"a": 1}, [1], None):
        data = Anything(value=value)
        assert ORDERED.key(data) != UNORDERED.key(data)


def test_a_value_without_a_form_is_named_as_in_the_other_mode() -> None:
    data = Anything(value={"a": 1, "when": object()})
    with pytest.raises(NotCacheableError) as raised:
        UNORDERED.key(data)
    assert raised.value.path == "value['when']"


def test_inputs_with_the_items_in_another_order_share_an_entry(server: Server) -> None:
    class Request(BaseModel):
        features: dict[str, float]

    model = FunctionModel(Request, Charges, lambda data: Charges(charges=data.features["a"]))
    one, other = Request(features={"a": 1, "b": 2}), Request(features={"b": 2, "a": 1})
    with RedisCachingDecorator(url=server.url, ordered_dicts=False) as decorator:
        decorator.set_model(model)
        assert decorator.predict(one) == decorator.predict(other) == Charges(charges=1)
        assert len(model.calls) == 1
        keys = {decorator.cache_key(one), decorator.cache_key(other)}
    with RedisCachingDecorator(url=server.url, ordered_dicts="true") as decorator:  # type: ignore[arg-type]
        decorator.set_model(model)
        keys |= {decorator.cache_key(one), decorator.cache_key(other)}
    assert len(keys) == 3


def test_the_option_of_a_cache_inside_is_part_of_the_key_outside(server: Server) -> None:
    class Request(BaseModel):
        features: dict[str, float]

    model = FunctionModel(Request, Charges, lambda data: Charges(charges=data.features["a"]))
    keys = set()
    for ordered in (True, False):
        inner = RedisCachingDecorator(url=server.url, ordered_dicts=ordered).set_model(model)
        outer = RedisCachingDecorator(url=server.url).set_model(inner)
        keys.add(outer.cache_key(Request(features={"a": 1})))
    assert len(keys) == 2

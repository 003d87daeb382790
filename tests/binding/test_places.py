"""`ignored_fields` and `hashing_fields` name more than declared fields."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NotRequired

import pydantic
import pytest
from pydantic import BaseModel, ConfigDict, PrivateAttr, RootModel
from typing_extensions import TypedDict

from model_cache import ConfigurationError, RedisCachingDecorator
from model_cache.keys.canonical import KeyTree, Selection
from model_cache.keys.key import KeyMaker, Namespace
from model_cache.pydantic_attributes import set_extra
from tests.models import Charges, FunctionModel


class Payload(TypedDict):
    user: str
    request_id: NotRequired[str]


class Part(BaseModel):
    left: int = 0
    right: int = 0


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    known: int = 0


@pydantic.dataclasses.dataclass(config=ConfigDict(extra="allow"))
class OpenDataclass:
    known: int = 0


@dataclass
class Closed:
    known: int = 0


class Input(BaseModel):
    age: int = 0
    payload: dict[str, Any] = {}
    numbers: dict[int, int] = {}
    typed: Payload = {"user": "ann"}
    rows: list[dict[str, Any]] = []
    parts: dict[str, Part] = {}
    part: Part = Part()
    open: Open = Open()
    opened: OpenDataclass | None = None
    closed: Closed = Closed()
    anything: Any = None
    either: Part | dict[str, int] | None = None
    named: dict[str, Payload] = {}
    mapped: Mapping[str, int] = {}
    ordered: OrderedDict[str, int] = OrderedDict()
    _cache: dict[str, Any] = PrivateAttr(default_factory=dict)


class OpenInput(Input):
    model_config = ConfigDict(extra="allow")


def keys(schema: type[BaseModel], *inputs: BaseModel, **options: Any) -> list[str]:
    decorator = RedisCachingDecorator(url="redis://nowhere:1", **options)
    decorator.set_model(FunctionModel(schema, Charges, lambda _: Charges(charges=1)))
    return [decorator.cache_key(data) for data in inputs]


def number_of_keys(*inputs: BaseModel, **options: Any) -> int:
    return len(set(keys(type(inputs[0]), *inputs, **options)))


def private(**cache: Any) -> Input:
    made = Input()
    made._cache = cache
    return made


IGNORED: list[tuple[str, BaseModel, BaseModel, BaseModel]] = [
    # a path, two inputs that differ only there, and one that differs elsewhere
    ("extra", OpenInput(extra=1), OpenInput(), OpenInput(extra=1, more=1)),
    ("extra.id", OpenInput(extra={"id": 1}), OpenInput(extra={}), OpenInput(extra={"a": 1})),
    ("_cache", private(a=1), Input(), Input(age=1)),
    ("_cache.a", private(a=1, b=1), private(b=1), private(b=2)),
    ("payload.id", Input(payload={"id": 1}), Input(payload={}), Input(payload={"a": {"id": 1}})),
    (
        "payload.user.id",
        Input(payload={"user": {"id": 1, "name": "a"}}),
        Input(payload={"user": {"name": "a"}}),
        Input(payload={"user": {"name": "a"}, "id": 1}),
    ),
    (
        "typed.request_id",
        Input(typed={"user": "a", "request_id": "1"}),
        Input(typed={"user": "a"}),
        Input(typed={"user": "b"}),
    ),
    ("rows.id", Input(rows=[{"id": 1, "a": 2}]), Input(rows=[{"a": 2}]), Input(rows=[{"a": 3}])),
    ("open.extra", Input(open=Open(extra=1)), Input(), Input(open=Open(more=1))),
    (
        "opened.extra",
        Input(opened=OpenDataclass(**{"extra": 1})),
        Input(opened=OpenDataclass()),
        Input(opened=OpenDataclass(known=1)),
    ),
    ("anything.id", Input(anything={"id": 1}), Input(anything={}), Input(anything=[])),
    ("anything.left", Input(anything=Part(left=1)), Input(anything=Part()), Input(anything={})),
    ("either.id", Input(either={"id": 1}), Input(either={}), Input(either={"a": 1})),
    ("either.left", Input(either=Part(left=1)), Input(either=Part()), Input(either={"right": 1})),
    (
        "named.ann.request_id",
        Input(named={"ann": {"user": "a", "request_id": "1"}}),
        Input(named={"ann": {"user": "a"}}),
        Input(named={"bob": {"user": "a", "request_id": "1"}}),
    ),
    ("mapped.id", Input(mapped={"id": 1}), Input(), Input(mapped={"a": 1})),
]


@pytest.mark.parametrize(("path", "one", "same", "other"), IGNORED)
def test_what_is_ignored_does_not_count_and_what_is_beside_it_does(
    path: str, one: BaseModel, same: BaseModel, other: BaseModel
) -> None:
    assert number_of_keys(one, same, ignored_fields=[path]) == 1
    assert number_of_keys(one, same, other, ignored_fields=[path]) == 2
    assert number_of_keys(one, same, other) == 3


KEPT: list[tuple[str, BaseModel, BaseModel, BaseModel]] = [
    # a path, two inputs that are equal there, and one that is not
    ("extra", OpenInput(extra=1, age=1), OpenInput(extra=1, more=1), OpenInput(extra=2)),
    (
        "extra.user",
        OpenInput(extra={"user": 1, "id": 1}),
        OpenInput(extra={"user": 1}),
        OpenInput(extra={"user": 2}),
    ),
    ("_cache", private(a=1), private(a=1).model_copy(update={"age": 2}), private(a=2)),
    (
        "payload.user",
        Input(payload={"user": 1, "id": 1}, age=1),
        Input(payload={"id": 2, "user": 1}),
        Input(payload={"user": 2}),
    ),
    (
        "typed.user",
        Input(typed={"user": "a", "request_id": "1"}),
        Input(typed={"user": "a"}),
        Input(typed={"user": "b"}),
    ),
    ("rows.a", Input(rows=[{"id": 1, "a": 2}]), Input(rows=[{"a": 2}]), Input(rows=[{"a": 3}])),
    (
        "opened.extra",
        Input(opened=OpenDataclass(**{"extra": 1}, known=1)),
        Input(opened=OpenDataclass(**{"extra": 1})),
        Input(opened=OpenDataclass(**{"extra": 2})),
    ),
]


@pytest.mark.parametrize(("path", "one", "same", "other"), KEPT)
def test_only_what_is_named_counts(
    path: str, one: BaseModel, same: BaseModel, other: BaseModel
) -> None:
    assert number_of_keys(one, same, hashing_fields=[path]) == 1
    assert number_of_keys(one, same, other, hashing_fields=[path]) == 2


def test_a_dict_or_a_model_without_any_named_field_counts_whole() -> None:
    inputs = [Input(payload={"a": 1}), Input(payload={"a": 2}), Input(payload={})]
    assert number_of_keys(*inputs, hashing_fields=["payload.user"]) == 3
    extra = [OpenInput(a=1), OpenInput(a=2), OpenInput(age=1)]
    assert number_of_keys(*extra, hashing_fields=["user"]) == 3
    assert number_of_keys(*extra, hashing_fields=["user", "age"]) == 2


def test_a_path_through_a_dict_of_models_names_the_fields_of_the_models() -> None:
    one, other = Input(parts={"left": Part(left=1)}), Input(parts={"left": Part(left=2)})
    assert number_of_keys(one, other, ignored_fields=["parts.left"]) == 1
    assert number_of_keys(one, Input(), ignored_fields=["parts.left"]) == 2


def test_only_strings_are_named_as_keys() -> None:
    inputs = [Input(anything={1: 2}), Input(anything={"1": 2}), Input(anything={})]
    one, other, empty = keys(Input, *inputs, ignored_fields=["anything.1"])
    assert other == empty != one


def test_the_root_of_a_root_model_may_be_a_dict() -> None:
    root = RootModel[dict[str, int]]
    assert number_of_keys(root({"a": 1}), root({"a": 1, "id": 2}), ignored_fields=["root.id"]) == 1


def test_an_extra_field_with_the_name_of_a_declared_one_counts() -> None:
    data = OpenInput()
    set_extra(data, {"age": 1})
    assert number_of_keys(data, OpenInput(), ignored_fields=["age"]) == 2


@pytest.mark.parametrize("option", ["ignored_fields", "hashing_fields"])
@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("aeg", "Input has no field 'aeg'; did you mean 'age'?"),
        ("_cahce", "did you mean '_cache'?"),
        ("typed.reqest_id", "Input.typed has no field 'reqest_id'; did you mean 'request_id'?"),
        ("typed.user.name", "not a nested model"),
        ("parts.rihgt", "did you mean 'right'?"),
        ("part.letf", "did you mean 'left'?"),
        ("closed.knwon", "did you mean 'known'?"),
        ("named.ann.usre", "did you mean 'user'?"),
        ("numbers.one", "not a nested model"),
        ("ordered.a", "not a nested model"),
        ("age.x", "not a nested model"),
    ],
)
def test_a_name_that_nothing_can_have_is_refused(option: str, path: str, hint: str) -> None:
    options: dict[str, Any] = {option: [path]}
    with pytest.raises(ConfigurationError, match=option) as raised:
        keys(Input, **options)
    assert hint in str(raised.value)


def test_only_declared_fields_can_be_rounded() -> None:
    for path in ("payload.x", "_cache", "open.extra"):
        with pytest.raises(ConfigurationError, match="reduced_precision_fields"):
            keys(Input, reduced_precision_fields=[path], number_of_places=1)


def test_a_model_of_extra_fields_only_may_ignore_one() -> None:
    class Free(BaseModel):
        model_config = ConfigDict(extra="allow")

    assert number_of_keys(Free(a=1, id=1), Free(a=1, id=2), ignored_fields=["id"]) == 1
    assert number_of_keys(Free(a=1), Free(a=2), ignored_fields=["id"]) == 2


def test_keys_of_dicts_and_fields_of_models_are_different_selections() -> None:

    trees = ({"payload": {"id": None}}, {"payload": KeyTree({"id": None})})
    makers = [
        KeyMaker(Namespace(None, "m", "1"), selection=Selection(tree, keep=False)) for tree in trees
    ]
    assert len({maker.key(Input()) for maker in makers}) == 2


@pytest.mark.parametrize("path", ["request_id", "payload.request_id", "open.request_id"])
def test_an_output_that_repeats_an_ignored_name_is_warned_of(path: str) -> None:
    class Identified(Charges):
        request_id: str

    decorator = RedisCachingDecorator(ignored_fields=[path])
    words = f"'request_id' has the same name .* '{path}'.* outside the cache"
    with pytest.warns(UserWarning, match=words) as caught:
        decorator.set_model(FunctionModel(OpenInput, Identified))
    assert len(caught) == 1

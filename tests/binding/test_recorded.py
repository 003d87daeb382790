"""What a record holds of an input: what makes its key, under the names that it is given by."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    AnyUrl,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    SecretBytes,
    SecretStr,
)
from pydantic_core import from_json, to_json

from model_cache.binding.places import tree_of
from model_cache.binding.recorded import HIDDEN, recorded
from model_cache.keys.canonical import INPUTS, Selection

SECRET = "s3cr3t"


class Color(enum.Enum):
    red = "r"


class Point(NamedTuple):
    x: int
    y: int


class Inner(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str = "n"
    depth: float = 1.0


class Wide(BaseModel):
    when: dt.datetime = dt.datetime(2024, 1, 2, 3, 4, 5, 6, dt.UTC)
    amount: Decimal = Decimal("1.10")
    raw: bytes = b"raw"
    color: Color = Color.red
    point: Point = Point(1, 2)
    names: set[str] = {"a"}
    inner: Inner = Inner(more=5)
    many: list[Inner] = [Inner(depth=0.5)]
    by_name: dict[str, Inner] = {"k": Inner()}
    renamed: int = Field(3, alias="reNamed")
    chosen: int = Field(4, validation_alias=AliasChoices("choSen", "other"))
    nothing: int | None = None
    numbers: tuple[float, ...] = (float("inf"), 0.1, -0.0)


def read_back(data: BaseModel, selection: Selection | None = None) -> Any:
    return type(data).model_validate(
        from_json(to_json(recorded(data, selection), inf_nan_mode="constants"))
    )


def test_a_record_validates_to_an_input_with_the_same_canonical_bytes() -> None:
    data = Wide()
    assert INPUTS.encode(read_back(data)) == INPUTS.encode(data)


@given(st.builds(Inner, name=st.text(), depth=st.floats(allow_nan=False)))
def test_texts_and_floats_survive(data: Inner) -> None:
    if "://" not in data.name:
        assert INPUTS.encode(read_back(data)) == INPUTS.encode(data)


class Private(BaseModel):
    user: str = "u"
    password: SecretStr = SecretStr(SECRET)
    token: SecretBytes = SecretBytes(SECRET.encode())
    hidden: str = Field(SECRET, repr=False)
    place: AnyUrl = AnyUrl(f"https://u:{SECRET}@host/path")
    text: str = f"postgres://u:{SECRET}@host/db"
    nested: dict[str, Any] = {"inside": [SecretStr(SECRET)], f"redis://:{SECRET}@h": 1}
    _private: str = PrivateAttr(SECRET)


@dataclasses.dataclass
class Login:
    user: str
    password: str = dataclasses.field(repr=False)


def test_no_secret_is_recorded_wherever_it_is() -> None:
    found = recorded({"a": [Private()], "b": (Login("u", SECRET),)})
    assert SECRET not in str(found)
    assert SECRET.encode() not in to_json(found)
    [private] = found["a"]
    assert private["password"] == private["token"] == HIDDEN
    assert private["place"] == "https://***@host/path"
    assert private["text"] == "postgres://***@host/db"
    assert "hidden" not in private
    assert found["b"] == [{"user": "u"}]


def test_a_password_in_a_url_is_hidden_whatever_is_in_it() -> None:
    for password in (SECRET, f"{SECRET}@{SECRET}", f"a/{SECRET}", f"{SECRET}#?{SECRET}"):
        for user in ("", "u"):
            text = f"see redis://{user}:{password}@host:6379/0"
            assert recorded(text) == "see redis://***@host:6379/0"


def test_an_at_sign_in_a_path_or_a_query_stays() -> None:
    for text in (
        "https://host/@user/a",
        "https://host:8080/@user/a",
        "https://host?mail=a@b",
        "see http://a.com or b@c",
        "http://a.com:80?b@c",
    ):
        assert recorded(text) == text


def select(keep: bool, *paths: str) -> Selection:
    return Selection(tree_of(Wide, list(paths)), keep)


def test_fields_that_are_not_part_of_the_key_are_left_out() -> None:
    found = recorded(Wide(), select(False, "when", "inner.name", "many.depth"))
    assert "when" not in found
    assert found["inner"] == {"depth": 1.0, "more": 5}
    assert found["many"] == [{"name": "n"}]
    assert recorded(Wide(), select(True, "amount", "inner.depth")) == {
        "amount": Decimal("1.10"),
        "inner": {"depth": 1.0},
    }


class Free(BaseModel):
    payload: dict[str, Any] = {"id": 1, "a": {"id": 2}}


def test_items_of_dicts_that_are_not_part_of_the_key_are_left_out() -> None:
    def payload(keep: bool, *paths: str) -> Any:
        return recorded(Free(), Selection(tree_of(Free, paths), keep))["payload"]

    assert payload(False, "payload.id") == {"a": {"id": 2}}
    assert payload(False, "payload.a.id") == {"id": 1, "a": {}}
    assert payload(True, "payload.id") == {"id": 1}
    assert payload(True, "payload.b") == {"id": 1, "a": {"id": 2}}
    assert recorded(Wide(), select(False, "by_name.depth"))["by_name"] == {"k": {"name": "n"}}


def test_nothing_is_recorded_if_only_a_private_attribute_makes_the_key() -> None:
    private = Private()
    assert recorded(private, Selection(tree_of(Private, ["_private"]), keep=True)) == {}
    missing = Wide.model_construct(set(), **{})
    del vars(missing)["amount"]
    assert recorded(missing, select(True, "amount")) == {}


def test_extra_fields_can_be_left_out() -> None:
    assert recorded(Wide(), select(False, "inner.more"))["inner"] == {"name": "n", "depth": 1.0}


class Numbers(RootModel[list[int]]):
    pass


def test_a_root_model_is_what_is_in_it() -> None:
    assert recorded(Numbers([1, 2])) == [1, 2]


def test_arrays_become_lists() -> None:
    assert recorded(np.arange(4).reshape(2, 2)) == [[0, 1], [2, 3]]


def test_a_record_does_not_change_with_the_input() -> None:
    data = Wide()
    found = recorded(data)
    data.many[0].depth = 9.0
    data.names.add("b")
    assert (found["many"], found["names"]) == ([{"name": "n", "depth": 0.5}], ["a"])

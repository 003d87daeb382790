"""Values that a model can distinguish do not share a key."""

from __future__ import annotations

import collections
import datetime as dt
import enum
import ipaddress
import math
import struct
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest
from pydantic import AnyUrl, BaseModel, PostgresDsn, PrivateAttr, SecretStr
from pydantic_core import TzInfo

from model_cache import NotCacheableError
from model_cache.keys.canonical import INPUTS
from tests.keys.forms import NEGATIVE_NAN, NOON, ONE_HOUR, SQUARE, form, zone_from_file


def with_attribute(value: Any, name: str = "note", attribute: object = 1) -> Any:
    object.__setattr__(value, name, attribute)
    return value


class SafeDsn(PostgresDsn):
    def __str__(self) -> str:
        return "postgres://user:***@host/db"

    unicode_string = encoded_string = __repr__ = __str__


class Account:
    __slots__ = ("number",)


@dataclass(init=False)
class Masked(Account):
    name: str = ""

    def __init__(self, number: int) -> None:
        vars(Account)["number"].__set__(self, number)

    number = property(lambda self: "***")


@dataclass
class HiddenDict:
    value: int

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return {"value": "***"}


class HiddenModel(BaseModel):
    value: int
    _kept: int = PrivateAttr(0)

    def __getattribute__(self, name: str) -> Any:
        return (
            {} if name in ("__dict__", "__pydantic_private__") else super().__getattribute__(name)
        )


class Guarded(dict[str, int]):
    def keys(self) -> Any:
        return ["a"]

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __getitem__(self, key: str) -> int:
        return 0


def colour(attribute: object = None) -> enum.Enum:
    class Colour(str, enum.Enum):  # noqa: UP042 - as most schemas write it
        red = "red"

    if attribute is not None:
        Colour.red.note = attribute  # type: ignore[attr-defined]
    return Colour.red


def point(names: str) -> Any:
    make: Any = collections.namedtuple
    return make("Point", names)(1, 2)


def padded(padding: int) -> Any:
    dtype = np.dtype([("flag", "u1"), ("number", "<f8")], align=True)
    array = np.frombuffer(bytes([padding]) * 2 * dtype.itemsize, dtype).copy()
    array["flag"], array["number"] = 1, [2.5, 3.5]
    return array


def long_doubles(padding: int) -> Any:
    array = np.frombuffer(bytes([padding]) * 32, np.longdouble).copy()
    array[:] = [0.1, -3]
    if np.finfo(np.longdouble).nmant == 63:
        array.view("u1").reshape(2, 16)[:, 10:] = padding
    return array


LABELLED_NAN = struct.unpack(">d", bytes.fromhex("7ff8000000000001"))[0]

DIFFERENT: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "a zone of Python and of pydantic": (
        lambda: NOON.replace(tzinfo=dt.timezone(ONE_HOUR)),
        lambda: NOON.replace(tzinfo=TzInfo(3600)),
    ),
    "a zone of its own": (lambda: dt.timezone(ONE_HOUR), lambda: TzInfo(3600)),
    "a time of day in a zone": (
        lambda: dt.time(1, tzinfo=dt.timezone(ONE_HOUR)),
        lambda: dt.time(1, tzinfo=TzInfo(3600)),
    ),
    "the password of a URL whose class masks it": (
        lambda: SafeDsn("postgres://user:p1@host/db"),
        lambda: SafeDsn("postgres://user:p2@host/db"),
    ),
    "a slot past a masking property": (lambda: Masked(1), lambda: Masked(2)),
    "a dict past its class's own reading": (
        lambda: Guarded(a=1, b=2),
        lambda: Guarded(a=1, c=3),
    ),
    "a model past its class's own reading": (
        lambda: HiddenModel(value=1),
        lambda: HiddenModel(value=2),
    ),
    "attribute of a URL": (
        lambda: AnyUrl("http://a"),
        lambda: with_attribute(AnyUrl("http://a")),
    ),
    "attribute of an ordered dict": (
        lambda: collections.OrderedDict(a=1),
        lambda: with_attribute(collections.OrderedDict(a=1)),
    ),
    "attribute of a secret": (lambda: SecretStr("a"), lambda: with_attribute(SecretStr("a"))),
    "method of a secret": (
        lambda: with_attribute(SecretStr("a"), "get_secret_value", "a"),
        lambda: with_attribute(SecretStr("a"), "get_secret_value", "b"),
    ),
    "attribute of an interface": (
        lambda: ipaddress.IPv4Interface("10.0.0.1/8"),
        lambda: with_attribute(ipaddress.IPv4Interface("10.0.0.1/8")),
    ),
    "network of an interface": (
        lambda: ipaddress.IPv4Interface("10.0.0.1/8"),
        lambda: with_attribute(
            ipaddress.IPv4Interface("10.0.0.1/8"), "network", ipaddress.IPv4Network("11.0.0.0/8")
        ),
    ),
    "attribute of a network": (
        lambda: ipaddress.IPv6Network("::/64"),
        lambda: with_attribute(ipaddress.IPv6Network("::/64")),
    ),
    "attribute of an enum's member": (colour, lambda: colour(1)),
    "attributes of an enum's member": (lambda: colour(1), lambda: colour(2)),
    "an array's order": (lambda: SQUARE, lambda: np.asfortranarray(SQUARE)),
    "an array's strides": (lambda: np.arange(3.0), lambda: np.repeat(np.arange(3.0), 2)[::2]),
    "an array's views": (
        lambda: np.array([0.0, 1.0, 2.0]),
        lambda: np.array([2.0, 1.0, 0.0])[::-1],
    ),
    "a record and a void": (
        lambda: np.zeros(1, [("a", "<i4")])[0],
        lambda: np.zeros(1, np.dtype((np.record, [("a", "<i4")])))[0],
    ),
    "an array of records and of voids": (
        lambda: np.zeros(1, [("a", "<i4")]),
        lambda: np.zeros(1, np.dtype((np.record, [("a", "<i4")]))),
    ),
    "integers of C": (lambda: np.int64(1), lambda: np.longlong(1)),
    "arrays of integers of C": (
        lambda: np.zeros(2, np.int64),
        lambda: np.zeros(2, np.longlong),
    ),
    "an aligned structure and a packed one": (
        lambda: np.zeros(1, np.dtype([("a", "u1"), ("b", "<i4")], align=True)),
        lambda: np.zeros(1, np.dtype([("a", "u1"), ("b", "<i4")])),
    ),
    "titles of fields": (
        lambda: np.zeros(1, [(("one", "a"), "u1")]),
        lambda: np.zeros(1, [(("two", "a"), "u1")]),
    ),
    "the names of a tuple's values": (
        lambda: point("x y"),
        lambda: point("y x"),
    ),
    "classes of arrays": (lambda: SQUARE, lambda: SQUARE.view(np.matrix)),
    "how a UUID was made": (
        lambda: uuid.UUID(int=1),
        lambda: uuid.UUID(int=1, is_safe=uuid.SafeUUID.safe),
    ),
    "the sign of a NaN": (lambda: math.nan, lambda: NEGATIVE_NAN),
    "the payload of a NaN": (lambda: math.nan, lambda: LABELLED_NAN),
    "the sign of a NaN among others": (lambda: [1.0, math.nan], lambda: [1.0, NEGATIVE_NAN]),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_inputs_that_a_model_can_distinguish_do_not_share_a_key(name: str) -> None:
    one, other = DIFFERENT[name]
    forms = [form(make()) for make in (one, other)] + [form([make()]) for make in (one, other)]
    assert len(set(forms)) == len(forms)
    if "enum" not in name:  # whose classes are made anew
        assert form(one()) == form(one())


class Buried(Account):
    """Two cells of one name."""

    __slots__ = ("number",)


@dataclass(init=False)
class HoldsBuried(Buried):
    name: str = ""


class Replaced:
    __slots__ = ("number",)


cell = Replaced.number  # type: ignore[attr-defined]
Replaced.number = property(cell.__get__)  # type: ignore[attr-defined]


@dataclass(init=False)
class HoldsReplaced(Replaced):
    name: str = ""


def buried() -> HoldsBuried:
    made = HoldsBuried()
    made.number = 1  # type: ignore[attr-defined]
    vars(Account)["number"].__set__(made, 2)
    return made


class Listed(list[int], enum.Enum):  # type: ignore[misc]
    one = [1]  # noqa: RUF012 - that is what is tested


def annotated(array: Any) -> Any:
    array.note = "an attribute"
    return array


@pytest.mark.parametrize(
    "value",
    [
        HiddenDict(1),
        buried(),
        HoldsReplaced(),
        Listed.one,
        NOON.replace(tzinfo=zone_from_file("UTC")),
        NOON.replace(tzinfo=zone_from_file(None)),
        np.zeros(1, np.dtype("u1", metadata={"a": 1})),
        np.array([object()]),
        np.zeros(1, [("a", object)]),
        annotated(np.ma.masked_array([1.0], [True])),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_can_not_be_read_completely_has_no_key(value: Any) -> None:
    with pytest.raises(NotCacheableError, match=r"^value"):
        form(value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (padded(0), padded(0xFF)),
        (padded(0)[0], padded(0xFF)[0]),
        (padded(0)[["number"]], padded(0xFF)[["number"]]),
        (long_doubles(0), long_doubles(0xFF)),
        (long_doubles(0)[0], long_doubles(0xFF)[0]),
        (long_doubles(0).astype(">f16"), long_doubles(0xFF).astype(">f16")),
        (NOON.replace(tzinfo=dt.UTC), NOON.replace(tzinfo=TzInfo(0))),
        (np.array([[1.0, 2.0]]), np.array([[1.0, 2.0]], order="F")),
    ],
    ids=[
        "padding",
        "padding of a scalar",
        "padding of a selection",
        "padding of long doubles",
        "padding of a long double",
        "padding of swapped long doubles",
        "UTC",
        "a row in either order",
    ],
)
def test_inputs_that_no_model_can_distinguish_share_a_key(one: Any, other: Any) -> None:
    assert form(one) == form(other)


def test_a_member_counts_as_it_is_now_not_as_it_was_when_its_class_was_met() -> None:
    class Colour(enum.Enum):
        red = "red"

    class Input(BaseModel):
        colour: Colour

    def key() -> tuple[bytes, bytes]:
        return INPUTS.encode(Input(colour=Colour.red)), INPUTS.encode([Colour.red])

    before = key()
    Colour.red.weight = 1  # type: ignore[attr-defined]
    after = key()
    Colour.red.weight = 2  # type: ignore[attr-defined]
    assert len({*before, *after, *key()}) == 6


def test_attributes_that_a_class_fills_itself_do_not_count() -> None:
    for address in ("10.0.0.0/8", "10.0.0.1/32", "10.0.0.0/31"):
        for cls in (ipaddress.IPv4Network, ipaddress.IPv4Interface):
            used = cls(address)
            before = form(used)
            assert used.hostmask
            if isinstance(used, ipaddress.IPv4Network):
                assert used.broadcast_address
            assert form(used) == before == form(cls(address))


def test_a_parametrized_secret_has_a_key() -> None:
    assert form(pydantic.Secret[int](1)) != form(pydantic.Secret[str](1))  # type: ignore[arg-type]
    assert form(pydantic.Secret[int](1)) == form(pydantic.Secret[int](1))


def test_a_memory_map_has_a_key(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    np.arange(6.0).tofile(path)

    def mapped() -> Any:
        return np.memmap(path, "<f8", mode="r")

    assert form(mapped()) == form(mapped())
    assert form(mapped()[1:]) == form(mapped()[1:])
    assert len({form(mapped()), form(mapped()[1:]), form(np.arange(6.0))}) == 3

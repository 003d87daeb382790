"""Values that a model can distinguish do not share a key; errors say which value has none."""

from __future__ import annotations

import collections
import datetime as dt
import enum
import io
import ipaddress
import math
import signal
import struct
import sys
import threading
import time
import uuid
import zoneinfo
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pydantic
import pytest
from dateutil import tz  # type: ignore[import-untyped]
from pydantic import AnyUrl, BaseModel, ConfigDict, Field, PostgresDsn, PrivateAttr, SecretStr
from pydantic_core import TzInfo

from model_cache import (
    ConfigurationError,
    NotCacheableError,
    RedisCachingDecorator,
    register_canonical,
)
from model_cache.entries.codec import Codec, EntryRefusedError
from model_cache.keys.canonical import INPUTS, PREDICTIONS, Canonicalizer, Selection, _registered
from tests.models import FunctionModel

ONE_HOUR = dt.timedelta(hours=1)
NOON = dt.datetime(2024, 1, 1, 12)


class Anything(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    value: Any


def form(value: Any) -> bytes:
    return INPUTS.encode(Anything.model_construct(value=value))


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


def zone_from_file(key: str | None) -> zoneinfo.ZoneInfo:
    # The shortest file that there is: version 1, one type of time, UTC.
    content = b"TZif" + bytes(16) + struct.pack(">6I", 0, 0, 0, 0, 1, 4)
    return zoneinfo.ZoneInfo.from_file(io.BytesIO(content + bytes(6) + b"UTC\0"), key=key)


SQUARE = np.arange(6.0).reshape(2, 3)
NEGATIVE_NAN = struct.unpack(">d", bytes.fromhex("fff8000000000000"))[0]
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
def test_what_a_model_can_tell_apart_does_not_share_a_key(name: str) -> None:
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
        np.zeros(1, object),
        np.ma.masked_array([1.0], [True]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_can_not_be_read_whole_has_no_key(value: Any) -> None:
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
def test_what_no_model_can_tell_apart_shares_a_key(one: Any, other: Any) -> None:
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


# --- predictions


class Answer(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    when: dt.datetime | None = None
    clock: dt.time | None = None
    number: float = 0.0
    identity: uuid.UUID | None = None


def comes_back(answer: BaseModel) -> bool:
    codec = Codec(type(answer))
    try:
        restored = codec.decode(b"key", codec.encode(b"key", answer))
    except EntryRefusedError:
        return False
    assert restored is not None
    assert PREDICTIONS.encode(restored) == PREDICTIONS.encode(answer)
    return True


@pytest.mark.parametrize(
    "answer",
    [
        Answer(when=NOON),
        Answer(when=NOON.replace(tzinfo=dt.UTC)),
        Answer.model_validate({"when": "2024-01-01T12:00:00Z"}),
        Answer.model_validate({"when": "2024-01-01T12:00:00+01:00", "clock": "12:00-05:30"}),
        Answer(number=math.nan),
        Answer(number=NEGATIVE_NAN),
        Answer(identity=uuid.UUID(int=1)),
        Answer(identity=uuid.UUID(int=1, is_safe=uuid.SafeUUID.safe)),
    ],
    ids=repr,
)
def test_ordinary_predictions_are_stored(answer: Answer) -> None:
    assert comes_back(answer)


def test_a_prediction_whose_zone_would_come_back_by_another_name_is_not_stored() -> None:
    assert not comes_back(Answer(when=NOON.replace(tzinfo=dt.timezone(ONE_HOUR))))


def _array(value: Any) -> Any:
    return value if isinstance(value, np.ndarray) else np.array(value, dtype="<f8")


class Vector(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    values: Any

    @pydantic.field_validator("values", mode="before")
    @classmethod
    def read(cls, value: Any) -> Any:
        return _array(value)

    @pydantic.field_serializer("values")
    def write(self, value: Any) -> Any:
        return value.tolist()


@pytest.mark.parametrize(
    "values", [SQUARE, SQUARE.T, SQUARE[:, 1], SQUARE[::-1]], ids=["C", "F", "column", "backwards"]
)
def test_an_array_in_a_prediction_is_stored_however_it_lies_in_memory(values: Any) -> None:
    assert comes_back(Vector(values=values))


# --- zones of other libraries


@pytest.fixture
def registrations() -> Iterator[None]:
    before = dict(_registered)
    yield
    _registered.clear()
    _registered.update(before)
    for canonicalizer in (INPUTS, PREDICTIONS):
        canonicalizer.forget()


class Zone(dt.tzinfo):
    """Like pytz's: an instance for each offset of a zone, and a class for each zone."""

    def __init__(self, name: str, offset: int, short: str) -> None:
        self.zone = name
        self._offset = dt.timedelta(hours=offset)
        self._short = short

    def utcoffset(self, _: dt.datetime | None) -> dt.timedelta:
        return self._offset

    def dst(self, _: dt.datetime | None) -> None:
        return None

    def tzname(self, _: dt.datetime | None) -> str:
        return self._short


class Berlin(Zone):
    pass


@pytest.mark.usefixtures("registrations")
def test_a_registered_zone_gives_times_a_key() -> None:
    winter, summer = Berlin("Europe/Berlin", 1, "CET"), Berlin("Europe/Berlin", 2, "CEST")
    with pytest.raises(NotCacheableError, match=r"value: .*Berlin has no canonical form"):
        form(NOON.replace(tzinfo=winter))
    register_canonical(Zone, lambda zone: zone.zone)
    values = [
        *(NOON.replace(tzinfo=zone) for zone in (winter, summer, Zone("Europe/Berlin", 1, "CET"))),
        dt.time(12, tzinfo=winter),
        winter,
        NOON.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
    ]
    assert len(set(map(form, values))) == len(values)
    again = NOON.replace(tzinfo=Berlin("Europe/Berlin", 1, "CET"))
    assert form(again) == form(values[0])


@pytest.mark.usefixtures("registrations")
def test_zones_of_dateutil_work_once_they_are_registered() -> None:
    berlin, paris = tz.gettz("Europe/Berlin"), tz.gettz("Europe/Paris")
    register_canonical(type(berlin), lambda zone: zone._filename)
    register_canonical(tz.tzoffset, lambda zone: zone.utcoffset(None))
    zones = [berlin, paris, tz.tzoffset(None, 3600), tz.tzoffset("mine", 3600)]
    forms = [form(NOON.replace(tzinfo=zone)) for zone in zones]
    assert len(set(forms)) == len(forms)


@pytest.mark.parametrize(
    "cls", [dt.timezone, TzInfo, zoneinfo.ZoneInfo, dt.datetime, str, Anything]
)
def test_a_type_that_has_a_form_is_not_given_another(cls: type) -> None:
    with pytest.raises(ConfigurationError, match="has a canonical form already"):
        register_canonical(cls, str)


# --- where it is


class Part(BaseModel):
    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)
    value: Any = None
    items: list[Any] = []
    named: dict[str, Any] = {}
    _private: Any = PrivateAttr(None)


def part(**private: Any) -> Part:
    made = Part()
    made._private = private["value"]
    return made


class Raising:
    pass


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (Part(value=object()), "value"),
        (Part(items=[1, Part(items=[object()])]), "items[1].items[0]"),
        (Part(named={"known": object()}), "named['known']"),
        (Part(named={"a b@c.example": {1: object()}}), "named[...][...]"),
        (Part.model_validate({"more": object()}), "more"),
        (Part.model_validate({"more\n": object()}), "..."),
        (part(value=object()), "_private"),
        (part(value=[object()]), "_private[0]"),
        (Part(value=collections.deque([object()])), "value[1][0]"),
        (Part(value={frozenset([object()])}), "value"),
    ],
)
def test_an_input_without_a_key_says_where_and_why(data: BaseModel, path: str) -> None:
    with pytest.raises(NotCacheableError, match=r"builtins\.object has no canonical") as caught:
        INPUTS.encode(data)
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.usefixtures("registrations")
def test_an_error_while_reading_a_value_says_where_it_is() -> None:
    register_canonical(Raising, lambda value: value.missing)
    with pytest.raises(NotCacheableError) as caught:
        INPUTS.encode(Part(items=[Part.model_validate({"more": Raising()})]))
    assert str(caught.value) == "items[0].more: reading it raised AttributeError"
    assert isinstance(caught.value.__cause__, AttributeError)


class SoftLimitError(Exception):
    """As a worker raises it from a signal's handler."""


@pytest.mark.usefixtures("registrations")
@pytest.mark.parametrize(
    "data",
    [Part(value=Raising()), Part(items=[{"a": (Raising(),)}]), part(value=Raising())],
    ids=["field", "containers", "private attribute"],
)
def test_an_interruption_gets_through_whatever_is_being_read(data: BaseModel) -> None:
    def interrupted(_: object) -> None:
        signal.raise_signal(signal.SIGUSR1)

    def handle(_number: int, _frame: FrameType | None) -> None:
        raise SoftLimitError

    register_canonical(Raising, interrupted)
    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with pytest.raises(SoftLimitError):
            INPUTS.encode(data)
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("registrations")
def test_an_enum_whose_members_hold_what_has_no_form_can_be_given_one() -> None:
    class Operation(enum.Enum):
        add = "add"

    Operation.add.run = len  # type: ignore[attr-defined]
    with pytest.raises(NotCacheableError, match=r"^value\.run: "):
        form(Operation.add)
    register_canonical(Operation, lambda member: member.name)
    assert form(Operation.add)


# --- what set_model says


class Picture:
    """Like PIL's: plugins derive from it."""


def derived() -> type:
    return type("Plugin", (Picture,), {})


def framed(cls: Any) -> type[BaseModel]:
    members = {"__annotations__": {"picture": cls}, "model_config": Anything.model_config}
    return type("Framed", (BaseModel,), {"__module__": __name__, **members})


def set_model(schema: type[BaseModel], **options: Any) -> None:
    RedisCachingDecorator(**options).set_model(FunctionModel(schema))


@pytest.mark.usefixtures("registrations")
def test_a_type_without_a_form_is_refused_whatever_is_imported() -> None:
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"'picture' is of type .*Picture, which has"):
            set_model(framed(Picture))
        plugin = derived()  # is imported
    register_canonical(plugin, repr)
    set_model(framed(Picture))


def test_a_type_whose_subclasses_have_a_form_is_accepted() -> None:
    class Shape:
        pass

    with pytest.raises(ConfigurationError, match="Shape"):
        set_model(framed(Shape))

    @dataclass
    class Circle(Shape):
        radius: float

    set_model(framed(Shape))
    set_model(framed(dt.tzinfo))
    set_model(framed(np.memmap))


class Identified(BaseModel):
    identity: uuid.UUID = Field(default_factory=uuid.uuid4)
    many: list[int] = Field(default_factory=list)


def utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass
class Timed:
    when: float = field(default_factory=time.time)


class Requested(BaseModel):
    at: dt.datetime = Field(default_factory=partial(dt.datetime.now, dt.UTC))
    seen: dt.datetime = Field(default_factory=utc_now)
    text: str = Field(default_factory=lambda: str(uuid.uuid4()))
    part: Identified = Identified()
    timed: list[Timed] = []


def test_set_model_says_which_defaults_keep_inputs_from_hitting() -> None:
    with pytest.warns(UserWarning, match="never hit") as caught:
        set_model(Requested)
    paths = ["at", "seen", "text", "part.identity", "timed.when"]
    assert [str(warning.message).split("'")[1] for warning in caught] == paths
    assert all(warning.filename == __file__ for warning in caught)
    assert "uuid4" in str(caught[3].message)
    with pytest.warns(UserWarning, match="'seen'") as caught:
        set_model(Requested, ignored_fields=["at", "text", "part.identity", "timed"])
    assert len(caught) == 1


# --- how deep


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def test_values_that_json_can_hold_are_not_too_deep() -> None:
    assert len({INPUTS.encode(nested(levels)) for levels in range(201)}) == 201


@pytest.mark.parametrize("fresh", [Canonicalizer, lambda: Canonicalizer(predictions=True)])
def test_a_value_nested_too_deeply_has_no_key_whatever_the_recursion_limit(fresh: Any) -> None:
    deep, told = nested(40_000), []

    def encode() -> None:
        before = sys.getrecursionlimit()
        sys.setrecursionlimit(1_000_000)
        try:
            selecting = fresh().selecting(Selection({"value": {"x": None}}, keep=True))
            for value in (deep, {"a": (deep,)}, Anything(value=deep)):
                for encode_value in (fresh().encode, selecting):
                    with pytest.raises(NotCacheableError, match="nested more than 256") as caught:
                        encode_value(value)
                    told.append(str(caught.value))
        finally:
            sys.setrecursionlimit(before)

    thread = threading.Thread(target=encode)
    thread.start()
    thread.join()
    assert len(told) == 6
    assert all(len(message) < 300 for message in told)
    while deep:  # Python's own deallocation of it is bounded
        deep = deep[0]

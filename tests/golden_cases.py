"""Fixed inputs and predictions, whose keys and entries are committed in `tests/golden`.

Every type that has a canonical form is here. Module and class names are part of the keys, so
what stands here is not renamed or changed; a new type is a new case. Annotations are
evaluated (no `from __future__ import annotations`), as in most code that is cached.
"""

import collections
import datetime as dt
import enum
import hashlib
import ipaddress
import math
import pathlib
import re
import struct
import uuid
import zoneinfo
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeVar

import numpy as np
import pydantic
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
)
from pydantic_core import TzInfo

from model_cache.binding.fingerprint import fingerprint
from model_cache.binding.schemas import path_tree
from model_cache.entries.codec import Codec
from model_cache.entries.compressors import COMPRESSORS
from model_cache.entries.serders import JSON, MESSAGE_PACK
from model_cache.keys.canonical import Selection
from model_cache.keys.key import KeyMaker, Namespace, derived_key

SECRET = "a secret of any length"
KEY = b"golden/1.0.0/AAAAAAAAAAAAAAAAAAAAAA"


class Sex(str, enum.Enum):  # noqa: UP042 - as most schemas write it
    male = "male"
    female = "female"


class Level(enum.IntEnum):
    low = 1
    high = 2


class Plain(enum.Enum):
    pair = (1, "two")


class Permission(enum.Flag):
    read = 1
    write = 2


class Mode(enum.IntFlag):
    a = 1
    b = 2


class Person(BaseModel):
    """The fields that are compiled in place."""

    age: int
    sex: Sex
    bmi: float
    smoker: bool
    note: str | None = None


class Holds(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    value: Any


class Inner(BaseModel):
    left: int = 0
    right: int = 0


class Wider(Inner):
    more: str = "more"


class Outer(BaseModel):
    inner: Inner
    several: list[Inner] = []
    named: dict[str, Inner] = {}


class Node(BaseModel):
    value: int
    children: list["Node"] = []


T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    value: T


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    known: int = 0


class Hiding(BaseModel):
    shown: int
    excluded: int = Field(0, exclude=True)
    _private: int = PrivateAttr(0)


def hiding(shown: int, excluded: int, private: int) -> Hiding:
    made = Hiding(shown=shown, excluded=excluded)
    made._private = private
    return made


class Numbers(RootModel[list[int]]):
    pass


class Scores(RootModel[dict[str, float]]):
    pass


@dataclass
class Point:
    x: int
    y: float = 0.0


@dataclass(frozen=True, slots=True)
class SlotsPoint:
    x: int
    y: float = 0.0


@pydantic.dataclasses.dataclass
class CheckedPoint:
    x: int
    y: float = 0.0


class Pair(NamedTuple):
    first: int
    second: str


class MaskedDsn(pydantic.PostgresDsn):
    def __str__(self) -> str:
        return "***"


class Weighed(enum.Enum):
    light = 1, 0.5
    heavy = 2, 2.5

    def __init__(self, _: int, weight: float) -> None:
        self.weight = weight


class Token(str):
    source: int


class Metres(float):
    pass


class Count(int):
    pass


def token(text: str, source: int) -> Token:
    made = Token(text)
    made.source = source
    return made


def named(value: Any, name: str) -> Any:
    value.name = name
    return value


berlin = zoneinfo.ZoneInfo("Europe/Berlin")
an_hour_east = dt.timezone(dt.timedelta(hours=1))
night = dt.datetime(2024, 10, 27, 2, 30, 15, 123456)


def constructed(schema: Any, **fields: Any) -> Any:
    return schema.model_construct(**fields)


VALUES: dict[str, Any] = {
    "none": None,
    "true": True,
    "false": False,
    "int": 1,
    "negative int": -255,
    "int beyond 64 bits": 2**100,
    "huge int": 10**5000,
    "float": 1.0,
    "negative zero": -0.0,
    "smallest float": 5e-324,
    "infinity": -math.inf,
    "nan": math.nan,
    "negative nan": -math.nan,
    "nan of another payload": struct.unpack(">d", bytes.fromhex("7ff8000000000001"))[0],
    "str": "1",
    "unicode": "e\u0301 é \U0001f600 \0",
    "lone surrogates": "\ud83d\ude00",
    "bytes": b"1\xff",
    "bytearray": bytearray(b"1"),
    "complex": complex(1, -0.0),
    "fraction": Fraction(-1, 3),
    "decimal": Decimal("1.50"),
    "decimal with exponent": Decimal("-15E+2"),
    "decimal zero": Decimal("-0E-7"),
    "decimal nan": Decimal("NaN12"),
    "decimal signaling nan": Decimal("-sNaN"),
    "decimal infinity": Decimal("-Infinity"),
    "str enum": Sex.male,
    "int enum": Level.high,
    "plain enum": Plain.pair,
    "flags": Permission.read | Permission.write,
    "no flags": Permission(0),
    "int flags": Mode.a | Mode.b,
    "int flags beyond": Mode(9),
    "enum with attributes": Weighed.heavy,
    "date": dt.date(2024, 2, 29),
    "time": dt.time(23, 59, 59, 999999),
    "time with offset": dt.time(1, 2, tzinfo=an_hour_east),
    "time in a zone": dt.time(1, 2, tzinfo=berlin),
    "datetime": night,
    "datetime fold": night.replace(fold=1),
    "datetime utc": night.replace(tzinfo=dt.UTC),
    "datetime with offset": night.replace(tzinfo=an_hour_east),
    "datetime with named offset": night.replace(
        tzinfo=dt.timezone(dt.timedelta(hours=-5, minutes=-30), "mine")
    ),
    "datetime in a zone": night.replace(tzinfo=berlin),
    "datetime in a zone, fold": night.replace(tzinfo=berlin, fold=1),
    "datetime in a zone of pydantic": night.replace(tzinfo=TzInfo(-5400)),
    "time in a zone of pydantic": dt.time(1, 2, tzinfo=TzInfo(3600)),
    "timedelta": dt.timedelta(days=-1, seconds=2, microseconds=3),
    "timezone": dt.UTC,
    "timezone of pydantic": TzInfo(3600),
    "timezone by a key": berlin,
    "uuid made safely": uuid.UUID(int=1, is_safe=uuid.SafeUUID.safe),
    "uuid": uuid.UUID("12345678-1234-5678-1234-567812345678"),
    "path": pathlib.Path("/a/b c"),
    "pure path": pathlib.PurePosixPath("a/../b"),
    "windows path": pathlib.PureWindowsPath("c:\\a\\b"),
    "ipv4 address": ipaddress.IPv4Address("127.0.0.1"),
    "ipv6 address": ipaddress.IPv6Address("fe80::1%eth0"),
    "ipv4 network": ipaddress.IPv4Network("10.0.0.0/8"),
    "ipv6 network": ipaddress.IPv6Network("2001:db8::/32"),
    "ipv4 interface": ipaddress.IPv4Interface("10.0.0.1/8"),
    "ipv6 interface": ipaddress.IPv6Interface("2001:db8::1/32"),
    "url": pydantic.AnyUrl("https://user:pass@bücher.example:8443/a?b=c#d"),
    "http url": pydantic.HttpUrl("http://a.example/"),
    "dsn": pydantic.PostgresDsn("postgres://u:p@h1:1,h2:2/db"),
    "secret str": SecretStr("hidden"),
    "secret bytes": SecretBytes(b"hidden"),
    "secret": Secret(7),
    "pattern": re.compile("[a-z]+", re.IGNORECASE),
    "list": [1, 1.0, "1", None],
    "empty list": [],
    "list of floats": [1.5, -0.0, math.nan, math.inf],
    "tuple": (1, "a"),
    "tuple of floats": (0.5, 1.5),
    "set": {1, 2.5, "a", b"a", None, (1, 2)},
    "frozenset": frozenset("abc"),
    "dict": {"b": 1, "a": [2], 3: None, (4, 5): {}},
    "deque": collections.deque([1, 2], maxlen=3),
    "ordered dict": collections.OrderedDict(b=1, a=2),
    "ordered dict with an attribute": named(collections.OrderedDict(b=1), "order"),
    "url with an attribute": named(pydantic.AnyUrl("http://a.example"), "url"),
    "url of a class that masks it": MaskedDsn("postgres://user:secret@a.example/db"),
    "default dict": collections.defaultdict(int, a=1),
    "counter": collections.Counter("abca"),
    "named tuple": Pair(1, "a"),
    "str subclass": token("a", 7),
    "float subclass": Metres(1.5),
    "int subclass": Count(7),
    "dataclass": Point(1, 2.5),
    "dataclass with slots": SlotsPoint(1, 2.5),
    "pydantic dataclass": CheckedPoint(1, 2.5),
    "model": Inner(left=1, right=2),
    "generic model": Box[int](value=1),
    "numpy array": np.arange(6, dtype="<f8").reshape(2, 3),
    "numpy array in fortran order": np.asfortranarray(np.arange(6, dtype="<f4").reshape(2, 3)),
    "numpy big-endian array": np.array([1, 2], dtype=">i2"),
    "numpy empty array": np.zeros((0, 3), dtype="<i8"),
    "numpy scalar array": np.array(1, dtype="<i8"),
    "numpy bool array": np.array([True, False]),
    "numpy complex array": np.array([1 + 2j], dtype="<c16"),
    "numpy str array": np.array(["a", "bc"], dtype="<U2"),
    "numpy bytes array": np.array([b"a", b"bc"], dtype="S2"),
    "numpy datetime array": np.array(["2024-02-29", "NaT"], dtype="<M8[D]"),
    "numpy timedelta array": np.array([1, -1], dtype="<m8[ms]"),
    "numpy structured array": np.array([(1, 2.5)], dtype=[("a", "<i4"), ("b", "<f8")]),
    "numpy strided array": np.arange(6, dtype="<i4")[::2],
    "numpy backwards array": np.arange(3, dtype="<i4")[::-1],
    "numpy broadcast array": np.broadcast_to(np.arange(2, dtype="<f8"), (3, 2)),
    "numpy nan array": np.array([math.nan, -math.nan]),
    "numpy aligned array": np.array([(1, 2)], np.dtype([("a", "u1"), ("b", "<i4")], align=True)),
    "numpy titled array": np.array([(1,)], [(("title", "a"), "u1")]),
    "numpy nested array": np.zeros(2, [("a", [("b", "<i2", (2,)), ("c", "S3")])]),
    "numpy record array": np.array([(1, 2.5)], np.dtype((np.record, [("a", "<i4"), ("b", "<f8")]))),
    "numpy record": np.array([(1,)], np.dtype((np.record, [("a", "<i4")])))[0],
    "numpy void": np.array([(1,)], [("a", "<i4")])[0],
    "numpy raw void": np.void(b"raw"),
    "numpy matrix": np.array([[1.0, 2.0]]).view(np.matrix),
    "numpy float": np.float64(1.5),
    "numpy single": np.float32(1.5),
    "numpy int": np.int64(7),
    "numpy bool": np.bool_(True),
    "numpy str": np.str_("a"),
    "numpy datetime": np.datetime64("2024-02-29T12:00", "s"),
    "numpy object array": np.array([1, "a", None, (2.5,)], object),
    "numpy object array of strings": np.array(["a", None, "é\ud800"], object),
    "numpy masked array": np.ma.masked_array([1.5, 2.5], [True, False], fill_value=7.0),
    "numpy masked array without a mask": np.ma.masked_array(np.array([1, 2], "<i4")),
    "numpy masked": np.ma.masked,
    "range": range(1, 10, 3),
}

MODELS: dict[str, BaseModel] = {
    "person": Person(age=42, sex=Sex.female, bmi=24.5, smoker=True),
    "person with a note": Person(age=42, sex=Sex.male, bmi=math.nan, smoker=False, note="é"),
    "person of other types": constructed(Person, age=42.0, sex="male", bmi=24, smoker=1),
    "outer": Outer(
        inner=Inner(left=1), several=[Inner(right=2)], named={"b": Inner(), "a": Wider()}
    ),
    "subclass": Wider(left=1),
    "node": Node(value=1, children=[Node(value=2), Node(value=3, children=[Node(value=4)])]),
    "box of int": Box[int](value=1),
    "box of inner": Box[Inner](value=Inner()),
    "box of list of literals": Box[list[Literal["a", 1]]](value=["a", 1]),
    "box of union": Box[int | str | None](value=None),
    "box": Box(value=1),
    "extras": Open.model_validate({"known": 1, "b": 2, "a": "three"}),
    "hidden fields": hiding(1, 2, 3),
    "root list": Numbers([1, 2]),
    "root dict": Scores({"b": 1.5, "a": 2.0}),
}
MODELS |= {name: Holds(value=value) for name, value in VALUES.items()}


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    tricks: list[str] = []


class Charges(BaseModel):
    charges: float


class Prediction(BaseModel):
    """An output with what outputs have: scores, labels, defaults, parts."""

    label: Sex
    scores: dict[str, float]
    vector: list[float] = []
    made: dt.datetime | None = None
    exact: Decimal = Decimal("0.00")
    identity: uuid.UUID | None = None
    raw: bytes = b""
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    pair: tuple[int, str] = (1, "one")
    words: frozenset[str] = frozenset()
    inner: Inner = Inner(left=3)
    point: Point | None = None
    size: int = Field(0, alias="Size")


PREDICTIONS: dict[str, BaseModel] = {
    "charges": Charges(charges=9612.64),
    "whole charges": Charges(charges=9612.0),
    "nan": Charges(charges=math.nan),
    "negative zero": Charges(charges=-0.0),
    "many digits": Charges(charges=-12345678901.234567),
    "least": Prediction(label=Sex.female, scores={}),
    "most": Prediction.model_validate(
        {
            "label": Sex.male,
            "scores": {"b": 0.1, "a": 1e-9},
            "vector": [0.25] * 40,
            "made": dt.datetime(2024, 2, 29, 12, 30, 15, 250000, tzinfo=dt.UTC),
            "exact": Decimal("-1.50"),
            "identity": uuid.UUID("12345678-1234-5678-1234-567812345678"),
            "raw": b"raw",
            "pet": Cat(kind="cat", lives=9),
            "pair": (2, "zwei é \U0001f600"),
            "words": {"word"},
            "inner": Inner(left=1, right=2),
            "point": Point(1, 2.5),
            "Size": 2**40,
        }
    ),
    "bytes that are no text": Prediction(label=Sex.male, scores={}, raw=b"\xff\xfe" * 20),
    "infinite scores": Prediction(label=Sex.male, scores={"a": math.inf, "b": -math.inf}),
    "unset kind": Prediction(label=Sex.male, scores={}, pet=Cat(lives=7), vector=[1.5] * 40),
    "unset kind and infinite": Prediction(
        label=Sex.male, scores={"a": math.inf}, pet=Dog(tricks=["roll", "sit"])
    ),
    "root list": Numbers([1, 2, 3] * 20),
    "root dict": Scores({"b": 1.5, "a": 2.0}),
    "lone surrogate": Open.model_validate({"text": "\ud800" * 40}),
    "int beyond 64 bits": Numbers([2**64, -(2**70)]),
    "extras": Open.model_validate({"known": 1, "b": [1, 2.5, None], "a": {"c": "d"}}),
}


def not_negative(value: int) -> int:
    return max(value, 0)


UserId = NewType("UserId", int)


class Declared(BaseModel):
    """What a schema can be written with, as far as no version of Python or pydantic matters."""

    model_config = ConfigDict(str_strip_whitespace=True, extra="allow", title="not this")
    user: UserId
    level: Level = Level.low
    mode: Mode | None = None
    above: Annotated[int, pydantic.Field(gt=0)] = 1
    several: list[Annotated[int, pydantic.Field(le=9)]] = pydantic.Field([], max_length=3)
    checked: Annotated[int, pydantic.AfterValidator(not_negative)] = 0
    words: Annotated[str, pydantic.StringConstraints(to_lower=True)] = ""
    made: list[int] = pydantic.Field(default_factory=list)
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    box: Box[Inner] | None = None
    node: Node | None = None
    point: Point | None = None
    path: pathlib.PurePosixPath | None = None
    address: ipaddress.IPv4Address | None = None
    exact: Decimal = Decimal("0.10")
    ratio: Fraction | None = None
    queue: collections.deque[int] | None = None
    url: pydantic.AnyUrl | None = None
    secret: SecretStr = SecretStr("")
    literal: Literal["a", 1, Level.high] = "a"
    anything: Any = None
    _hidden: int = PrivateAttr(default=3)

    @pydantic.field_validator("above", mode="before")
    @classmethod
    def as_it_is(cls, value: Any) -> Any:
        return value

    @pydantic.model_validator(mode="after")
    def whole(self) -> Any:
        return self


def fingerprints() -> dict[str, str]:
    """Return a digest of the fingerprint of each output schema."""
    schemas = (Person, Outer, Node, Box[Inner], Open, Numbers, Charges, Prediction, Declared)
    return {
        schema.__qualname__: hashlib.blake2b(fingerprint(schema), digest_size=16).hexdigest()
        for schema in schemas
    }


def key_makers() -> dict[str, KeyMaker]:
    """Return a maker for each thing that a key is made of besides the input."""
    namespace = Namespace(None, "golden", "1.0.0")
    return {
        "": KeyMaker(namespace),
        " by prefix": KeyMaker(Namespace("a/b {c}", "golden model*", "1.0.0+é")),
        " by revision": KeyMaker(namespace, revision="r1"),
        " by schema": KeyMaker(namespace, schema=fingerprint(Prediction)),
        " by decorators": KeyMaker(namespace, decorators=b"around the model"),
        " by secret": KeyMaker(namespace, secret=SECRET),
        " by bytes as secret": KeyMaker(namespace, secret=b"\xff" * 100),
        " by hashing_fields": KeyMaker(
            namespace, selection=Selection(path_tree(["age", "inner.left", "value"]), keep=True)
        ),
        " by ignored_fields": KeyMaker(
            namespace, selection=Selection(path_tree(["bmi", "several.right"]), keep=False)
        ),
        " by everything": KeyMaker(
            Namespace("p", "golden", "2"),
            revision="r2",
            schema=fingerprint(Charges),
            selection=Selection(path_tree(["note", "named"]), keep=False),
            secret=SECRET,
        ),
    }


def keys(*, backwards: bool = False) -> dict[str, str]:
    """Return the key of each input; of a few, by each kind of key maker."""
    makers = key_makers()
    plain = makers.pop("")
    wanted = [(name, plain, data) for name, data in MODELS.items()]
    wanted += [
        (name + how, maker, MODELS[name])
        for how, maker in makers.items()
        for name in ("person", "outer")
    ]
    return {
        name: maker.key(data).decode()
        for name, maker, data in (reversed(wanted) if backwards else wanted)
    }


def codecs(schema: type[BaseModel]) -> dict[str, Codec]:
    """Return codecs by the names under which their entries are committed."""
    made: dict[str, Codec] = {}
    for serder in (JSON, MESSAGE_PACK):
        made[f"{serder.name} plain"] = Codec(schema, serder=serder)
        made[f"{serder.name} with integrity"] = Codec(schema, serder=serder, integrity=True)
        made[f"{serder.name} with a secret"] = Codec(
            schema, serder=serder, integrity=True, tag_key=derived_key(SECRET, b"model_cache tag")
        )
        for name in ("snappy", "zstd", "lz4"):
            compressor = COMPRESSORS.named(name)
            made[f"{serder.name} {name}"] = Codec(schema, serder=serder, compressor=compressor)
    return made


def entries() -> dict[str, dict[str, str]]:
    """Return the entry of each prediction by each codec, in hexadecimal."""
    return {
        name: {
            how: codec.encode(KEY, prediction).hex()
            for how, codec in codecs(type(prediction)).items()
        }
        for name, prediction in PREDICTIONS.items()
    }

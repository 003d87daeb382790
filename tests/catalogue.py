"""A catalogue of schemas, each with a strategy for its instances: anything users might model.

Property tests walk it. A case says what is expected of it as an output schema, too: whether
each of its instances becomes an entry.

Annotations are evaluated here (no `from __future__ import annotations`), since those of a
dataclass would be strings otherwise, and strings are compiled differently.
"""

import collections
import dataclasses
import datetime as dt
import enum
import ipaddress
import pathlib
import re
import uuid
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Generic, Literal, NamedTuple, Optional, TypeVar, Union

import numpy as np
import pydantic
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from hypothesis.strategies import SearchStrategy
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    computed_field,
)
from pydantic_core import TzInfo
from typing_extensions import TypedDict


@dataclass(frozen=True)
class Case:
    """A schema with its instances.

    Attributes:
        name: for the test's id.
        schema: the pydantic model.
        instances: draws instances of it, or of its subclasses.
        kept: whether each of them, as a prediction, becomes an entry; a comment says why not.
    """

    name: str
    schema: type[BaseModel]
    instances: SearchStrategy[BaseModel]
    kept: bool = True

    def __str__(self) -> str:
        return self.name


CASES: list[Case] = []


def case(
    schema: type[BaseModel], instances: SearchStrategy[Any], kept: bool = True, name: str = ""
) -> None:
    CASES.append(Case(name or schema.__name__, schema, instances, kept))


# Few values each, so that two draws often meet, and the ones that are easily confused.
integers = st.sampled_from([0, 1, -1, 2, 255, 256, 2**53 + 1]) | st.integers(-(2**63), 2**64 - 1)
floats = st.sampled_from([0.0, -0.0, 1.0, 1.5, 0.1, 5e-324, 1e308]) | st.floats()
finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.sampled_from(["", "a", "b", "ab", "1", "True", "None", "é", "e\u0301", "\0"]) | st.text(
    max_size=8
)
surrogates = st.text(st.sampled_from(["\ud83d", "\ude00", "\U0001f600", "a"]), max_size=4)
blobs = st.sampled_from([b"", b"a", b"1", b"\xff\xfe", b"\0"]) | st.binary(max_size=8)
small = st.integers(0, 3)


# --- plain fields


class Scalars(BaseModel):
    integer: int = 0
    number: float = 0.0
    flag: bool = False
    text: str = ""
    raw: bytes = b""
    nothing: None = None


scalars = st.builds(
    Scalars, integer=integers, number=floats, flag=st.booleans(), text=texts, raw=blobs
)
case(Scalars, scalars)


class Texts(BaseModel):
    first: str
    second: str
    third: str


case(Texts, st.builds(Texts, first=texts, second=texts, third=texts | surrogates))


class Floats(BaseModel):
    first: float
    second: float
    many: list[float]
    pair: tuple[float, float] = (0.0, 0.0)


case(
    Floats,
    st.builds(
        Floats,
        first=floats,
        second=floats,
        many=st.lists(floats, max_size=4),
        pair=st.tuples(floats, floats),
    ),
)


class LargeInts(BaseModel):
    value: int = Field(repr=False)  # Python refuses to write more than 4300 digits
    other: int = Field(0, repr=False)


def powers(exponent: int) -> SearchStrategy[int]:
    return st.integers(exponent, exponent + 1).map(lambda exponent: 10**exponent)


large = st.sampled_from([2**64, 2**64 + 1, -(2**64)]) | powers(4000)
huge = powers(5000)
case(LargeInts, st.builds(LargeInts, value=large | st.integers(), other=large | integers))
case(
    LargeInts,
    st.builds(LargeInts.model_construct, value=huge, other=huge | integers),
    kept=False,  # nor to read them
    name="Huge ints",
)


class Maybe(BaseModel):
    # Optional, as older schemas write it; the others use the new form.
    integer: Optional[int]  # noqa: UP045
    number: float | None = None
    text: str | None = "default"


maybe = st.builds(Maybe, integer=st.none() | integers, number=st.none() | floats) | st.builds(
    Maybe, integer=st.none() | integers, text=st.none() | texts
)
case(Maybe, maybe)


class Defaulting(BaseModel):
    number: int = 7
    texts: list[str] = Field(default_factory=lambda: ["made"])
    pair: tuple[int, float] = (1, 2.0)


case(
    Defaulting,
    st.fixed_dictionaries(
        {},
        optional={
            "number": st.just(7) | small,
            "texts": st.just(["made"]) | st.lists(texts, max_size=2),
            "pair": st.tuples(small, floats),
        },
    ).map(Defaulting.model_validate),
)


class Either(BaseModel):
    value: Union[int, float, bool, str, bytes, None]  # noqa: UP007
    values: list[int | float | bool | str | bytes | None] = []


either = integers | floats | st.booleans() | texts | blobs | st.none()
case(Either, st.builds(Either, value=either, values=st.lists(either, max_size=3)))


class Anything(BaseModel):
    value: Any = None
    other: Any = None


plain_values = st.recursive(
    st.none() | st.booleans() | integers | floats | texts | blobs,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(texts | small, inner, max_size=3)
        | st.sets(small | texts, max_size=3)
        | st.frozensets(blobs, max_size=3)
    ),
    max_leaves=6,
)
case(Anything, st.builds(Anything, value=plain_values, other=plain_values), kept=False)


# --- choices


class Color(str, enum.Enum):  # noqa: UP042 - as most schemas write it
    red = "red"
    green = "green"
    crimson = "red"  # an alias


class Level(enum.IntEnum):
    low = 1
    high = 2


class Plain(enum.Enum):
    one = 1
    text_one = "1"
    pair = (1, 2)


class Permission(enum.Flag):
    read = 1
    write = 2
    execute = 4


class Mode(enum.IntFlag):
    a = 1
    b = 2


class Enums(BaseModel):
    color: Color
    level: Level
    plain: Plain
    permission: Permission
    mode: Mode


case(
    Enums,
    st.builds(
        Enums,
        color=st.sampled_from(Color),
        level=st.sampled_from(Level),
        plain=st.sampled_from(Plain),
        permission=st.integers(0, 7).map(Permission),
        mode=st.integers(0, 11).map(Mode),
    ),
    kept=False,  # a tuple for a value does not come back from JSON, nor from MessagePack
)


class Choice(BaseModel):
    word: Literal["a", "b", "1"]
    mixed: Literal["a", 1, b"1", None, Level.high] = None


case(
    Choice,
    st.builds(
        Choice,
        word=st.sampled_from(["a", "b", "1"]),
        mixed=st.sampled_from(["a", 1, b"1", None, Level.high]),
    ),
)


# --- structures


class Inner(BaseModel):
    left: int = 0
    right: int = 0


inners = st.builds(Inner, left=small, right=small)


class WiderInner(Inner):
    more: str = "more"


class Outer(BaseModel):
    inner: Inner
    several: list[Inner] = []
    named: dict[str, Inner] = {}
    maybe: Inner | None = None


case(
    Outer,
    st.builds(
        Outer,
        inner=inners,
        several=st.lists(inners, max_size=3),
        named=st.dictionaries(texts, inners, max_size=3),
        maybe=st.none() | inners,
    ),
)
case(
    Outer,
    st.builds(Outer, inner=st.builds(WiderInner, left=small, more=texts) | inners),
    kept=False,  # an entry does not say which subclass it was
    name="Outer of subclasses",
)
case(
    Inner,
    st.builds(WiderInner, left=small, right=small, more=texts) | inners,
    kept=False,
    name="Inner or its subclass",
)


class Node(BaseModel):
    value: int
    children: list["Node"] = []
    parent: Optional["Node"] = None


nodes = st.recursive(
    st.builds(Node, value=small),
    lambda children: st.builds(
        Node, value=small, children=st.lists(children, max_size=3), parent=st.none() | children
    ),
    max_leaves=6,
)
case(Node, nodes)

T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    value: T


case(Box[int], st.builds(Box[int], value=small))
case(Box[float], st.builds(Box[float], value=small.map(float)))
case(Box[Inner], st.builds(Box[Inner], value=inners))
case(Box, st.builds(Box, value=small | texts), name="Box unparametrized")


class Boxes(BaseModel):
    numbers: Box[int]
    inner: Box[Inner]
    nested: Box[Box[list[int]]]


case(
    Boxes,
    st.builds(
        Boxes,
        numbers=st.builds(Box[int], value=small),
        inner=st.builds(Box[Inner], value=inners),
        nested=st.builds(
            Box[Box[list[int]]], value=st.builds(Box[list[int]], value=st.lists(small, max_size=2))
        ),
    ),
)


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    lives: int


class Pet(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


case(
    Pet,
    st.builds(
        Pet,
        pet=st.builds(Cat, kind=st.just("cat"), lives=small)
        | st.builds(Dog, kind=st.just("dog"), lives=small),
    ),
)
case(
    Pet,
    st.builds(Pet, pet=st.builds(Cat, lives=small) | st.builds(Dog, lives=small)),
    name="Pet of a kind by default",
)


class Alike(BaseModel):
    left: int = 0
    right: int = 0


class Lookalikes(BaseModel):
    value: Inner | Alike


case(
    Lookalikes,
    st.builds(Lookalikes, value=inners | st.builds(Alike, left=small, right=small)),
    kept=False,  # an entry does not say which of two that look alike
)


@dataclass
class Point:
    x: int
    y: float = 0.0
    note: str = dataclasses.field(default="", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class SlotsPoint:
    x: int
    y: float = 0.0


@pydantic.dataclasses.dataclass
class CheckedPoint:
    x: int
    y: float = 0.0
    points: list[Point] = dataclasses.field(default_factory=list)


@pydantic.dataclasses.dataclass(slots=True)
class CheckedSlotsPoint:
    x: int
    y: float = 0.0


class Dataclasses(BaseModel):
    plain: Point
    slots: SlotsPoint
    checked: CheckedPoint
    checked_slots: CheckedSlotsPoint
    either: Point | SlotsPoint | None = None


points = st.builds(Point, x=small, y=finite, note=texts)
slots_points = st.builds(SlotsPoint, x=small, y=finite)
case(
    Dataclasses,
    st.builds(
        Dataclasses,
        plain=points,
        slots=slots_points,
        checked=st.builds(CheckedPoint, x=small, y=finite, points=st.lists(points, max_size=2)),
        checked_slots=st.builds(CheckedSlotsPoint, x=small, y=finite),
        either=st.none() | points | slots_points,
    ),
    kept=False,  # nor which of two dataclasses that look alike
)


@dataclass
class Attributed:
    """Sets an attribute that it does not declare."""

    x: int

    def __post_init__(self) -> None:
        self.twice = self.x * 2


class HoldsAttributed(BaseModel):
    value: Attributed


case(HoldsAttributed, st.builds(HoldsAttributed, value=st.builds(Attributed, x=small)))


class Units(BaseModel):
    lengths: list[Annotated[int, {"unit": "cm"}]]


case(Units, st.builds(Units, lengths=st.lists(small, max_size=3)), name="Units in annotations")


@dataclass
class Carton(Generic[T]):
    value: T


class HoldsCarton(BaseModel):
    carton: Carton[int]


case(
    HoldsCarton,
    st.builds(HoldsCarton, carton=st.builds(Carton, value=small)),
    name="generic dataclass",
)


class Movie(TypedDict, total=False):
    title: str
    year: int


class Pair(NamedTuple):
    first: int
    second: int = 0


class Records(BaseModel):
    movie: Movie
    pair: Pair


case(
    Records,
    st.builds(
        Records,
        movie=st.fixed_dictionaries({"title": texts}, optional={"year": small}),
        pair=st.builds(Pair, small, small),
    ),
)


# --- what a model keeps besides its declared, visible fields


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    known: int = 0


case(
    Open,
    st.builds(
        lambda known, extra: Open(known=known, **extra),
        small,
        st.dictionaries(st.sampled_from(["a", "b", "c"]), small | texts, max_size=3),
    ),
)


class OpenToInts(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, int]


case(
    OpenToInts,
    st.dictionaries(st.sampled_from(["a", "b"]), small).map(OpenToInts.model_validate),
)


class Aliased(BaseModel):
    plain: int = Field(0, alias="Plain")
    checked: int = Field(0, validation_alias=pydantic.AliasChoices("in", "into"))
    written: int = Field(0, serialization_alias="plain")
    deep: int = Field(0, validation_alias=pydantic.AliasPath("deep", "x", 1))


case(
    Aliased,
    st.builds(
        lambda a, b, c, d: Aliased.model_validate(
            {"Plain": a, "into": b, "written": c, "deep": {"x": [0, d]}}
        ),
        small,
        small,
        small,
        small,
    ),
)


class Computed(BaseModel):
    width: int
    height: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        return self.width * self.height


case(Computed, st.builds(Computed, width=small, height=small))


class Excluding(BaseModel):
    shown: int
    hidden: int = Field(0, exclude=True)


case(
    Excluding,
    st.builds(Excluding, shown=small, hidden=small) | st.builds(Excluding, shown=small),
    kept=False,  # what is excluded is not dumped
)


class Private(BaseModel):
    shown: int
    _seed: int = PrivateAttr(0)
    _name: str = PrivateAttr()


def with_private(shown: int, seed: int, name: str | None) -> Private:
    made = Private(shown=shown)
    made._seed = seed
    if name is not None:
        made._name = name
    return made


case(
    Private,
    st.builds(with_private, small, small, st.none() | texts) | st.builds(Private, shown=small),
    kept=False,  # nor is what is private
)


class Derived(BaseModel):
    shown: int
    _twice: int = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        self._twice = self.shown * 2


case(Derived, st.builds(Derived, shown=small), name="Private attributes derived from fields")


class Slotted(BaseModel):
    __slots__ = ("note",)
    shown: float


def with_slot(shown: float, note: str | None) -> Slotted:
    made = Slotted(shown=shown)
    if note is not None:
        object.__setattr__(made, "note", note)
    return made


case(Slotted, st.builds(with_slot, floats, st.none() | texts), kept=False, name="Model with slots")


class Secrets(BaseModel):
    text: SecretStr
    raw: SecretBytes
    number: Secret[int]


case(
    Secrets,
    st.builds(
        Secrets,
        text=texts.map(SecretStr),
        raw=blobs.map(SecretBytes),
        number=small.map(Secret[int]),
    ),
    kept=False,  # a dump masks them
)


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    number: float
    when: dt.datetime
    identity: uuid.UUID
    color: Color
    pair: tuple[int, str]
    raw: bytes


case(
    Strict,
    st.builds(
        Strict,
        number=finite,
        when=st.datetimes().map(lambda moment: moment.replace(fold=0)),
        identity=st.uuids(),
        color=st.sampled_from(Color),
        pair=st.tuples(small, texts),
        raw=texts.map(str.encode),
    ),
)


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)
    number: int
    inner: Inner


case(Frozen, st.builds(Frozen, number=small, inner=inners))


class Numbers(RootModel[list[int]]):
    pass


class ByName(RootModel[dict[str, float]]):
    pass


class JustText(RootModel[str]):
    pass


case(Numbers, st.lists(integers, max_size=4).map(Numbers))
case(ByName, st.dictionaries(texts, floats, max_size=3).map(ByName))
case(JustText, (texts | surrogates).map(JustText))


# --- the standard library's types

moments = st.datetimes().map(lambda moment: moment.replace(fold=0))
clocks = st.times().map(lambda clock: clock.replace(fold=0))
berlin, new_york = zoneinfo.ZoneInfo("Europe/Berlin"), zoneinfo.ZoneInfo("America/New_York")
# What comes back is in pydantic's zones, which have other names than Python's, but for UTC.
fixed = st.sampled_from([None, dt.UTC, TzInfo(3600), TzInfo(-19800)])
pythons = st.sampled_from([dt.timezone(dt.timedelta(hours=1)), dt.timezone(dt.timedelta(0), "x")])
zones = fixed | pythons | st.sampled_from([berlin, new_york])
folds = st.sampled_from([0, 1])
ambiguous = st.just(dt.datetime(2024, 10, 27, 2, 30))


class Decimals(BaseModel):
    value: Decimal = Field(allow_inf_nan=True)
    other: Decimal = Field(Decimal(0), allow_inf_nan=True)


decimals = st.decimals(allow_nan=False) | st.sampled_from(
    ["0", "-0", "0E+3", "1", "1.0", "1.00", "1E+2", "100", "NaN", "-NaN", "NaN1", "-Infinity"]
).map(Decimal)
case(Decimals, st.builds(Decimals, value=decimals, other=decimals))


class SignalingDecimals(BaseModel):
    value: Any


case(
    SignalingDecimals,
    st.sampled_from(["sNaN", "sNaN1", "-sNaN", "NaN", "1"]).map(
        lambda text: SignalingDecimals(value=Decimal(text))
    ),
    kept=False,
)


class Moments(BaseModel):
    day: dt.date
    when: dt.datetime
    clock: dt.time
    lasting: dt.timedelta


case(
    Moments,
    st.builds(
        Moments,
        day=st.dates(),
        when=st.builds(lambda moment, zone: moment.replace(tzinfo=zone), moments, fixed),
        clock=clocks,
        lasting=st.timedeltas(dt.timedelta(days=-1000), dt.timedelta(days=1000)),
    ),
)


class ZonedMoments(BaseModel):
    when: dt.datetime
    clock: dt.time


case(
    ZonedMoments,
    st.builds(
        lambda when, zone, fold, clock: ZonedMoments(
            when=when.replace(tzinfo=zone, fold=fold), clock=clock.replace(fold=fold)
        ),
        ambiguous | st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2030, 1, 1)),
        zones,
        folds,
        st.times(timezones=fixed),
    ),
    kept=False,  # a dump knows the offset, neither the zone's name nor the fold
)


class Identified(BaseModel):
    identity: uuid.UUID
    identities: list[uuid.UUID] = []


case(Identified, st.builds(Identified, identity=st.uuids(), identities=st.lists(st.uuids())))


class Bytes(BaseModel):
    first: bytes
    second: bytes
    array: Any = None


case(
    Bytes,
    st.builds(Bytes, first=blobs, second=blobs, array=st.none() | blobs.map(bytearray)),
    kept=False,  # a bytearray comes back as bytes
)


class Sets(BaseModel):
    numbers: set[int]
    words: frozenset[str]
    mixed: set[int | float | str | None] = set()
    pairs: frozenset[tuple[int, int]] = frozenset()


case(
    Sets,
    st.builds(
        Sets,
        numbers=st.sets(integers, max_size=4),
        words=st.frozensets(texts, max_size=4),
        mixed=st.sets(small | floats | texts | st.none(), max_size=4),
        pairs=st.frozensets(st.tuples(small, small), max_size=3),
    ),
)


class SetsOfBytes(BaseModel):
    values: set[bytes | int]


case(
    SetsOfBytes,
    st.builds(SetsOfBytes, values=st.sets(blobs | small, max_size=4)),
    kept=False,  # MessagePack has no sets, and JSON no bytes but UTF-8
)


class Dicts(BaseModel):
    by_text: dict[str, int]
    by_number: dict[int, str] = {}
    by_anything: dict[Any, Any] = {}


case(
    Dicts,
    st.builds(
        Dicts,
        by_text=st.dictionaries(texts, small, max_size=4),
        by_number=st.dictionaries(small, texts, max_size=4),
        by_anything=st.dictionaries(small | texts, small, max_size=3),
    ),
)


class Lists(BaseModel):
    numbers: list[int]
    nested: list[list[int]] = []
    pair: tuple[int, str] = (0, "")
    several: tuple[int, ...] = ()


case(
    Lists,
    st.builds(
        Lists,
        numbers=st.lists(small, max_size=4),
        nested=st.lists(st.lists(small, max_size=3), max_size=3),
        pair=st.tuples(small, texts),
        several=st.lists(small, max_size=4).map(tuple),
    ),
)


class Collections(BaseModel):
    queue: collections.deque[int]
    ordered: collections.OrderedDict[str, int]
    counted: collections.Counter[str]
    defaulting: collections.defaultdict[str, int]


counts = st.dictionaries(st.sampled_from("abc"), small, max_size=3)
case(
    Collections,
    st.builds(
        Collections,
        queue=st.lists(small, max_size=3).map(collections.deque),
        ordered=counts.map(collections.OrderedDict),
        counted=counts.map(collections.Counter),
        defaulting=counts.map(lambda items: collections.defaultdict(int, items)),
    ),
)
case(
    Anything,
    st.builds(
        lambda items, length, factory: Anything(
            value=collections.deque(items, length),
            other=collections.defaultdict(factory, dict.fromkeys(items)),
        ),
        st.lists(small, max_size=3),
        st.sampled_from([None, 2, 3]),
        st.sampled_from([None, int, float, list]),
    ),
    kept=False,
    name="Bounded deque and default factory",
)


class Places(BaseModel):
    path: pathlib.Path
    pure: pathlib.PurePosixPath
    windows: pathlib.PureWindowsPath
    v4: ipaddress.IPv4Address
    v6: ipaddress.IPv6Address
    network: ipaddress.IPv4Network
    interface: ipaddress.IPv6Interface
    url: pydantic.AnyUrl
    dsn: pydantic.PostgresDsn


names = st.sampled_from(["a", "b", "a/b", "../a", "a b", ".", "/a"])
urls = st.sampled_from(
    ["http://a.example/", "https://a.example/?q=1", "http://u:p@a.example:81/x#y", "ftp://b/"]
)
dsns = st.sampled_from(["postgres://u:p@h:1/db", "postgres://u@h1:1,h2:2/db", "postgresql://h/d"])
case(
    Places,
    st.builds(
        Places,
        path=names.map(pathlib.Path),
        pure=names.map(pathlib.PurePosixPath),
        windows=names.map(pathlib.PureWindowsPath),
        v4=st.ip_addresses(v=4),
        v6=st.ip_addresses(v=6),
        network=st.integers(0, 32).map(lambda bits: ipaddress.IPv4Network((0, bits))),
        interface=st.integers(0, 128).map(lambda bits: ipaddress.IPv6Interface((1, bits))),
        url=urls.map(pydantic.AnyUrl),
        dsn=dsns.map(pydantic.PostgresDsn),
    ),
)


class Mathematical(BaseModel):
    fraction: Fraction
    number: complex
    pattern: re.Pattern[str]


case(
    Mathematical,
    st.builds(
        Mathematical,
        fraction=st.fractions(),
        number=st.complex_numbers(),
        pattern=st.builds(
            re.compile,
            st.sampled_from(["a", "a|b", "[a-z]+"]),
            st.sampled_from([re.NOFLAG, re.IGNORECASE]),
        ),
    ),
    kept=False,  # a pattern's flags are not dumped
)


# --- subclasses of builtins, with attributes of their own


class Token(str):
    source: Any


class Metres(float):
    error: Any


class Count(int):
    __slots__ = ()


class Rows(list[Any]):
    header: Any


class Options(dict[str, Any]):
    origin: Any


def attributed(value: Any, name: str, attribute: Any) -> Any:
    if attribute is not None:
        setattr(value, name, attribute)
    return value


def subclassed(cls: Callable[[Any], Any], values: Any, name: str) -> SearchStrategy[Any]:
    return st.builds(attributed, values.map(cls), st.just(name), st.none() | small)


case(
    Anything,
    st.builds(
        Anything,
        value=subclassed(Token, texts, "source")
        | subclassed(Metres, floats, "error")
        | small.map(Count)
        | subclassed(Rows, st.lists(small, max_size=2), "header")
        | subclassed(Options, counts, "origin")
        | st.builds(Pair, small, small),
    ),
    kept=False,
    name="Subclasses of builtins",
)


# --- numpy


class Arrays(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    array: np.ndarray  # pydantic checks the class alone
    scalar: Any = None


def laid_out(array: Any, layout: str) -> Any:
    """Return an equal array whose memory looks different."""
    if layout == "fortran":
        return np.asfortranarray(array)
    if layout == "strided" and array.ndim:
        return np.repeat(array, 2, axis=0)[::2]
    if layout == "reversed" and array.ndim:
        return array[::-1].copy()[::-1]
    if layout == "read-only":
        array = array.copy()
        array.flags.writeable = False
    return array


dtypes = st.sampled_from(
    [
        np.dtype(name)
        for name in ("f8", ">f8", "f4", "f2", "i8", ">i8", "i4", "u1", "?", "c16", "S3", "U2")
    ]
    + [np.dtype(name) for name in ("m8[s]", "M8[us]", "M8[D]")]
    + [np.dtype([("x", "f8"), ("y", "i4", (2,))])]
)
shapes = st.sampled_from([(), (0,), (3,), (2, 3), (3, 2), (1, 3), (2, 1, 2)])
arrays = dtypes.flatmap(lambda dtype: hnp.arrays(dtype, shapes))
layouts = st.sampled_from(["as it is", "fortran", "strided", "reversed", "read-only"])
numbers = dtypes.flatmap(lambda dtype: hnp.arrays(dtype, ())).map(lambda a: a[()])
case(
    Arrays,
    st.builds(
        lambda array, layout, scalar: Arrays(array=laid_out(array, layout), scalar=scalar),
        arrays,
        layouts,
        st.none() | numbers,
    ),
    kept=False,  # unless the schema says how they are dumped
)


class Embedding(BaseModel):
    vector: list[float]
    label: str = ""


case(Embedding, st.builds(Embedding, vector=st.lists(floats, max_size=40), label=texts))

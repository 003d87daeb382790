"""What a function returns comes back equal, in value and in type; other bytes are a miss."""

from __future__ import annotations

import collections
import datetime as dt
import enum
import math
import subprocess
import sys
import threading
import zoneinfo
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypedDict

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from model_cache.entries.codec import Codec, EntryRefusedError
from model_cache.entries.compressors import COMPRESSORS
from model_cache.entries.describe import describe
from model_cache.entries.values import Classes, NotStorableError, PythonValues, Result, dumps
from model_cache.entries.values.containers import INSTANCE, TUPLE
from model_cache.keys.canonical import PREDICTIONS
from tests.golden_cases import VALUES

KEY = b"function/1/AAAAAAAAAAAAAAAAAAAAAA"


class Colour(enum.Enum):
    red = 1
    green = 2


class Rights(enum.Flag):
    read = 1
    write = 2


class Pair(NamedTuple):
    first: int
    second: Any


@dataclass
class Point:
    x: int
    y: Any = None


@dataclass(frozen=True, slots=True)
class Slotted:
    x: int
    parts: list[Point] = field(default_factory=list)


class Model(BaseModel):
    x: int = 1
    parts: list[Point] = []
    kind: Literal["a"] = "a"
    when: dt.datetime | None = None


class Row(TypedDict):
    colour: Colour


def again(value: Any) -> Any:
    classes = Classes()
    restored = classes.loads(dumps(value, classes))
    assert type(restored) is type(value)
    assert PREDICTIONS.encode(restored) == PREDICTIONS.encode(value)
    return restored


# pydantic's dumps have no fold.
unfolded = st.datetimes().map(lambda value: value.replace(fold=0))
zones = st.none() | st.sampled_from(
    [dt.UTC, dt.timezone(dt.timedelta(hours=-3)), zoneinfo.ZoneInfo("Europe/Berlin")]
)
texts = st.text(st.characters(codec=None))  # with surrogates
hashable = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    texts,
    st.binary(),
    st.decimals().filter(lambda value: not value.is_snan()),
    st.fractions(),
    st.complex_numbers(),
    st.datetimes(timezones=zones, allow_imaginary=False),
    st.times(),
    st.dates(),
    st.timedeltas(),
    st.uuids(),
    st.sampled_from(Colour),
    st.sampled_from([Rights(0), Rights.read, Rights.read | Rights.write]),
)
leaves = st.one_of(
    hashable,
    st.binary().map(bytearray),
    st.sets(hashable),
    st.frozensets(hashable),
    st.lists(st.floats()).map(np.array),
    st.floats(width=32).map(np.float32),
    st.builds(
        Model,
        x=st.integers(-9, 9),
        when=st.none() | st.datetimes().map(lambda value: value.replace(fold=0)),
    ),
)
values = st.recursive(
    leaves,
    lambda inside: st.one_of(
        st.lists(inside),
        st.lists(inside).map(tuple),
        st.dictionaries(hashable, inside),
        st.builds(Point, st.integers(), inside),
        st.builds(Pair, st.integers(), inside),
        st.builds(Slotted, st.integers(), st.lists(st.builds(Point, st.integers(), inside))),
        st.lists(inside).map(collections.deque),
    ),
    max_leaves=8,
)


@given(values)
def test_values_come_back_equal_in_value_and_type(value: Any) -> None:
    again(value)


@given(values)
def test_a_codec_stores_any_of_these_values(value: Any) -> None:
    classes = Classes()
    codec = Codec(Result, serder=PythonValues(classes), integrity=True)
    entry = codec.encode(KEY, Result(value), fresh_until=2**42)
    read = codec.read(KEY, entry)
    assert read.fresh
    expected = PREDICTIONS.encode(Result(value))
    assert PREDICTIONS.encode(read.prediction) == expected
    assert PREDICTIONS.encode(codec.reader(KEY, entry)()) == expected


STORED = [
    name
    for name, value in VALUES.items()
    if not isinstance(value, (Decimal, float))
    and type(value).__module__ in {"builtins", "datetime", "uuid", "numpy", "numpy.ma"}
    and type(value) not in {np.matrix}
]


@pytest.mark.parametrize("name", STORED)
def test_golden_values_come_back(name: str) -> None:
    again(VALUES[name])


@pytest.mark.parametrize(
    "value",
    [
        2**64,
        -(2**63) - 1,
        -0.0,
        Decimal("-sNaN12"),
        Fraction(-1, 3),
        range(1, 9, 2),
        collections.OrderedDict(b=1, a=(2,)),
        {(1, (2,)): [bytearray(b"x")], None: {"a": bytearray()}},
        dt.datetime(2024, 10, 27, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"), fold=1),
    ],
    ids=repr,
)
def test_values_at_the_edges_come_back(value: Any) -> None:
    again(value)


def test_arrays_are_writable_own_their_memory_and_belong_to_one_caller() -> None:
    for made in (np.arange(6.0), np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3).T):
        classes = Classes()
        data = dumps(made, classes)
        first, second = classes.loads(data), classes.loads(data)
        assert isinstance(first, np.ndarray)
        assert isinstance(second, np.ndarray)
        assert first.flags.writeable
        assert first.flags.owndata
        assert first.flags.f_contiguous == made.flags.f_contiguous
        first[...] = 0
        assert (second == made).all()


def test_what_messagepack_knows_is_plain_messagepack() -> None:
    value = {"scores": [0.5, 1.5], "label": "a", "raw": b"\xff", "none": None}
    assert msgpack.unpackb(dumps(value)) == value


def test_padding_of_structured_arrays_is_not_stored() -> None:
    dtype = np.dtype([("a", "u1"), ("b", "<i4")], align=True)
    made = np.frombuffer(b"\xaa" * 16, dtype)
    assert dumps(made).count(b"\xaa") == 10


@pytest.mark.parametrize(
    "annotation",
    [
        Point,
        Optional[Point],  # noqa: UP045 - as it is written
        "list[Point] | None",
        dict[str, Annotated[list[Point], "note"]],
        tuple[int, Slotted],
        Model,
    ],
    ids=repr,
)
def test_classes_are_known_from_an_annotation(annotation: Any) -> None:
    if isinstance(annotation, str):
        annotation = list[Point] | None
    assert Classes(annotation).loads(dumps(Point(1))) == Point(1)


def test_enums_are_known_from_typed_dicts_and_literals() -> None:
    for annotation in (Row, Literal[Colour.red]):
        assert Classes(annotation).loads(dumps([Colour.red])) == [Colour.red]


def test_an_unknown_class_is_a_miss() -> None:
    data = dumps([Point(1)])
    with pytest.raises(KeyError):
        Classes(Pair).loads(data)
    classes = Classes()
    dumps(Point(2), classes)  # this process has stored one itself
    assert classes.loads(data) == [Point(1)]


def test_a_class_with_other_fields_is_another_class() -> None:
    def local(names: str) -> Any:
        space: dict[str, Any] = {"__annotations__": dict.fromkeys(names, int), "__module__": "m"}
        return dataclass(type("Local", (), space))

    old, new = local("ab"), local("ba")
    assert Classes(old).loads(dumps(old(1, 2))) == old(1, 2)
    with pytest.raises(KeyError):
        Classes(new).loads(dumps(old(1, 2)))


def test_a_dataclass_is_read_without_running_its_code() -> None:
    made = Point(1)
    made.z = 3  # type: ignore[attr-defined]
    assert vars(again(made)) == {"x": 1, "y": None, "z": 3}


def test_unset_fields_of_a_model_stay_unset() -> None:
    assert again(Model(x=2)).model_fields_set == {"x"}
    assert again([Model()])[0].model_fields_set == set()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (threading.Lock(), r"a value of type _thread.lock has no canonical form"),
        ([Point(1, iter([]))], r"\[0\].y: a value of type builtins.list_iterator has no"),
        ([1, type("Text", (str,), {})("a")], r"\[1\]: a value of type .*Text can't be stored"),
        ({"a": VALUES["pattern"]}, r"values\(\)\[0\]: a value of type re.Pattern can't be stored"),
        (Fraction(1, 3**4000), r"Fraction can't be stored: it has more than 4096 bits"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_refusal_says_which_part_and_why(value: Any, why: str) -> None:
    codec = Codec(Result, serder=PythonValues(Classes()))
    with pytest.raises(EntryRefusedError, match=why):
        codec.encode(KEY, Result(value))


@pytest.mark.parametrize("value", [memoryview(b"a"), [msgpack.ExtType(TUPLE, b"\x90")]])
def test_what_messagepack_would_write_as_something_else_is_refused(value: Any) -> None:
    with pytest.raises(NotStorableError):
        dumps(value)


def test_values_are_nested_to_a_bounded_depth() -> None:
    value: Any = ()
    for _ in range(30):
        value = (value,)
    again(value)
    for _ in range(10):
        value = (value,)
    with pytest.raises(NotStorableError):
        dumps(value)
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    with pytest.raises(ValueError, match="recursion"):
        dumps(cyclic)


@pytest.mark.parametrize("compressor", [None, "zstd"])
@pytest.mark.parametrize("integrity", [False, True])
def test_entries_may_be_compressed_and_sealed(compressor: str | None, integrity: bool) -> None:
    codec = Codec(
        Result,
        serder=PythonValues(Classes()),
        compressor=COMPRESSORS.named(compressor) if compressor else None,
        integrity=integrity,
    )
    value = {"a": ["b"] * 500}
    entry = codec.encode(KEY, Result(value))
    assert codec.decode(KEY, entry) == codec.reader(KEY, entry)() == Result(value)
    assert describe(KEY, entry).value == value
    assert describe(KEY, entry).serder == "python"


@pytest.mark.parametrize("entry", [b"{}", b"\x80", b"\x91\x01", b"\xc1\x01\x01\x00\x00{}", b"\xc1"])
def test_other_entries_are_a_miss(entry: bytes) -> None:
    assert Codec(Result, serder=PythonValues(Classes())).decode(KEY, entry) is None


HOSTILE = [
    msgpack.packb(msgpack.ExtType(48, b"\x00\x09\x93\xa3<f8\x91\xce\x7f\xff\xff\xff\xa1C")),
    msgpack.packb(msgpack.ExtType(48, b"\x00\x0e" + msgpack.packb(["<f8", [0, 2**62], "C"]))),
    msgpack.packb(msgpack.ExtType(48, b"\x00\x09" + msgpack.packb(["|O", [1], "C"]) + b"a" * 8)),
    msgpack.packb(msgpack.ExtType(48, b"\x00\x08" + msgpack.packb(["|b1", [1], "C"]) + b"\x02")),
    msgpack.packb(msgpack.ExtType(12, b"Z../../etc/passwd")),
    msgpack.packb(msgpack.ExtType(12, b"Z/etc/passwd")),
    msgpack.packb(msgpack.ExtType(INSTANCE, b"12345678\x90")),
    msgpack.packb(msgpack.ExtType(51, msgpack.packb(["os.system", "true"]))),
    msgpack.packb(msgpack.ExtType(51, msgpack.packb(["numpy.ma.nomask"]))),
    b"\xdd\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x30",
]


@pytest.mark.parametrize("data", HOSTILE)
def test_hostile_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - any will do
        Classes(Model).loads(data)


def test_bytes_nested_too_deeply_are_refused() -> None:
    data = b"\x90"
    for _ in range(2000):
        data = msgpack.packb(msgpack.ExtType(TUPLE, b"\x91" + data))
    with pytest.raises(ValueError, match="nested too deeply"):
        Classes().loads(data)


@given(values, st.data())
def test_damaged_bytes_are_read_or_refused(value: Any, data: Any) -> None:
    classes = Classes(Model | Point | Slotted | Pair | Colour | Rights)
    damaged = bytearray(dumps(value, classes))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    codec = Codec(Result, serder=PythonValues(classes))
    codec.decode(KEY, b"\xc1\x01\x04\x00\x00" + bytes(damaged))


@given(st.integers(0, 80), st.binary(max_size=60))
def test_any_extension_is_read_or_refused(code: int, content: bytes) -> None:
    codec = Codec(Result, serder=PythonValues(Classes(Model | Point)))
    entry = b"\xc1\x01\x04\x00\x00" + msgpack.packb(msgpack.ExtType(code, content))
    codec.decode(KEY, entry)


def test_no_library_is_imported_because_data_mentions_it() -> None:
    program = """
import sys
from model_cache.entries.values import Classes
import msgpack
for library in ("pandas", "polars"):
    data = msgpack.packb(msgpack.ExtType(51, msgpack.packb([library + ".NaTType"])))
    try:
        Classes().loads(data)
    except ValueError as error:
        assert "not imported" in str(error)
    else:
        raise SystemExit(1)
assert not {"pandas", "polars"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_not_a_number_keeps_its_sign() -> None:
    assert math.copysign(1, again(-math.nan)) == -1

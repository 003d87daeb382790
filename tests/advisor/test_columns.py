"""Two requests have the same hash exactly if the library gives them the same key."""

from __future__ import annotations

import datetime as dt
import enum
import math
from collections import Counter
from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from model_cache.advisor import columns
from model_cache.advisor.hashing import Keys
from model_cache.advisor.log import Log, LogBuilder
from model_cache.advisor.reading import Batch
from model_cache.advisor.rebuilding import Rebuilder, Tables, places_of
from model_cache.advisor.sources import Given
from model_cache.binding import Binding
from model_cache.decorator import option_defaults
from model_cache.keys.canonical import INPUTS
from model_cache.options.config import Config
from tests.advisor.logs import Score, read, same
from tests.models import FunctionModel


class Colour(enum.Enum):
    red = 1
    blue = 2


class Inner(BaseModel):
    depth: float = 0.0
    name: str | None = None


class Untyped(BaseModel):
    """A field of any kind."""

    value: Any


class Wide(BaseModel):
    """A field of every kind."""

    model_config = ConfigDict(frozen=True)

    number: float = 0.0
    maybe: float | None = None
    whole: int = 0
    either: int | float | str = 0
    name: str = ""
    flag: bool = False
    colour: Colour = Colour.red
    choice: Literal["a", 1] = "a"
    day: dt.date = dt.date(2026, 1, 1)
    price: Decimal = Decimal(0)
    tags: list[int | float] = []
    inner: Inner = Inner()
    optional: Inner | None = None


NUMBERS = st.sampled_from([0.0, -0.0, 1.0, 1.04, 1.06, -1.26, 14.0, 15.0, 26.0, math.inf, math.nan])
INNER = st.builds(Inner, depth=NUMBERS, name=st.sampled_from([None, "", "N"]))
WIDE = st.builds(
    Wide,
    number=NUMBERS,
    maybe=st.none() | NUMBERS,
    whole=st.sampled_from([0, 1, 14, 15, 16, 2**60]),
    either=st.sampled_from([0, 0.0, "0", 1, 1.0]),
    name=st.sampled_from(["", "a"]),
    flag=st.booleans(),
    colour=st.sampled_from(Colour),
    choice=st.sampled_from(["a", 1]),
    day=st.sampled_from([dt.date(2026, 1, 1), dt.date(2026, 1, 2)]),
    price=st.sampled_from([Decimal("1.0"), Decimal("1.00")]),
    tags=st.sampled_from([[], [1], [1.0]]),
    inner=INNER,
    optional=st.none() | INNER,
)


def keys_of(log: Log, places: dict[str, int], ignored: tuple[str, ...]) -> list[int]:
    return same(Keys(log, Tables(Rebuilder(log))).of(places, ignored))


def library(inputs: list[Any], **options: Any) -> list[int]:
    """Return for each input the first one with the same key."""
    model = FunctionModel(type(inputs[0]), Score)
    binding = Binding(model, Config.parse({**option_defaults(), **options}))
    first: dict[bytes, int] = {}
    found = []
    for place, data in enumerate(inputs):
        canonical = binding.canonical(binding.rounded(data))
        found.append(first.setdefault(canonical, place))
    return found


@given(st.lists(WIDE, min_size=1, max_size=12))
def test_hashes_are_equal_exactly_if_keys_are(inputs: list[Wide]) -> None:
    assert keys_of(read(inputs, Wide), {}, ()) == library(inputs)


@given(st.lists(WIDE, min_size=1, max_size=12))
def test_hashes_without_a_field_are_those_of_ignored_fields(inputs: list[Wide]) -> None:
    ignored = ("either", "inner.depth", "tags")
    expected = library(inputs, ignored_fields=list(ignored))
    assert keys_of(read(inputs, Wide), {}, ignored) == expected


@given(st.lists(WIDE, min_size=1, max_size=12), st.sampled_from([-1, 0, 1]))
def test_hashes_of_rounded_numbers_are_those_of_reduced_precision(
    inputs: list[Wide], number: int
) -> None:
    fields = ["number", "maybe", "inner.depth"]
    options = {"reduced_precision_fields": fields, "number_of_places": number}
    expected = library(inputs, **options)
    assert keys_of(read(inputs, Wide), dict.fromkeys(fields, number), ()) == expected


@given(st.lists(st.builds(Wide, whole=st.integers(0, 60)), min_size=1, max_size=12))
def test_whole_numbers_are_rounded_to_tens(inputs: list[Wide]) -> None:
    expected = library(inputs, reduced_precision_fields=["whole"], number_of_places=-1)
    assert keys_of(read(inputs, Wide), {"whole": -1}, ()) == expected


class Bounded(BaseModel):
    age: float = Field(ge=18)


def test_what_the_schema_does_not_allow_is_not_rounded() -> None:
    inputs = [Bounded(age=age) for age in (18.0, 19.0, 21.0, 22.0, 24.0, 18.0)]
    expected = library(inputs, reduced_precision_fields=["age"], number_of_places=-2)
    assert expected == [0, 1, 2, 3, 4, 0]
    assert keys_of(read(inputs, Bounded), {"age": -2}, ()) == expected


@given(st.lists(WIDE, min_size=1, max_size=8))
def test_inputs_are_built_again(inputs: list[Wide]) -> None:
    log = read(inputs, Wide)
    rebuilder = Rebuilder(log)
    for row, data in enumerate(inputs):
        assert INPUTS.encode(rebuilder.input(row)) == INPUTS.encode(data)


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str
    _seen: int = PrivateAttr(0)


def test_undeclared_fields_are_part_of_the_hash() -> None:
    inputs = [Extra(name="a", more=more) for more in (1, 2, 1)]
    assert keys_of(read(inputs, Extra), {}, ()) == library(inputs) == [0, 1, 0]


class Strange(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    name: str
    handle: object


def test_values_without_a_key_are_never_equal() -> None:
    handle = object()
    log = read([Strange(name="a", handle=handle)] * 3, Strange)
    assert keys_of(log, {}, ()) == [0, 1, 2]
    assert keys_of(log, {}, ("handle",)) == [0, 0, 0]
    assert log.uncacheable == {"handle": 3}


class Loose(BaseModel):
    value: float | str


def test_a_column_of_numbers_may_turn_out_to_be_mixed() -> None:
    inputs = [Loose(value=value) for value in [1.0, 2.0, 1.0] * 10_000 + ["1.0", 1.0]]
    log = read(inputs, Loose)
    assert log.columns[0].number is None
    assert keys_of(log, {}, ()) == library(inputs)
    assert log.columns[0].value(30_000) == "1.0"


def test_values_above_the_limit_are_only_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MOST_KEPT", 2)
    log = read([Extra(name=name) for name in "abca"], Extra)
    assert same(log.columns[0].hashes()) == [0, 1, 2, 0]
    assert [log.columns[0].value(row) for row in (0, 1, 3)] == ["a", "b", "a"]
    with pytest.raises(columns.MissingValueError):
        log.columns[0].value(2)


def test_so_many_values_that_each_row_has_its_own_are_rounded_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(columns, "_MOST_CODED", 2)
    inputs = [Wide(number=number) for number in (1.01, 1.02, 1.31, 1.01)]
    log = read(inputs, Wide)
    assert keys_of(log, {}, ()) == [0, 1, 2, 0]
    assert keys_of(log, {"number": 1}, ()) == [0, 0, 2, 0]
    assert log.columns[0].value(2) == 1.31


def test_places_go_from_the_first_that_changes_a_value_to_the_width_of_the_values() -> None:
    log = read([Wide(number=number / 4, whole=number) for number in range(400)], Wide)
    by_path = {column.path: column for column in log.columns}
    assert places_of(by_path["number"]) == [0, -1]
    assert places_of(by_path["whole"]) == [-1, -2]
    assert places_of(by_path["name"]) == places_of(by_path["maybe"]) == []


def test_an_interrupted_batch_leaves_no_half_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = LogBuilder(Given([], Inner))
    batch = Batch([Inner(depth=1.0)], [1.0], [], Counter(), 1.0)
    builder.add(batch)

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(builder._rows.columns[1], "add", interrupt)
        with pytest.raises(KeyboardInterrupt):
            builder.add(batch)
    log = builder.finish()
    assert [len(column) for column in log.columns] == [1, 1]
    assert log.times is not None
    assert len(log.times) == 1


def test_numbers_that_no_float_can_hold_are_no_obstacle() -> None:
    huge = [10**400, Decimal("sNaN"), Decimal("1e400"), 1, 2, 3]
    log = read([Untyped(value=value) for value in huge], Untyped)
    column = next(column for column in log.columns if column.path == "value")
    assert column.numbers().tolist() == [1.0, 2.0, 3.0]
    assert places_of(column) == []

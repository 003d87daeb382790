"""Cached properties do not prevent an entry, unless a hit would have different ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
from pydantic import BaseModel, computed_field, model_validator

from model_cache.entries.codec import Codec, EntryRefusedError
from model_cache.entries.serders import JSON, MESSAGE_PACK
from tests.entries.round_trips import KEY, Cat, Pets

COUNT = iter(range(10**9))


@dataclass
class Point:
    x: float

    @cached_property
    def double(self) -> float:
        return 2 * self.x


class Line(BaseModel):
    points: list[Point]
    name: str = "line"

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def length(self) -> float:
        return sum(point.double for point in self.points)

    @cached_property
    def ends(self) -> tuple[Point, ...]:
        return (self.points[0], self.points[-1])

    @cached_property
    def number(self) -> int:
        return next(COUNT)


class Drawing(BaseModel):
    lines: dict[str, Line]
    pets: Pets = Pets(pets=[])


def drawing() -> Drawing:
    return Drawing(lines={"a": Line(points=[Point(1.0), Point(2.0)])}, pets=Pets(pets=[Cat()]))


@pytest.mark.parametrize("serder", [JSON, MESSAGE_PACK])
@pytest.mark.parametrize(
    "use",
    [
        lambda made: made.lines["a"].length,
        lambda made: made.lines["a"].ends,
        lambda made: made.lines["a"].points[1].double,
        lambda made: made.model_dump_json(),
        repr,
    ],
    ids=["computed field", "structures", "of a dataclass", "by a dump", "by a repr"],
)
def test_a_cached_property_that_was_used_costs_no_entry(serder: Any, use: Any) -> None:
    prediction, untouched = drawing(), drawing()
    use(prediction)
    codec = Codec(Drawing, serder=serder)
    before = [dict(vars(each)) for each in (prediction, prediction.lines["a"])]
    entry = codec.encode(KEY, prediction)
    assert [vars(each) for each in (prediction, prediction.lines["a"])] == before
    assert entry == codec.encode(KEY, untouched)
    assert codec.decode(KEY, entry) == untouched


def test_a_cached_property_that_is_not_the_same_again_costs_the_entry() -> None:
    prediction = drawing()
    _ = prediction.lines["a"].number
    with pytest.raises(EntryRefusedError, match=r"lines.values\(\)\[0\].number: a cached property"):
        Codec(Drawing).encode(KEY, prediction)


def test_a_cached_property_that_is_out_of_date_costs_the_entry() -> None:
    prediction = drawing()
    assert prediction.lines["a"].length == 6
    prediction.lines["a"].points.append(Point(4.0))
    with pytest.raises(EntryRefusedError, match=r"lines.values\(\)\[0\].length: a cached property"):
        Codec(Drawing).encode(KEY, prediction)


class Checked(BaseModel):
    value: int
    scale: int = 1

    @cached_property
    def scaled(self) -> int:
        return self.value * self.scale

    @model_validator(mode="after")
    def _check(self) -> Checked:
        assert self.scaled >= 0
        return self


class Outdated(Checked):
    @model_validator(mode="after")
    def _later(self) -> Outdated:
        self.scale = 2
        return self


def test_a_cached_property_that_only_a_validator_uses_costs_no_entry() -> None:
    prediction = Checked.model_construct(value=1)
    assert "scaled" not in vars(prediction)
    restored = Codec(Checked).decode(KEY, Codec(Checked).encode(KEY, prediction))
    assert restored == prediction
    assert "scaled" not in vars(prediction)


def test_a_cached_property_that_a_hit_would_have_out_of_date_costs_the_entry() -> None:
    prediction = Outdated.model_construct({"value", "scale"}, value=1, scale=2)
    assert Outdated(value=1, scale=2).scaled == 2
    assert Outdated(value=1).scaled == 1  # out of date
    again = Outdated.model_construct({"value"}, value=1, scale=2)
    for each in (prediction, again):
        try:
            entry = Codec(Outdated).encode(KEY, each)
        except EntryRefusedError:
            continue
        restored: Any = Codec(Outdated).decode(KEY, entry)
        assert restored.scaled == each.scaled

"""Schemas in schemas: models, dataclasses, generics, unions, named tuples."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Generic, Literal, NamedTuple, Optional, TypeVar

import pydantic
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from tests.catalogue.case import Cases
from tests.catalogue.values import finite, small, texts

CASES = Cases()
case, built = CASES.add, CASES.build


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


built(
    Outer,
    inner=inners,
    several=st.lists(inners, max_size=3),
    named=st.dictionaries(texts, inners, max_size=3),
    maybe=st.none() | inners,
)
built(
    Outer,
    inner=st.builds(WiderInner, left=small, more=texts) | inners,
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


built(Box[int], value=small)
built(Box[float], value=small.map(float))
built(Box[Inner], value=inners)
built(Box, value=small | texts, name="Box unparametrized")


class Boxes(BaseModel):
    numbers: Box[int]
    inner: Box[Inner]
    nested: Box[Box[list[int]]]


built(
    Boxes,
    numbers=st.builds(Box[int], value=small),
    inner=st.builds(Box[Inner], value=inners),
    nested=st.builds(
        Box[Box[list[int]]], value=st.builds(Box[list[int]], value=st.lists(small, max_size=2))
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
built(
    Dataclasses,
    plain=points,
    slots=slots_points,
    checked=st.builds(CheckedPoint, x=small, y=finite, points=st.lists(points, max_size=2)),
    checked_slots=st.builds(CheckedSlotsPoint, x=small, y=finite),
    either=st.none() | points | slots_points,
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


built(HoldsAttributed, value=st.builds(Attributed, x=small))


class Units(BaseModel):
    lengths: list[Annotated[int, {"unit": "cm"}]]


built(Units, lengths=st.lists(small, max_size=3), name="Units in annotations")


@dataclass
class Carton(Generic[T]):
    value: T


class HoldsCarton(BaseModel):
    carton: Carton[int]


built(
    HoldsCarton,
    carton=st.builds(Carton, value=small),
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


built(
    Records,
    movie=st.fixed_dictionaries({"title": texts}, optional={"year": small}),
    pair=st.builds(Pair, small, small),
)

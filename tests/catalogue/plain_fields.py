"""Schemas with plain fields: numbers, strings, bytes, and optional fields."""

from typing import Any, Optional, Union

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import BaseModel, Field

from tests.catalogue.case import Cases
from tests.catalogue.values import blobs, floats, integers, small, surrogates, texts

CASES = Cases()
case, built = CASES.add, CASES.build


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


built(Texts, first=texts, second=texts, third=texts | surrogates)


class Floats(BaseModel):
    first: float
    second: float
    many: list[float]
    pair: tuple[float, float] = (0.0, 0.0)


built(
    Floats,
    first=floats,
    second=floats,
    many=st.lists(floats, max_size=4),
    pair=st.tuples(floats, floats),
)


class LargeInts(BaseModel):
    value: int = Field(repr=False)  # Python refuses to write more than 4300 digits
    other: int = Field(0, repr=False)


def powers(exponent: int) -> SearchStrategy[int]:
    return st.integers(exponent, exponent + 1).map(lambda exponent: 10**exponent)


large = st.sampled_from([2**64, 2**64 + 1, -(2**64)]) | powers(4000)
huge = powers(5000)
built(LargeInts, value=large | st.integers(), other=large | integers)
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
built(Either, value=either, values=st.lists(either, max_size=3))


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

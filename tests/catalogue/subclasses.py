"""Subclasses of builtins, with attributes of their own."""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.catalogue.case import Cases
from tests.catalogue.plain_fields import Anything
from tests.catalogue.standard_types import counts
from tests.catalogue.structures import Pair
from tests.catalogue.values import floats, small, texts

CASES = Cases()
case = CASES.add


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

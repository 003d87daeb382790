"""What a type keeps out of sight is in its key, or it has none."""

from __future__ import annotations

import array
import collections
import dataclasses
import functools
import os
import random
import time
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from model_cache.keys.canonical import Selection
from model_cache.keys.key import KeyMaker, Namespace
from tests.catalogue import plain_fields, structures
from tests.properties.cases import key
from tests.properties.variants import changed


class Defaulted(collections.defaultdict[str, int]):
    pass


@dataclasses.dataclass(init=False)
class Samples(array.array):  # type: ignore[type-arg]
    unit: str = "m"


@dataclasses.dataclass(init=False)
class Task(functools.partial):  # type: ignore[type-arg]
    name: str = "task"


@dataclasses.dataclass(init=False)
class Price(Decimal):
    currency: str = "EUR"


@dataclasses.dataclass(init=False)
class Dice(random.Random):
    name: str = "dice"


def moment(zone: str, offset: int) -> time.struct_time:
    return time.struct_time((*time.gmtime(0), zone, offset))


def without(data: BaseModel, name: str, **attributes: Any) -> BaseModel:
    made = changed(data, attributes)
    del vars(made)[name]
    return made


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (collections.defaultdict(lambda: 1), collections.defaultdict(lambda: 2)),
        (
            collections.defaultdict(functools.partial(int, 1)),
            collections.defaultdict(functools.partial(int, 2)),
        ),
        (collections.defaultdict([1].copy), collections.defaultdict([2].copy)),
        (Defaulted(int), Defaulted(lambda: 7)),
        (moment("CET", 3600), moment("XYZ", 0)),
        (os.stat_result(range(16)), os.stat_result([*range(10), *range(100, 106)])),
        (Samples("d", [1.0]), Samples("d", [2.0])),
        (Task(int, 1), Task(int, 2)),
        (Price(1), Price(2)),
        (Dice(1), Dice(2)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_with_hidden_differences_do_not_share_a_key(one: Any, other: Any) -> None:
    made = key(plain_fields.Anything(value=one))
    assert made is None or made != key(plain_fields.Anything(value=other))


def test_undeclared_attributes_count_even_if_an_ignored_field_is_missing() -> None:
    ignoring = KeyMaker(Namespace(None, "m", "1"), selection=Selection({"right": None}, keep=False))
    one = without(structures.Inner(), "right", undeclared=1)
    other = without(structures.Inner(), "right", undeclared=2)
    assert ignoring.key(one) != ignoring.key(other)

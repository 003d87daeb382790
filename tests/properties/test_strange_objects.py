"""Malformed objects have a key or a reason, and are predicted."""

from __future__ import annotations

import datetime as dt
import math
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from model_cache import NotCacheableError
from tests.catalogue import plain_fields, structures
from tests.keys.forms import zone_from_file
from tests.models import Charges, FunctionModel
from tests.properties.cases import NOWHERE, decorated
from tests.properties.inputs import Handle


def _raise(*_: Any) -> Any:
    raise LookupError("leave me alone")


RAISING: dict[str, Any] = dict.fromkeys(
    [name for name in vars(int) if name.startswith("__") and name not in ("__new__", "__doc__")]
    + ["__len__", "__iter__", "__contains__", "__getitem__", "__getattr__"]
    + ["items", "keys", "values"],
    _raise,
)
RAISING |= {"__class__": property(_raise), "__dict__": property(_raise)}
Raising = type("Raising", (), RAISING)
RaisingText = type("RaisingText", (str,), RAISING)
RaisingDict = type("RaisingDict", (dict,), RAISING)


class RaisingModel(BaseModel):
    value: int = 0

    def __getattribute__(self, name: str) -> Any:
        raise LookupError("leave me alone")


class RaisingZone(dt.tzinfo):
    utcoffset = dst = tzname = _raise


class Unhashable(type):
    def __eq__(cls, other: object) -> bool:
        return False


class OfUnhashableClass(metaclass=Unhashable):
    pass


class Disguised:
    __class__ = plain_fields.Anything  # type: ignore[assignment]


def cycle() -> list[Any]:
    values: list[Any] = []
    values.append(values)
    return values


def deep(levels: int) -> list[Any]:
    values: list[Any] = []
    for _ in range(levels):
        values = [values]
    return values


def in_itself() -> BaseModel:
    data = plain_fields.Anything()
    data.value = {"again": (data,)}
    return data


half_built = structures.SlotsPoint.__new__(structures.SlotsPoint)
nameless = type("nameless", (), {"__module__": 7})

STRANGE: dict[str, Callable[[], Any]] = {
    "raising": Raising,
    "raising text": RaisingText,
    "raising dict": RaisingDict,
    "raising model": lambda: RaisingModel.__new__(RaisingModel),
    "raising zone": lambda: dt.datetime(2024, 1, 1, tzinfo=RaisingZone()),
    "of an unhashable class": OfUnhashableClass,
    "disguised": Disguised,
    "cycle": cycle,
    "model in itself": in_itself,
    "deep list": lambda: deep(100_000),
    "half-built model": lambda: plain_fields.Anything.__new__(plain_fields.Anything),
    "model without its fields": lambda: structures.Outer.model_construct(None, **{}),
    "half-built dataclass": lambda: half_built,
    "of a class without a name": nameless,
    "class": lambda: plain_fields.Anything,
    "function": lambda: cycle,
    "module": lambda: math,
    "lock": threading.Lock,
    "generator": lambda: (item for item in "abc"),
    "exception": lambda: ValueError(1),
    "weak reference to nothing": lambda: weakref.proxy(Handle()),
    "memory": lambda: memoryview(b"abc"),
    "objects in an array": lambda: np.array([object()]),
    "masked array": lambda: np.ma.masked_array([1.26], [True]),
    "record array": lambda: np.array([[1.26]]).view(np.recarray),
    "zone without a key": lambda: dt.datetime(2024, 1, 1, tzinfo=zone_from_file()),
    "huge int": lambda: 10**10_000,
}


@pytest.mark.parametrize("places", [None, 1])
@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_object_has_a_key_or_a_reason_and_is_predicted(
    name: str, places: int | None
) -> None:
    model = FunctionModel(plain_fields.Anything, Charges, lambda data: Charges(charges=1))
    options = {"reduced_precision": True, "number_of_places": places} if places else {}
    decorator = decorated(model, url=NOWHERE, **options)
    strange = STRANGE[name]()
    held = [strange, [strange], {"a": strange}, structures.Carton(strange), 1.26]
    for data in [plain_fields.Anything.model_construct(value=value) for value in held] + [strange]:
        with suppress(NotCacheableError):
            assert decorator.cache_key(data).startswith("test_model/1.0.0/")
        assert outcome(decorator, data) == outcome(model, data)


def outcome(model: Any, data: Any) -> Any:
    try:
        return model.predict(data)
    except Exception as error:
        return type(error), str(error)

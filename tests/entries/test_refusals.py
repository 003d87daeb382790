"""Predictions that would come back changed are refused, and the refusal says why."""

from __future__ import annotations

import datetime as dt
import math
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import numpy
import pytest
from pydantic import AfterValidator, BaseModel, Field, PrivateAttr

from model_cache.entries.codec import Codec, EntryRefusedError, Refusal
from tests.entries.round_trips import KEY, Loose, round_trip
from tests.models import Charges


class Derived(Charges):
    more: int = 1


class Private(BaseModel):
    charges: float
    _hidden: int = PrivateAttr(default=0)


class Excluded(BaseModel):
    charges: float = Field(exclude=True)


def private(hidden: int) -> Private:
    prediction = Private(charges=1)
    prediction._hidden = hidden
    return prediction


def built(**fields: Any) -> Charges:
    """Without validation."""
    return Charges.model_construct(**fields)


@pytest.mark.parametrize(
    ("schema", "prediction"),
    [
        (Charges, Derived(charges=1)),
        (Private, private(1)),
        (Excluded, Excluded(charges=1)),
        (Charges, {"charges": 1.0}),
        (Charges, None),
        (Charges, built(charges="many")),
        (Charges, built(charges=1)),
        (Charges, built(charges=object())),
    ],
)
def test_a_prediction_that_would_change_is_refused(schema: Any, prediction: Any) -> None:
    with pytest.raises(EntryRefusedError) as raised:
        Codec(schema).encode(KEY, prediction)
    assert raised.value.reason is Refusal.LOSSY


def test_a_private_attribute_with_its_default_survives() -> None:
    round_trip(Codec(Private), private(0))


def built_loose(**fields: Any) -> Loose:
    """Without validation."""
    return Loose.model_construct(x=1, **fields)


class Stop(BaseModel):
    when: dt.datetime


class Stops(BaseModel):
    stops: list[Stop]


NOON = dt.datetime(2024, 6, 1, 12, tzinfo=dt.UTC)


class Clipped(BaseModel):
    value: Annotated[int, AfterValidator(lambda value: min(value, 1))]


@pytest.mark.parametrize(
    ("prediction", "reason"),
    [
        (
            Loose(x=(1, 2)),
            "back: x: its type changes from tuple to list; declare the field as tuple, or",
        ),
        (
            Loose(x=[{"a": (1, 2)}]),
            r"back: x\[0\].values\(\)\[0\]: its type changes from tuple to list",
        ),
        (Loose(x=numpy.arange(3)), "back: x: a numpy.ndarray can't be dumped .*return a list"),
        (Loose(x=[1, [numpy.arange(3)]]), r"back: x\[1\]\[0\]: a numpy.ndarray can't be dumped"),
        (
            Loose(x=[{"a": iter([1])}]),
            r"back: x\[0\].values\(\)\[0\]: a value of type builtins.list_iterator",
        ),
        (built_loose(y=5), "back: y: its type changes from int to float"),
        (
            built_loose(y="five"),
            r"back: y: the output schema rejects it .*\(float_parsing\)",
        ),
        (
            Loose(x=Private(charges=1)),
            "back: x: its type changes from tests.entries.test_refusals.Private to",
        ),
        ({"x": 1}, "back: it is a dict, not a Loose"),
        (private(1), "back: _hidden: a private attribute is not stored; make it a field"),
        (Excluded(charges=1), "back: charges: .*exclude=True is not stored"),
        (
            Stops(stops=[Stop(when=NOON), Stop(when=NOON.astimezone(ZoneInfo("Europe/Paris")))]),
            r"back: stops\[1\].when: its time zone changes from zoneinfo.ZoneInfo Europe/Paris to",
        ),
        (Clipped.model_construct(value=2), "back: value: its value changes; does a validator"),
    ],
)
def test_a_refusal_says_why(prediction: Any, reason: str) -> None:
    schema = type(prediction) if isinstance(prediction, BaseModel) else Loose
    with pytest.raises(EntryRefusedError, match=reason) as caught:
        Codec(schema).encode(b"key", prediction)
    assert caught.value.reason is Refusal.LOSSY


def test_each_serder_says_why_if_they_differ() -> None:
    with pytest.raises(EntryRefusedError, match=r"as JSON, y: .*; as MessagePack, x: its type"):
        Codec(Loose).encode(KEY, Loose(x=(1, 2), y=math.nan))


def test_a_prediction_without_an_explanation_is_still_refused() -> None:
    nested: list[Any] = []
    for _ in range(2000):
        nested = [nested]
    with pytest.raises(EntryRefusedError, match="nested more than 256 levels deep"):
        Codec(Loose).encode(KEY, Loose.model_construct(x=nested))

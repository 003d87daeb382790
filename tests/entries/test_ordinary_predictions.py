"""Ordinary predictions are stored, including time zones and arrays."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from typing import Any

import numpy as np
import pydantic
import pytest
from pydantic import BaseModel, ConfigDict

from model_cache.entries.codec import Codec, EntryRefusedError
from model_cache.keys.canonical import PREDICTIONS
from tests.keys.forms import NEGATIVE_NAN, NOON, ONE_HOUR, SQUARE


class Answer(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    when: dt.datetime | None = None
    clock: dt.time | None = None
    number: float = 0.0
    identity: uuid.UUID | None = None


def comes_back(answer: BaseModel) -> bool:
    codec = Codec(type(answer))
    try:
        restored = codec.decode(b"key", codec.encode(b"key", answer))
    except EntryRefusedError:
        return False
    assert restored is not None
    assert PREDICTIONS.encode(restored) == PREDICTIONS.encode(answer)
    return True


@pytest.mark.parametrize(
    "answer",
    [
        Answer(when=NOON),
        Answer(when=NOON.replace(tzinfo=dt.UTC)),
        Answer.model_validate({"when": "2024-01-01T12:00:00Z"}),
        Answer.model_validate({"when": "2024-01-01T12:00:00+01:00", "clock": "12:00-05:30"}),
        Answer(number=math.nan),
        Answer(number=NEGATIVE_NAN),
        Answer(identity=uuid.UUID(int=1)),
        Answer(identity=uuid.UUID(int=1, is_safe=uuid.SafeUUID.safe)),
    ],
    ids=repr,
)
def test_ordinary_predictions_are_stored(answer: Answer) -> None:
    assert comes_back(answer)


def test_a_prediction_whose_zone_would_come_back_by_another_name_is_not_stored() -> None:
    assert not comes_back(Answer(when=NOON.replace(tzinfo=dt.timezone(ONE_HOUR))))


def _array(value: Any) -> Any:
    return value if isinstance(value, np.ndarray) else np.array(value, dtype="<f8")


class Vector(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    values: Any

    @pydantic.field_validator("values", mode="before")
    @classmethod
    def read(cls, value: Any) -> Any:
        return _array(value)

    @pydantic.field_serializer("values")
    def write(self, value: Any) -> Any:
        return value.tolist()


@pytest.mark.parametrize(
    "values", [SQUARE, SQUARE.T, SQUARE[:, 1], SQUARE[::-1]], ids=["C", "F", "column", "backwards"]
)
def test_an_array_in_a_prediction_is_stored_however_it_lies_in_memory(values: Any) -> None:
    assert comes_back(Vector(values=values))

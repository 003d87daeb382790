"""The canonical form of a value, and values that several files use."""

from __future__ import annotations

import datetime as dt
import struct
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from model_cache.keys.canonical import INPUTS

ONE_HOUR = dt.timedelta(hours=1)


NOON = dt.datetime(2024, 1, 1, 12)


class Anything(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    value: Any


def form(value: Any) -> bytes:
    return INPUTS.encode(Anything.model_construct(value=value))


SQUARE = np.arange(6.0).reshape(2, 3)


NEGATIVE_NAN = struct.unpack(">d", bytes.fromhex("fff8000000000000"))[0]

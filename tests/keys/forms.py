"""The canonical form of a value, and values that several files use."""

from __future__ import annotations

import datetime as dt
import io
import struct
import zoneinfo
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


def zone_from_file(key: str | None = None) -> zoneinfo.ZoneInfo:
    # The shortest file that there is: version 1, one type of time, UTC.
    content = b"TZif" + bytes(16) + struct.pack(">6I", 0, 0, 0, 0, 1, 4)
    return zoneinfo.ZoneInfo.from_file(io.BytesIO(content + bytes(6) + b"UTC\0"), key=key)

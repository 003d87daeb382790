"""The time of a request: which column it is in, and what it says."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Any

# In the order in which they are looked for.
_NAMES = (
    "timestamp",
    "@timestamp",
    "time",
    "datetime",
    "request_time",
    "requested_at",
    "event_time",
    "created_at",
    "ts",
    "date",
)

# A number above one of these is in the smaller unit: seconds reach 1e11 in the year 5138.
_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))


def time_column(columns: Iterable[str], fields: Collection[str]) -> str | None:
    """Return the column that holds the times of requests, by its name.

    Args:
        columns: the columns of the log.
        fields: the names of the model's fields, which are never taken for it.
    """
    known = {column.lower(): column for column in columns if column not in fields}
    return next((known[name] for name in _NAMES if name in known), None)


def seconds_of(value: Any) -> float | None:
    """Return a time in seconds since 1970; None if the value is no time.

    Args:
        value: a datetime or a date, an ISO 8601 string, or a number of seconds, milliseconds,
            microseconds or nanoseconds, also as text. A time without a zone is in UTC.
    """
    if isinstance(value, str):
        return _from_text(value)
    if isinstance(value, dt.datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=dt.UTC)
        return aware.timestamp()
    if isinstance(value, dt.date):
        return seconds_of(dt.datetime(value.year, value.month, value.day))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return _from_number(float(value))
        except OverflowError:  # an int of hundreds of digits
            return None
    return None


def _from_number(number: float) -> float | None:
    if not math.isfinite(number):
        return None
    return number / next((unit for least, unit in _UNITS if abs(number) >= least), 1.0)


@lru_cache(20_000)  # many requests of a log have the same time
def _from_text(text: str) -> float | None:
    try:
        return _from_number(float(text))
    except ValueError:
        pass
    try:
        return seconds_of(dt.datetime.fromisoformat(text.strip()))
    except ValueError:
        return None

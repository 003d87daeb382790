"""Values that contain no other values: numbers, moments and their zones.

Each has a code, a function that writes an instance of exactly its type, and one that reads it.
"""

from __future__ import annotations

import datetime as dt
import re
import struct
import uuid
import zoneinfo
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from operator import attrgetter
from typing import Any

import pydantic_core

from model_cache.entries.refusals import not_storable

_complex = struct.Struct(">dd")
_days = struct.Struct(">iii")

# To reduce a fraction takes quadratic time, and it is reduced whenever it is read.
_LONGEST_FRACTION = 4096  # bits
# Reading a zone opens a file: no absolute paths, no dots.
_ZONE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,3}")


def _int(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _read_int(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def _read_complex(data: bytes) -> complex:
    return complex(*_complex.unpack(data))


def _fraction(value: Fraction) -> bytes:
    parts = (value.numerator, value.denominator)
    if max(part.bit_length() for part in parts) > _LONGEST_FRACTION:
        raise not_storable(Fraction, f"it has more than {_LONGEST_FRACTION} bits")
    return b"%x/%x" % parts


def _read_fraction(data: bytes) -> Fraction:
    if len(data) > _LONGEST_FRACTION // 2 + 8:
        raise ValueError("too long a fraction")
    numerator, denominator = data.split(b"/")
    return Fraction(int(numerator, 16), int(denominator, 16))


def _range(value: range) -> bytes:
    return b"%x/%x/%x" % (value.start, value.stop, value.step)


def _read_range(data: bytes) -> range:
    start, stop, step = data.split(b"/")
    return range(int(start, 16), int(stop, 16), int(step, 16))


def _read_date(data: bytes) -> dt.date:
    return dt.date.fromordinal(int.from_bytes(data))


def _timedelta(value: dt.timedelta) -> bytes:
    return _days.pack(value.days, value.seconds, value.microseconds)


def _read_timedelta(data: bytes) -> dt.timedelta:
    days, seconds, microseconds = _days.unpack(data)
    return dt.timedelta(days, seconds, microseconds)


def _of_moments(
    cls: Callable[..., Any], layout: str, *names: str
) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    """Return a writer and a reader of datetimes, or of times of day: numbers, then a zone."""
    numbers, numbers_of = struct.Struct(layout), attrgetter(*names, "fold")

    def write(value: Any) -> bytes:
        return numbers.pack(*numbers_of(value)) + zone(value.tzinfo)

    def read(data: bytes) -> Any:
        *made_of, fold = numbers.unpack_from(data)
        return cls(*made_of, read_zone(data[numbers.size :]), fold=fold)

    return write, read


def zone(value: dt.tzinfo | None) -> bytes:
    """Return a time zone as bytes, b"" for none."""
    cls = type(value)
    if value is None:
        return b""
    if value is dt.UTC:
        return b"U"
    if cls is dt.timezone:
        offset, name = value.utcoffset(None), value.tzname(None)
        assert offset is not None
        assert name is not None
        is_usual = name == dt.timezone(offset).tzname(None)
        return b"O" + _timedelta(offset) + (b"" if is_usual else name.encode("utf-8", _ERRORS))
    if cls is pydantic_core.TzInfo:
        offset = value.utcoffset(None)
        assert offset is not None
        return b"K" + _timedelta(offset)
    if cls is zoneinfo.ZoneInfo and _ZONE_NAME.fullmatch(value.key or ""):  # type: ignore[attr-defined]
        return b"Z" + value.key.encode()  # type: ignore[attr-defined, no-any-return]
    raise not_storable(cls)


def read_zone(data: bytes) -> dt.tzinfo | None:
    """Return the time zone in `data`."""
    if not data:
        return None
    kind, rest = data[:1], data[1:]
    if kind == b"U" and not rest:
        return dt.UTC
    if kind == b"O":
        offset, name = _read_timedelta(rest[: _days.size]), rest[_days.size :]
        return dt.timezone(offset, name.decode("utf-8", _ERRORS)) if name else dt.timezone(offset)
    if kind == b"K":
        return pydantic_core.TzInfo(_read_timedelta(rest).total_seconds())
    if kind == b"Z":
        key = rest.decode("ascii")
        if _ZONE_NAME.fullmatch(key):
            return zoneinfo.ZoneInfo(key)
    raise ValueError("not a time zone")


_ERRORS = "surrogatepass"
_TIME = ("hour", "minute", "second", "microsecond")

# The codes are part of the format: a new type gets a new code.
LEAVES: dict[type, tuple[int, Callable[[Any], bytes], Callable[[bytes], Any]]] = {
    int: (1, _int, _read_int),  # beyond 64 bits
    bytearray: (2, bytes, bytearray),
    complex: (3, lambda value: _complex.pack(value.real, value.imag), _read_complex),
    Decimal: (4, lambda value: str(value).encode(), lambda data: Decimal(data.decode("ascii"))),
    Fraction: (5, _fraction, _read_fraction),
    dt.datetime: (6, *_of_moments(dt.datetime, ">HBBBBBIB", "year", "month", "day", *_TIME)),
    dt.date: (7, lambda value: value.toordinal().to_bytes(3), _read_date),
    dt.time: (8, *_of_moments(dt.time, ">BBBIB", *_TIME)),
    dt.timedelta: (9, _timedelta, _read_timedelta),
    uuid.UUID: (10, lambda value: value.bytes, lambda data: uuid.UUID(bytes=data)),
    range: (11, _range, _read_range),
    dt.timezone: (12, zone, read_zone),
    pydantic_core.TzInfo: (12, zone, read_zone),
    zoneinfo.ZoneInfo: (12, zone, read_zone),
}

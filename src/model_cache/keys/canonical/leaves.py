"""The canonical form of values that contain no other values."""

from __future__ import annotations

import datetime as dt
import struct
import types
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

from model_cache.keys.canonical.identities import text

Encode: TypeAlias = Callable[[Any], bytes]

pack_double = struct.Struct(">d").pack


def _none(_: None) -> bytes:
    return b"N"


def _bool(value: bool) -> bytes:
    return b"T" if value else b"F"


def integer(value: int) -> bytes:
    """Return the canonical bytes of an int."""
    # Hexadecimal: Python refuses to convert huge ints to decimal.
    return b"i%x;" % value


def _float(value: float) -> bytes:
    # All eight bytes: a NaN has a payload, and a sign, which copysign reads.
    return b"f" + pack_double(value)


def _bytes(value: bytes) -> bytes:
    return b"b%x:%b" % (len(value), value)


def _decimal(value: Decimal) -> bytes:
    # as_tuple, since str() depends on the context.
    sign, digits, exponent = value.as_tuple()
    scale = b"%x" % exponent if isinstance(exponent, int) else exponent.encode()
    return b"d%d%b;%x:%b" % (sign, scale, len(digits), bytes(digits))


def _date(value: dt.date) -> bytes:
    return b"A%x;" % value.toordinal()


def timedelta(value: dt.timedelta) -> bytes:
    """Return the canonical bytes of a timedelta."""
    return b"P%x;%x;%x;" % (value.days, value.seconds, value.microseconds)


def _uuid(value: uuid.UUID) -> bytes:
    return b"U" + value.bytes


_UNKNOWN = uuid.SafeUUID.unknown


def safe_uuid(value: uuid.UUID) -> bytes:
    """Return the canonical bytes of a UUID, including `is_safe`."""
    if value.is_safe is _UNKNOWN:
        return b"U" + value.bytes
    return b"W%b%b" % (value.bytes, text(value.is_safe.name))


LEAVES: dict[type, Encode] = {
    types.NoneType: _none,
    bool: _bool,
    int: integer,
    float: _float,
    str: text,
    bytes: _bytes,
    Decimal: _decimal,
    dt.date: _date,
    dt.timedelta: timedelta,
    uuid.UUID: _uuid,
}


def pack_doubles(values: Sequence[float]) -> bytes:
    """Return eight bytes for each float."""
    return struct.pack(f">{len(values)}d", *values)

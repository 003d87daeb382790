"""The canonical form of single values, and of the types that reduce to one."""

from __future__ import annotations

import datetime as dt
import ipaddress
import pathlib
import re
import struct
import types
import uuid
import zoneinfo
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeAlias

import pydantic_core
from pydantic import AnyUrl, NameEmail, PostgresDsn, Secret, SecretBytes, SecretStr

from model_cache.canonical.identities import class_identity, counted, described, text
from model_cache.errors import NotCacheableError

Encode: TypeAlias = Callable[[Any], bytes]

_NAN = b"f" + struct.pack(">d", float("nan"))
pack_double = struct.Struct(">d").pack


def _none(_: None) -> bytes:
    return b"N"


def _bool(value: bool) -> bytes:
    return b"T" if value else b"F"


def _int(value: int) -> bytes:
    # Hexadecimal: Python refuses to write huge ints in decimal.
    return b"i%x;" % value


def _float(value: float) -> bytes:
    return b"f" + pack_double(value) if value == value else _NAN  # noqa: PLR0124 - only a NaN differs from itself


def _bytes(value: bytes) -> bytes:
    return b"b%x:%b" % (len(value), value)


def _decimal(value: Decimal) -> bytes:
    # as_tuple, since str() depends on the context.
    sign, digits, exponent = value.as_tuple()
    scale = b"%x" % exponent if isinstance(exponent, int) else exponent.encode()
    return b"d%d%b;%x:%b" % (sign, scale, len(digits), bytes(digits))


def _date(value: dt.date) -> bytes:
    return b"A%x;" % value.toordinal()


def _time_of_day(value: dt.time | dt.datetime) -> bytes:
    return struct.pack(
        ">BBBIB", value.hour, value.minute, value.second, value.microsecond, value.fold
    )


def _time(value: dt.time) -> bytes:
    return b"C" + _time_of_day(value) + zone_form(value.tzinfo, value.utcoffset())


def _datetime(value: dt.datetime) -> bytes:
    return b"D%x;%b%b" % (
        value.toordinal(),
        _time_of_day(value),
        zone_form(value.tzinfo, value.utcoffset()),
    )


def _timedelta(value: dt.timedelta) -> bytes:
    return b"P%x;%x;%x;" % (value.days, value.seconds, value.microseconds)


def zone_form(zone: dt.tzinfo | None, offset: dt.timedelta | None) -> bytes:
    """Encode a time zone: a fixed one by its offset, a ZoneInfo by key and offset then."""
    if zone is None:
        return b"N"
    shift = b"N" if offset is None else _timedelta(offset)
    if type(zone) is zoneinfo.ZoneInfo and zone.key is not None:
        return b"Z" + text(zone.key) + shift
    if type(zone) in (dt.timezone, pydantic_core.TzInfo):
        fixed = zone.utcoffset(None) or dt.timedelta(0)
        name = zone.tzname(None) if type(zone) is dt.timezone else None
        if name in (None, dt.timezone(fixed).tzname(None)):
            return b"O" + _timedelta(fixed)
        return b"Q" + _timedelta(fixed) + text(str(name))
    raise NotCacheableError(f"a time zone of {described(type(zone))} has no canonical form")


def _uuid(value: uuid.UUID) -> bytes:
    return b"U" + value.bytes


LEAVES: dict[type, Encode] = {
    types.NoneType: _none,
    bool: _bool,
    int: _int,
    float: _float,
    str: text,
    bytes: _bytes,
    Decimal: _decimal,
    dt.date: _date,
    dt.time: _time,
    dt.datetime: _datetime,
    dt.timedelta: _timedelta,
    uuid.UUID: _uuid,
}


def _defaultdict_part(value: defaultdict[Any, Any]) -> tuple[bytes | None, dict[Any, Any]]:
    factory = value.default_factory
    if factory is not None and not isinstance(factory, type):
        # Two lambdas go by the same name, and two partials by none.
        raise NotCacheableError("a defaultdict whose factory is no class has no canonical form")
    return None if factory is None else class_identity(factory), dict(value)


# Types whose instances are told apart by their type and one simpler value. Matched exactly,
# since a subclass may hold more; named here, since modules move between versions.
REDUCED: dict[type, tuple[str, Callable[[Any], Any]]] = {
    bytearray: ("bytearray", bytes),
    complex: ("complex", lambda value: (value.real, value.imag)),
    Fraction: ("Fraction", lambda value: (value.numerator, value.denominator)),
    re.Pattern: ("Pattern", lambda value: (value.pattern, value.flags)),
    deque: ("deque", lambda value: (value.maxlen, list(value))),
    OrderedDict: ("OrderedDict", lambda value: list(value.items())),
    defaultdict: ("defaultdict", _defaultdict_part),
    pathlib.PurePosixPath: ("PurePosixPath", str),
    pathlib.PureWindowsPath: ("PureWindowsPath", str),
    pathlib.PosixPath: ("PosixPath", str),
    pathlib.WindowsPath: ("WindowsPath", str),
    ipaddress.IPv4Address: ("IPv4Address", str),
    ipaddress.IPv6Address: ("IPv6Address", str),
    ipaddress.IPv4Network: ("IPv4Network", str),
    ipaddress.IPv6Network: ("IPv6Network", str),
    ipaddress.IPv4Interface: ("IPv4Interface", str),
    ipaddress.IPv6Interface: ("IPv6Interface", str),
    NameEmail: ("NameEmail", lambda value: (value.name, value.email)),
    SecretStr: ("SecretStr", lambda value: value.get_secret_value()),
    SecretBytes: ("SecretBytes", lambda value: value.get_secret_value()),
    Secret: ("Secret", lambda value: value.get_secret_value()),
    pydantic_core.Url: ("Url", str),
    pydantic_core.MultiHostUrl: ("MultiHostUrl", str),
}
# pydantic's own URL types differ in their class alone.
URLS = (*AnyUrl.__bases__, *PostgresDsn.__bases__)

# What a subclass of a builtin holds as that builtin, whatever the subclass overrides.
BUILTIN_PART: dict[type, Callable[[Any], Any]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    list: list.copy,
    tuple: lambda value: tuple.__getitem__(value, slice(None)),
    set: lambda value: set.__or__(set(), value),
    frozenset: lambda value: frozenset.__or__(frozenset(), value),
    dict: dict.copy,
}


def pack_doubles(values: Sequence[float]) -> bytes:
    """Return eight bytes for each float."""
    packed = struct.pack(f">{len(values)}d", *values)
    # Only a NaN, or infinities that cancel out, make the sum a NaN.
    if (total := sum(values)) != total:
        packed = b"".join([_float(value)[1:] for value in values])
    return packed


def numpy_encoder(numpy: Any, cls: type) -> Encode | None:
    """Arrays and scalars: full dtype, shape, bytes in C order."""
    is_array = cls is numpy.ndarray
    if not is_array and not (issubclass(cls, numpy.generic) and cls.__module__ == "numpy"):
        return None

    def encode(value: Any) -> bytes:
        dtype = value.dtype
        if dtype.hasobject or dtype.kind not in "biufcmMSUV":
            raise NotCacheableError(f"a numpy value of dtype {dtype} has no canonical form")
        described = repr(numpy.lib.format.dtype_to_descr(dtype))
        # tobytes() copies whatever the memory's layout is into C order.
        data = value.tobytes()
        return b"%b%b%b%x:%b" % (
            b"n" if is_array else b"x",
            text(described),
            counted(map(_int, value.shape)),
            len(data),
            data,
        )

    return encode

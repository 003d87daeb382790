"""Dates, times and time zones.

A model can see a zone's offsets and names (`strftime("%Z")`), so both are included. Python's and
pydantic's UTC count as one zone, since they have the same offset and the same name.
"""

from __future__ import annotations

import datetime as dt
import functools
import pickle
import struct
import zoneinfo
from collections.abc import Callable
from typing import Any

import pydantic_core

from model_cache.errors import NotCacheableError
from model_cache.keys.canonical.identities import text
from model_cache.keys.canonical.leaves import Encode, timedelta

_NO_ZONE = b"N"
_UTC = b"O" + timedelta(dt.timedelta(0))
_pack_time_of_day = struct.Struct(">BBBIB").pack


def _time(encode: Encode) -> Encode:
    return lambda value: b"C%b%b" % (_time_of_day(value), _zoned(value, encode))


def _datetime(encode: Encode) -> Encode:
    return lambda value: (
        b"D%x;%b%b" % (value.toordinal(), _time_of_day(value), _zoned(value, encode))
    )


# Created with the encoder of their zones.
MOMENTS: dict[type, Callable[[Encode], Encode]] = {dt.time: _time, dt.datetime: _datetime}


def _time_of_day(value: dt.time | dt.datetime) -> bytes:
    return _pack_time_of_day(value.hour, value.minute, value.second, value.microsecond, value.fold)


def _zoned(value: dt.time | dt.datetime, encode: Encode) -> bytes:
    zone = value.tzinfo
    if zone is None:
        return _NO_ZONE
    form = encode(zone)
    cls = type(zone)
    if cls is dt.timezone or cls is pydantic_core.TzInfo:
        return form
    # A name like "Europe/Berlin" depends on the time zone database, which changes.
    offset = value.utcoffset()
    form += b"N" if offset is None else timedelta(offset)
    if cls is zoneinfo.ZoneInfo:
        return form
    # For a registered class, whose function may leave something out that shows here.
    return form + encode(value.dst()) + encode(value.tzname())


def _timezone(zone: dt.timezone) -> bytes:
    if zone is dt.UTC:
        return _UTC
    offset, name = zone.utcoffset(None), zone.tzname(None)
    if name == dt.timezone(offset).tzname(None):
        return b"O" + timedelta(offset)
    return b"Q" + timedelta(offset) + text(name)


def _pydantics(zone: Any) -> bytes:
    offset = zone.utcoffset(None)
    return b"K" + timedelta(offset) if offset else _UTC


@functools.lru_cache(1024)  # by identity; there are fewer zones than that
def _zone_info(zone: zoneinfo.ZoneInfo) -> bytes:
    try:
        zone.__reduce__()
    except pickle.PicklingError:
        # Its key, if any, is only what the caller of from_file said.
        raise NotCacheableError(
            "a ZoneInfo that was read from a file has no canonical form"
        ) from None
    return b"Z" + text(zone.key)


ZONES: dict[type, Encode] = {
    dt.timezone: _timezone,
    pydantic_core.TzInfo: _pydantics,
    zoneinfo.ZoneInfo: _zone_info,
}

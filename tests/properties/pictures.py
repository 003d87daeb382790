"""What a model could see of a value.

`picture` shows all of it, in other words than the library's: it is built on pickle's protocol
wherever a type is not spelled out. Keys must be the same where pictures are, and nowhere else.
"""

from __future__ import annotations

import collections
import copyreg
import dataclasses
import datetime as dt
import enum
import functools
import pathlib
import struct
import types
import uuid
import zoneinfo
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pydantic_core
from pydantic import BaseModel


def picture(value: Any, *, prediction: bool = False) -> Any:
    """Return nested tuples, equal for two values if no model could tell them apart.

    Those of a prediction show `model_fields_set`, but not `UUID.is_safe`, which entries do not
    store: pydantic before 2.13 sets it when it reads one.
    """
    see = functools.partial(picture, prediction=prediction)
    cls = type(value)
    if value is None or isinstance(value, (bool, type, types.FunctionType)):
        return (cls, value)
    if isinstance(value, enum.Enum):
        added = {name: item for name, item in vars(value).items() if name.strip("_") == name}
        return (cls, value._name_, see(value._value_), _attributes(added, see))
    if isinstance(value, BaseModel):
        extra, private = value.__pydantic_extra__ or {}, value.__pydantic_private__ or {}
        return (
            cls,
            _attributes(vars(value), see),
            _attributes(slots(value), see),
            tuple((name, see(item)) for name, item in extra.items()),
            _attributes(private, see),
            frozenset(value.__pydantic_fields_set__) if prediction else None,
        )
    if isinstance(value, (np.ndarray, np.generic)):
        kind = cls if isinstance(value, np.ndarray) else np.generic
        # The bytes of an array of objects are addresses.
        content = see(value.tolist()) if value.dtype.kind == "O" else value.tobytes()
        return (kind, *_dtype(value.dtype), value.shape, _layout(value), content)
    if isinstance(value, dt.tzinfo):
        return _zone(value)
    if isinstance(value, (Decimal, pathlib.PurePath)):
        return (cls, repr(value))
    if isinstance(value, uuid.UUID):
        return (cls, value.int, None if prediction else value.is_safe)
    for base, content in _BUILTINS.items():
        if isinstance(value, base):
            attributes = {**getattr(value, "__dict__", {}), **slots(value)}
            factory = see(getattr(value, "default_factory", None))
            return (cls, content(value, see), factory, _attributes(attributes, see))
    reduce: Any = copyreg.dispatch_table.get(cls, lambda value: value.__reduce_ex__(4))
    reduced = reduce(value)
    if isinstance(reduced, str):
        return (cls, reduced)
    function, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    if isinstance(state, dict):
        state = sorted(state.items())
    parts = (arguments, state, items and list(items), pairs and list(pairs))
    return (cls, see(function) if callable(function) else function, *map(see, parts))


_BUILTINS: dict[type, Callable[[Any, Callable[[Any], Any]], Any]] = {
    int: lambda value, see: int.__add__(value, 0),
    float: lambda value, see: struct.pack("d", value).hex(),
    str: lambda value, see: str.__str__(value),
    bytes: lambda value, see: bytes.hex(value),
    bytearray: lambda value, see: bytes(value).hex(),
    list: lambda value, see: tuple(map(see, list.__iter__(value))),
    tuple: lambda value, see: tuple(map(see, tuple.__iter__(value))),
    dict: lambda value, see: tuple((see(name), see(item)) for name, item in dict.items(value)),
    set: lambda value, see: frozenset(collections.Counter(map(see, value)).items()),
    frozenset: lambda value, see: frozenset(collections.Counter(map(see, value)).items()),
    types.BuiltinFunctionType: lambda value, see: value,
}


def _attributes(named: dict[str, Any], see: Callable[[Any], Any]) -> Any:
    return tuple((name, see(named[name])) for name in sorted(named))


def slots(value: Any) -> dict[str, Any]:
    names: list[str] = copyreg._slotnames(type(value))  # type: ignore[attr-defined]
    pydantics = BaseModel.__slots__
    return {
        name: getattr(value, name)
        for name in names
        if name not in pydantics and hasattr(type(value), name) and _is_there(value, name)
    }


def _is_there(value: Any, name: str) -> bool:
    try:
        object.__getattribute__(value, name)
    except AttributeError:
        return False
    return True


def _zone(zone: dt.tzinfo) -> Any:
    if isinstance(zone, zoneinfo.ZoneInfo):
        return ("zone", zone.key)
    assert type(zone) in (dt.timezone, pydantic_core.TzInfo)
    return ("offset", zone.utcoffset(None), zone.tzname(None))


def _dtype(dtype: Any) -> Any:
    fields = dtype.fields or {}
    return (dtype, dtype.char, dtype.isalignedstruct, *(_dtype(fields[name][0]) for name in fields))


def _layout(array: Any) -> Any:
    flags = array.flags
    if flags.c_contiguous or flags.f_contiguous:
        return (flags.c_contiguous, flags.f_contiguous)
    return tuple(n for n, size in zip(array.strides, array.shape, strict=True) if size > 1)


def objects(value: Any) -> Iterator[Any]:
    """Yield a value and all that it holds."""
    yield value
    inside: list[Any] = []
    if isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
        inside += {**getattr(value, "__dict__", {}), **slots(value)}.values()
        inside += (getattr(value, "__pydantic_extra__", None) or {}).values()
    elif isinstance(value, dict):
        inside += value.values()
    elif isinstance(value, (list, tuple, set, frozenset, collections.deque)):
        inside += value
    for item in inside:
        yield from objects(item)

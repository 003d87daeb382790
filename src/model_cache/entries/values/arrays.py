"""numpy arrays and scalars, as their dtype, shape and bytes.

Arrays are read as copies, which are writable and own their memory. This module does not import
numpy: it reads numpy's values only where the process has imported it.
"""

from __future__ import annotations

import functools
import math
import sys
from typing import Any

import msgpack

from model_cache.entries.refusals import NotStorableError
from model_cache.entries.values.libraries import loaded
from model_cache.keys.canonical.arrays import loaded_numpy

# The codes of their extension types, which are part of the format.
ARRAY, SCALAR, OBJECTS = 48, 49, 50

LARGEST_EMPTY = 2**16
"""The largest item size, in bytes, of an empty array: numpy allocates room for one item."""

_DEEPEST = 16


def array(value: Any) -> bytes:
    """Return an array as bytes."""
    numpy = loaded_numpy()
    order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
    data: bytes = _without_gaps(numpy, value).tobytes(order)
    return _head(value.dtype, value.shape, order) + data


def scalar(value: Any) -> bytes:
    """Return a scalar as bytes."""
    numpy = loaded_numpy()
    data: bytes = _without_gaps(numpy, numpy.asarray(value)).tobytes()
    return _head(value.dtype, (), "C") + data


def _head(dtype: Any, shape: tuple[int, ...], order: str) -> bytes:
    if dtype.hasobject:
        raise NotStorableError(f"a numpy value of dtype {dtype.str} can't be stored")
    head: bytes = msgpack.packb([_described(dtype), shape, order])
    return len(head).to_bytes(2) + head


def read_array(data: bytes) -> Any:
    """Return the array in `data`."""
    numpy = loaded("numpy")
    start = 2 + int.from_bytes(data[:2])
    dtype, shape, order, count, any_bytes = _read_head(numpy, data[2:start])
    if start == len(data):
        if 0 not in shape or dtype.itemsize > LARGEST_EMPTY:
            raise ValueError("no values")
        return numpy.empty(shape, dtype, order)
    flat = numpy.frombuffer(data, dtype, offset=start)
    if flat.size != count:
        raise ValueError("another number of values")
    if not any_bytes:
        check(numpy, flat)
    if len(shape) == 1:
        return flat.copy()
    made = numpy.empty(shape, dtype, order)
    made[...] = flat.reshape(shape, order=order)
    return made


def read_scalar(data: bytes) -> Any:
    """Return the scalar in `data`."""
    made = read_array(data)
    if made.shape != ():
        raise ValueError("not a scalar")
    return made[()]


def objects(value: Any) -> list[Any]:
    """Return the parts of an array of objects."""
    return [list(value.shape), value.ravel().tolist()]


def read_objects(parts: Any) -> Any:
    """Return an array of objects."""
    shape, items = parts
    numpy = loaded("numpy")
    made = numpy.empty(len(items), object)
    for place, item in enumerate(items):  # an assignment of all would look into sequences
        made[place] = item
    _check_shape(shape)
    return made.reshape(shape)


def _without_gaps(numpy: Any, value: Any) -> Any:
    """Return an array whose padding is zero: it holds whatever was in memory before."""
    if value.dtype.names is None:
        return value
    clean = numpy.zeros_like(value, subok=False)
    for name in value.dtype.names:
        clean[name] = _without_gaps(numpy, value[name])
    return clean


def check(numpy: Any, flat: Any) -> None:
    """Raise if a flat array has bytes in memory that are not valid for its dtype."""
    dtype = flat.dtype
    if dtype.names is not None:
        for name in dtype.names:
            check(numpy, flat[name])
    elif dtype.kind == "b":
        if (flat.view("u1") > 1).any():
            raise ValueError("not a bool")
    elif dtype.kind == "U":
        codes = numpy.ascontiguousarray(flat).view(dtype.str[0] + "u4")
        if (codes > sys.maxunicode).any():
            raise ValueError("not a character")


def _described(dtype: Any) -> Any:
    """Return a dtype as plain values."""
    numpy = loaded_numpy()
    if dtype.metadata is not None:
        raise NotStorableError("a numpy dtype with metadata can't be stored")
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return ["a", _described(base), shape]
    if dtype.names is None:
        # Two C types may have the same format.
        is_usual = numpy.dtype(dtype.str).type is dtype.type
        return dtype.str if is_usual else ["c", dtype.str[0] + dtype.char]
    kind = "r" if dtype.type is numpy.record else "v"
    fields = [
        [name, offset, title[0] if title else None, _described(field)]
        for name in dtype.names
        for field, offset, *title in [dtype.fields[name]]
    ]
    return [kind, dtype.itemsize, dtype.isalignedstruct, fields]


@functools.lru_cache(256)
def _read_head(numpy: Any, head: bytes) -> tuple[Any, tuple[int, ...], str, int, bool]:
    """Return the dtype, shape, order and size, and whether any bytes are values of the dtype."""
    described, shape, order = msgpack.unpackb(head)
    _check_shape(shape)
    dtype = _read_dtype(numpy, described, 0)
    if dtype.hasobject or dtype.itemsize == 0 or dtype.subdtype is not None:
        raise ValueError("not a dtype of values")
    if order not in ("C", "F"):
        raise ValueError("neither order")
    return dtype, tuple(shape), order, math.prod(shape), dtype.kind in "iufcmM"


def _check_shape(shape: Any) -> None:
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError("not a shape")


def _read_dtype(numpy: Any, described: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    if type(described) is str:
        if described[1] not in "biufcmMSUV":
            raise ValueError("not a simple dtype")
        return numpy.dtype(described)
    kind, *rest = described
    if kind == "c":
        if type(rest[0]) is not str or len(rest[0]) != 2:
            raise ValueError("not a simple dtype")
        return numpy.dtype(rest[0])
    if kind == "a":
        _check_shape(rest[1])
        return numpy.dtype((_read_dtype(numpy, rest[0], depth + 1), tuple(rest[1])))
    itemsize, is_aligned, fields = rest
    dtype = numpy.dtype(
        {
            "names": [name for name, *_ in fields],
            "offsets": [offset for _, offset, *_ in fields],
            "titles": [title for _, _, title, _ in fields],
            "formats": [_read_dtype(numpy, field, depth + 1) for *_, field in fields],
            "itemsize": itemsize,
        },
        align=is_aligned,
    )
    return numpy.dtype((numpy.record, dtype)) if kind == "r" else dtype

"""Columns of a result, and the payloads of its rows.

A column is a numpy array, whose values have a fixed width, or a list of objects. A payload is the
row's bytes in each array, followed by its objects, if any.
"""

from __future__ import annotations

import contextlib
import math
import types
from collections.abc import Sequence
from typing import Any

import msgpack

from model_cache.entries.refusals import RowsRefusedError
from model_cache.entries.values import Classes, dumps
from model_cache.entries.values.arrays import LARGEST_EMPTY, check
from model_cache.entries.values.libraries import loaded
from model_cache.keys.canonical.arrays import loaded_numpy
from model_cache.keys.tables.cells import lines, numbers

_MOST_AXES = 16
_SHARING = "qQ"
_PLAIN = frozenset({str, bytes, int, float, bool, types.NoneType})


def specifications(columns: Sequence[Any]) -> list[Any]:
    """Return how to read each column: None for objects, else the dtype and the shape of a row."""
    return [None if isinstance(column, list) else _specification(column) for column in columns]


def _specification(array: Any) -> Any:
    dtype = array.dtype
    if not _is_fixed(dtype) or dtype.metadata is not None:
        raise RowsRefusedError(f"an array of dtype {dtype} can't be stored row by row")
    name, shape = _name(dtype), array.shape[1:]
    return [name, *shape] if shape else name


def _name(dtype: Any) -> str:
    """Return a dtype's name: numpy's, which int64 shares with longlong, as ONNX Runtime has it."""
    name: str = dtype.str
    return f"{name[0]}{dtype.char}" if dtype.char in _SHARING and not _is_named(dtype) else name


def _is_named(dtype: Any) -> bool:
    """Return whether numpy's name of a dtype leads to it."""
    return loaded("numpy").dtype(dtype.str).type is dtype.type


def _is_fixed(dtype: Any) -> bool:
    numpy = loaded("numpy")
    return (
        dtype.kind in "biufcmMSU"
        and dtype.itemsize > 0
        and dtype.type not in (numpy.longdouble, numpy.clongdouble)  # depend on the machine
        and (dtype.char in _SHARING or _is_named(dtype))
    )


def payloads_of(columns: Sequence[Any], count: int, classes: Classes) -> list[bytes]:
    """Return the payload of each row."""
    arrays = [column for column in columns if not isinstance(column, list)]
    lists = [column for column in columns if isinstance(column, list)]
    heads: list[bytes] = []
    if arrays:
        numpy = loaded_numpy()
        heads = lines(numpy, [each for array in arrays for each in numbers(numpy, array)], count)
    if not lists:
        return heads or [b""] * count
    objects = lists[0] if len(lists) == 1 else map(list, zip(*lists, strict=True))
    tails = _dumped(list(objects), classes)
    return [head + tail for head, tail in zip(heads, tails, strict=True)] if arrays else tails


def _dumped(values: Sequence[Any], classes: Classes) -> list[bytes]:
    """Return each value as bytes; with one packer where all are plain MessagePack."""
    if set(map(type, values)) <= _PLAIN:
        pack = msgpack.Packer(unicode_errors="surrogatepass").pack
        with contextlib.suppress(OverflowError):  # an int of more than 64 bits
            return list(map(pack, values))
    return [dumps(value, classes) for value in values]


def columns_of(specs: Sequence[Any], payloads: Sequence[bytes], classes: Classes) -> list[Any]:
    """Return the columns that payloads contain."""
    arrays = [_read_specification(spec) for spec in specs if spec is not None]
    width = sum(size for _, _, size in arrays)
    count = len(specs) - len(arrays)
    lists = iter(_lists(payloads, width, count, classes)) if count else iter(())
    if count:
        payloads = [payload[:width] for payload in payloads] if width else []
    elif set(map(len, payloads)) - {width}:
        raise ValueError("a payload has another length")
    filled = iter(_arrays(arrays, payloads, width)) if arrays else iter(())
    return [next(lists) if spec is None else next(filled) for spec in specs]


def _lists(payloads: Sequence[bytes], width: int, count: int, classes: Classes) -> list[list[Any]]:
    if payloads and min(map(len, payloads)) < width:
        raise ValueError("a payload is too short")
    tails = [payload[width:] for payload in payloads] if width else payloads
    objects: list[Any] = list(map(classes.loads, tails))
    if count == 1:
        return [objects]
    if any(type(each) is not list or len(each) != count for each in objects):
        raise ValueError("a payload has another number of objects")
    return [[each[place] for each in objects] for place in range(count)]


def _read_specification(spec: Any) -> tuple[Any, tuple[int, ...], int]:
    """Return the dtype, the shape and the size of an array's row."""
    described, *shape = spec if type(spec) is list else [spec]
    if type(described) is not str or len(described) > 32 or len(shape) > _MOST_AXES:
        raise ValueError("not a dtype and a shape")
    dtype = loaded("numpy").dtype(described)
    if _name(dtype) != described or not _is_fixed(dtype):
        raise ValueError("not a dtype of this form")
    if any(type(size) is not int or size < 0 for size in shape):
        raise ValueError("not a shape")
    return dtype, tuple(shape), math.prod(shape) * dtype.itemsize


def _arrays(
    specs: Sequence[tuple[Any, tuple[int, ...], int]], rows: Sequence[bytes], width: int
) -> list[Any]:
    """Return new, writable arrays from the bytes of their rows."""
    numpy = loaded("numpy")
    matrix = numpy.frombuffer(b"".join(rows), "u1").reshape(len(rows), width)
    arrays, start = [], 0
    for dtype, shape, size in specs:
        if not (size and rows) and dtype.itemsize > LARGEST_EMPTY:
            raise ValueError("no values of a large size")
        array = numpy.empty((len(rows), *shape), dtype)
        if size and rows:
            array.reshape(-1).view("u1").reshape(len(rows), size)[...] = matrix[
                :, start : start + size
            ]
            check(numpy, array.reshape(-1))
        arrays.append(array)
        start += size
    return arrays

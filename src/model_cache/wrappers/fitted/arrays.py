"""The parts of numpy's arrays and of pandas' frames: their values, however they lie in memory.

This module imports neither; a process that has their values has already imported them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from model_cache.keys.canonical.arrays import loaded_numpy, padding_of
from model_cache.keys.canonical.identities import text
from model_cache.wrappers.fitted.parts import Child, Parts, UnstableError, attributes, named

_CHUNK = 1 << 16
"""How many values to copy at a time from an array that is not contiguous."""


def array_parts(value: Any) -> Parts | None:
    """Return the parts of an array or frame; None for anything else."""
    numpy, pandas = loaded_numpy(), sys.modules.get("pandas")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return _ndarray(numpy, value)
    if pandas is None or not hasattr(pandas, "api"):  # still being imported
        return None
    if isinstance(value, (pandas.DataFrame, pandas.Series)):
        return _frame(pandas, value)
    if isinstance(value, pandas.Index) and not isinstance(value, pandas.RangeIndex):
        return _index(pandas, value)
    if isinstance(value, pandas.api.extensions.ExtensionArray):
        return _extension_array(pandas, value)
    return None


def holds_only_numbers(value: Any) -> bool:
    """Return whether a value is an array without Python objects, hence no part of a cycle."""
    numpy = loaded_numpy()
    return numpy is not None and isinstance(value, numpy.ndarray) and not value.dtype.hasobject


def _ndarray(numpy: Any, array: Any) -> Parts:
    cls = type(array)
    is_plain = cls is numpy.ndarray or cls is numpy.memmap  # joblib.load(..., mmap_mode="r")
    yield b"array:"
    yield named(numpy.ndarray if is_plain else cls)
    yield from _dtype(array.dtype)
    yield text(str(array.shape))
    yield from _values(numpy, numpy.ndarray.view(array, numpy.ndarray))
    if isinstance(array, numpy.ma.MaskedArray):  # the rest says who owns the mask
        yield Child(numpy.ma.getmask(array), "mask")
        yield Child(array.fill_value, "fill_value")
    elif not is_plain:
        yield from attributes(dict(getattr(array, "__dict__", {})))


def _dtype(dtype: Any) -> Parts:
    """Yield the parts of a dtype. Neither padding nor offsets count."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        yield text(str(shape))
        yield from _dtype(base)
    elif dtype.kind == "T":
        yield text(str(dtype))
    elif dtype.names is not None:
        yield b"%x(" % len(dtype.names)
        for name in dtype.names:
            yield text(name)
            yield from _dtype(dtype.fields[name][0])
    else:
        if dtype.type.__module__ != "numpy":  # bfloat16
            yield named(dtype.type)
        # Neither the C type nor the order of bytes: pickle changes both to the usual ones.
        yield text(dtype.newbyteorder("<").str)


def _values(numpy: Any, array: Any) -> Parts:
    dtype = array.dtype
    if dtype.names is not None:
        # Field by field: the bytes between them are whatever the memory held before.
        for name in dtype.names:
            yield from _values(numpy, array[name])
    elif dtype.kind == "O":
        for place, item in enumerate(array.flat):
            yield Child(item, place, is_item=True)
    elif dtype.kind == "T":  # pointers to strings
        yield from _values(numpy, array.astype(object))
    elif dtype.hasobject:
        raise UnstableError(f"its dtype is {dtype}")
    elif dtype.kind in "fc" and (unused := padding_of(numpy, dtype)):
        yield from _long_doubles(numpy, array, unused)
    else:
        for chunk in _chunks(numpy, array):
            yield memoryview(chunk.view("u1")) if chunk.size and dtype.itemsize else b""


def _chunks(numpy: Any, array: Any) -> Iterator[Any]:
    """Yield the values in C order as contiguous little-endian arrays of one dimension."""
    dtype = array.dtype.newbyteorder("<")
    if array.flags.c_contiguous and array.dtype == dtype:
        yield array.reshape(-1)
        return
    yield from numpy.nditer(
        array,
        flags=["external_loop", "buffered", "zerosize_ok"],
        op_flags=[["readonly", "contig"]],
        op_dtypes=[dtype],
        casting="equiv",
        order="C",
        buffersize=_CHUNK,
    )


def _long_doubles(numpy: Any, array: Any, unused: int) -> Parts:
    size = numpy.dtype(numpy.longdouble).itemsize
    for chunk in _chunks(numpy, array):
        yield chunk.view("u1").reshape(-1, size)[:, : size - unused].tobytes()


def _frame(pandas: Any, frame: Any) -> Parts:
    """Yield the parts of a frame or series: not its blocks, which reading may rearrange."""
    yield b"frame:"
    yield named(type(frame))
    yield Child(frame.index, "index")
    if isinstance(frame, pandas.Series):
        yield Child(frame.name, "name")
        yield Child(_column(pandas, frame), "array")
    else:
        yield Child(frame.columns, "columns")
        for place in range(frame.shape[1]):
            yield Child(_column(pandas, frame.iloc[:, place]), place, is_item=True)
    yield Child(dict(frame.attrs), "attrs")


def _index(pandas: Any, index: Any) -> Parts:
    yield b"index:"
    yield named(type(index))
    yield Child(list(index.names), "names")
    if isinstance(index, pandas.MultiIndex):
        yield Child(list(index.levels), "levels")
        yield Child(list(index.codes), "codes")
    else:
        yield Child(_column(pandas, index), "array")


def _column(pandas: Any, column: Any) -> Any:
    is_extension = isinstance(column.dtype, pandas.api.extensions.ExtensionDtype)
    return column.array if is_extension else column.to_numpy()


def _extension_array(pandas: Any, array: Any) -> Parts:
    yield b"extension:"
    yield named(type(array))
    yield text(str(array.dtype))
    if isinstance(array, pandas.Categorical):
        yield Child(array.categories, "categories")
        yield Child(bool(array.ordered), "ordered")
        yield Child(array.codes, "codes")
    else:
        yield Child(array.to_numpy(dtype=object))

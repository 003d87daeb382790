"""A column or an index of pandas as bytes, for each kind of dtype."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from model_cache.errors import NotCacheableError
from model_cache.keys.canonical import INPUTS
from model_cache.keys.canonical.arrays import dtype_form, loaded_numpy
from model_cache.keys.canonical.identities import counted, text
from model_cache.keys.tables.arrow_columns import arrow_vectors
from model_cache.keys.tables.cells import encoded, lines, numbers, objects
from model_cache.keys.tables.numpy_tables import Vectors

# Arrow takes a fraction of a millisecond to begin.
_FEW = 256


def column_vectors(column: Any) -> Vectors:
    """Return the bytes of a Series or an Index."""
    numpy: Any = loaded_numpy()
    dtype = column.dtype
    if isinstance(dtype, numpy.dtype):
        if dtype.kind == "O":
            return Vectors(b"O", [objects(numpy, column.to_numpy().tolist())])
        return Vectors(b"n" + dtype_form(numpy, dtype), numbers(numpy, column.to_numpy()))
    return _reader(column)(numpy, column)


def labels_form(index: Any) -> bytes:
    """Return the canonical bytes of an index of columns, or of categories."""
    head = text(type(index).__name__) + INPUTS.encode(tuple(index.names))
    if index.nlevels > 1:
        levels = map(index.get_level_values, range(index.nlevels))
        return b"L" + head + counted(map(labels_form, levels))
    pandas: Any = sys.modules["pandas"]
    if index.dtype == object or type(index.dtype) is pandas.StringDtype:
        kind = b"O" if index.dtype == object else _string_kind(index.dtype)
        return b"l" + head + kind + counted(encoded(index.tolist()))
    kind, matrices = column_vectors(index)
    return b"l" + head + kind + counted(lines(loaded_numpy(), matrices, len(index)))


def _reader(column: Any) -> Callable[[Any, Any], Vectors]:
    pandas: Any = sys.modules["pandas"]
    cls, arrays = type(column.dtype), pandas.arrays
    readers: dict[Any, Callable[[Any, Any], Vectors]] = {
        pandas.CategoricalDtype: _categories,
        pandas.DatetimeTZDtype: _zoned_moments,
        pandas.StringDtype: _strings,
        pandas.PeriodDtype: _periods,
        pandas.IntervalDtype: _intervals,
        pandas.ArrowDtype: arrow_vectors,
    }
    if cls in readers:
        return readers[cls]
    if type(column.array) in (arrays.IntegerArray, arrays.FloatingArray, arrays.BooleanArray):
        return _nullable
    if cls is pandas.SparseDtype:
        raise NotCacheableError("a sparse column is not cached by row; use .sparse.to_dense()")
    raise NotCacheableError(f"a pandas column of {cls.__name__} is not cached by row")


def _categories(numpy: Any, column: Any) -> Vectors:
    """Return the code of each value. A model may see the categories that don't occur, too."""
    dtype = column.dtype
    kind = b"C%b%b" % (b"T" if dtype.ordered else b"F", labels_form(dtype.categories))
    return Vectors(kind, numbers(numpy, column.array.codes.astype("<i8")))


def _zoned_moments(numpy: Any, column: Any) -> Vectors:
    """Return the moments, and their local times, which depend on the time zone database."""
    dtype = column.dtype
    kind = b"Z%b%b" % (text(dtype.unit), zone_form(dtype.tz))
    moments, local = column.array.tz_convert(None), column.array.tz_localize(None)
    matrices = [numbers(numpy, numpy.asarray(each)) for each in (moments, local)]
    return Vectors(kind, [matrix for each in matrices for matrix in each])


def zone_form(zone: Any) -> bytes:
    """Return the canonical bytes of a time zone; of pytz's zones, which pandas 2 uses, the name."""
    if type(zone).__module__.partition(".")[0] == "pytz":
        return b"o" + text("pytz") + text(str(zone))
    return INPUTS.encode(zone)


def _string_kind(dtype: Any) -> bytes:
    return b"S%b%b" % (text(dtype.storage), text(repr(getattr(dtype, "na_value", None))))


def _strings(numpy: Any, column: Any) -> Vectors:
    dtype = column.dtype
    kind = _string_kind(dtype)
    if dtype.storage == "pyarrow" and len(column) > _FEW:
        return Vectors(kind, arrow_vectors(numpy, column).matrices)
    # Not by factorize(): pandas may end a string at its first zero.
    values = column.array.to_numpy(dtype=object, na_value=None).tolist()
    return Vectors(kind, [objects(numpy, values)])


def _nullable(numpy: Any, column: Any) -> Vectors:
    dtype = column.dtype.numpy_dtype
    missing = numpy.asarray(column.array.isna())
    values = column.array.to_numpy(dtype=dtype, na_value=dtype.type(0))
    return Vectors(
        b"N" + dtype_form(numpy, dtype), [*numbers(numpy, missing), *numbers(numpy, values)]
    )


def _periods(numpy: Any, column: Any) -> Vectors:
    return Vectors(b"P" + text(str(column.dtype)), numbers(numpy, column.array.asi8))


def _intervals(numpy: Any, column: Any) -> Vectors:
    array = column.array
    left, right = column_vectors(array.left), column_vectors(array.right)
    kind = b"V%b%b%b" % (text(array.closed), left.kind, right.kind)
    missing = numbers(numpy, numpy.asarray(array.isna()))
    return Vectors(kind, [*left.matrices, *right.matrices, *missing])

"""polars' Series and DataFrame: column by column, their physical values and what is missing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from model_cache.errors import NotCacheableError
from model_cache.keys.canonical.arrays import loaded_numpy
from model_cache.keys.canonical.identities import text
from model_cache.keys.tables.cells import lines, numbers, objects
from model_cache.keys.tables.numpy_tables import Vectors, side_by_side
from model_cache.keys.tables.table import Table


def polars_series_table(series: Any) -> Table:
    """Return the table of a Series; a row is a value."""
    numpy = _numpy()
    kind, matrices = _vectors(series.name, series)
    return Table(series, text("polars.Series") + kind, lines(numpy, matrices, len(series)), _select)


def polars_frame_table(frame: Any) -> Table:
    """Return the table of a DataFrame."""
    numpy = _numpy()
    columns = ((series.name, series) for series in frame.get_columns())
    kind, matrices = side_by_side(columns, _vectors)
    rows = lines(numpy, matrices, frame.height)
    return Table(frame, text("polars.DataFrame") + kind, rows, _select)


def _numpy() -> Any:
    numpy = loaded_numpy()
    if numpy is None:
        raise NotCacheableError("a table of polars needs numpy; import it")
    return numpy


def _select(whole: Any, places: Sequence[int]) -> Any:
    polars: Any = sys.modules["polars"]
    return whole[polars.Series(list(places), dtype=polars.UInt32)]


def _vectors(name: str, series: Any) -> Vectors:
    numpy, polars = _numpy(), sys.modules["polars"]
    dtype = series.dtype
    kind = text(name) + text(repr(dtype))
    missing = series.is_null()
    matrices = numbers(numpy, missing.to_numpy())
    if dtype == polars.Enum:
        dtype, series = polars.UInt32, series.to_physical()
    if dtype in (polars.String, polars.Binary, polars.Decimal):
        return Vectors(kind, [objects(numpy, series.to_list())])
    if dtype == polars.Boolean:
        return Vectors(kind, [*matrices, *numbers(numpy, series.fill_null(False).to_numpy())])
    if dtype.is_numeric() or dtype.is_temporal():
        plain = series.to_physical().fill_null(0).to_numpy()
        return Vectors(kind, [*matrices, *numbers(numpy, plain)])
    if dtype == polars.Null:
        return Vectors(kind, matrices)
    if dtype.is_nested() and not _has_foreign(polars, dtype):
        return Vectors(kind, [*matrices, objects(numpy, series.to_list())])
    # A Categorical's codes depend on what the process has seen before.
    kind = dtype.base_type()  # without what is in it: an Enum would show its values
    raise NotCacheableError(f"a polars column of {kind} is not cached by row; cast it")


def _has_foreign(polars: Any, dtype: Any) -> bool:
    """Return whether a nested dtype contains something whose Python values don't say it all."""
    if isinstance(dtype, polars.Struct):
        return any(_has_foreign(polars, field.dtype) for field in dtype.fields)
    if isinstance(dtype, polars.List | polars.Array):
        return _has_foreign(polars, dtype.inner)
    if dtype.is_temporal():  # Python's moments lack nanoseconds
        return bool(dtype != polars.Date)
    plain = (polars.String, polars.Binary, polars.Boolean, polars.Null, polars.Enum)
    return not (dtype.is_numeric() or dtype in plain)

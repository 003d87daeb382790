"""pandas' Series and DataFrame: column by column.

Points in time in the index are part of a row, since models of time series look at them; other
labels are not. Whether it is the default index is part of the kind: it decides which index a
function's result may have.
"""

from __future__ import annotations

import datetime as dt
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from model_cache.keys.canonical import INPUTS
from model_cache.keys.canonical.arrays import dtype_form, loaded_numpy
from model_cache.keys.canonical.identities import counted, text
from model_cache.keys.tables.cells import lines, numbers
from model_cache.keys.tables.numpy_tables import Vectors, side_by_side
from model_cache.keys.tables.pandas_columns import column_vectors, labels_form
from model_cache.keys.tables.table import Table


def series_table(series: Any) -> Table:
    """Return the table of a Series; a row is a value."""
    column = column_vectors(series)
    kind = INPUTS.encode(series.name) + column.kind
    return _table(series, text("pandas.Series") + kind, column.matrices)


def frame_table(frame: Any) -> Table:
    """Return the table of a DataFrame."""
    columns = _columns(frame)
    kind = text("pandas.DataFrame") + labels_form(frame.columns) + columns.kind
    return _table(frame, kind, columns.matrices)


def _table(whole: Any, kind: bytes, matrices: list[Any]) -> Table:
    is_default = is_default_index(whole.index)
    kind += b"R" if is_default else b"I"
    kind += INPUTS.encode(whole.attrs) + (b"T" if whole.flags.allows_duplicate_labels else b"F")
    times = {place: column_vectors(level) for place, level in _times_of(whole.index).items()}
    if times:
        kind += counted(each.kind for each in times.values())
        matrices = [*matrices, *(matrix for each in times.values() for matrix in each.matrices)]
        names = tuple(whole.index.names)
        if names != (None,):  # a model finds the level by its name, or by its place
            kind += INPUTS.encode((names, tuple(times)))
    rows = lines(loaded_numpy(), matrices, len(whole))
    return Table(whole, kind, rows, _select, whole.index, is_default)


def _times_of(index: Any) -> dict[int, Any]:
    """Return the levels of an index that are points in time, periods or durations, as Series."""
    pandas: Any = sys.modules["pandas"]
    levels = {number: index.get_level_values(number) for number in range(index.nlevels)}
    return {
        number: pandas.Series(level.array)
        for number, level in levels.items()
        if _are_times(pandas, level)
    }


def _are_times(pandas: Any, labels: Any) -> bool:
    if isinstance(labels, (pandas.DatetimeIndex, pandas.PeriodIndex, pandas.TimedeltaIndex)):
        return True
    if isinstance(labels, pandas.CategoricalIndex):
        return _are_times(pandas, labels.categories)
    if isinstance(labels, pandas.IntervalIndex):
        return _are_times(pandas, labels.left)
    if isinstance(labels.dtype, pandas.ArrowDtype):
        types = importlib.import_module("pyarrow.types")  # loaded: it made the labels
        return bool(types.is_temporal(labels.dtype.pyarrow_dtype))
    if labels.dtype != object:
        return False
    numpy: Any = loaded_numpy()
    times = (dt.date, dt.time, dt.timedelta, numpy.datetime64, pandas.Period)
    return any(issubclass(cls, times) for cls in set(map(type, labels)))


def is_default_index(index: Any) -> bool:
    """Return whether an index counts the rows from 0."""
    pandas: Any = sys.modules["pandas"]
    return (
        type(index) is pandas.RangeIndex
        and index.name is None
        and bool(index.equals(pandas.RangeIndex(len(index))))
    )


def _select(whole: Any, places: Sequence[int]) -> Any:
    taken = whole.take(places)
    # Some rows of another RangeIndex may look like the default index, and so would a result's.
    if is_default_index(taken.index) and not is_default_index(whole.index):
        pandas: Any = sys.modules["pandas"]
        taken.index = pandas.Index(taken.index.to_numpy())
    return taken


def _columns(frame: Any) -> Vectors:
    numpy: Any = loaded_numpy()
    dtypes = frame.dtypes.tolist()
    if len(set(dtypes)) == 1 and isinstance(dtypes[0], numpy.dtype) and dtypes[0].kind in "biufc":
        # Its columns may be one array, whose order a model sees. Most frames have them in turn.
        values = frame.to_numpy()
        is_by_row = values.flags.c_contiguous and not values.flags.f_contiguous
        kind = counted(b"n" + dtype_form(numpy, dtype) for dtype in dtypes)
        return Vectors(kind + (b"C" if is_by_row else b"F"), numbers(numpy, values))
    columns = ((name, frame.iloc[:, place]) for place, name in enumerate(frame.columns))
    kind, matrices = side_by_side(columns, lambda _, column: column_vectors(column))
    return Vectors(kind + b"F", matrices)

"""The names of pandas' columns and its categories, and its time zones, as plain values."""

from __future__ import annotations

from typing import Any

from model_cache.entries.rows.columns import loaded
from model_cache.entries.rows.refusals import RowsRefusedError

_PLAIN = (str, int, float, bool, type(None))


def label(name: Any) -> Any:
    """Return the name of a Series or an index as a plain value; a tuple as a list."""
    if type(name) in _PLAIN:
        return name
    if type(name) is tuple:
        return [label(each) for each in name]
    raise RowsRefusedError(f"a label of type {type(name).__name__} can't be stored row by row")


def read_label(form: Any) -> Any:
    """Return the name in a form."""
    return tuple(map(read_label, form)) if type(form) is list else form


def labels(index: Any) -> Any:
    """Return an index of columns or categories as plain values."""
    pandas = loaded("pandas")
    if type(index) is pandas.RangeIndex:
        form = ["r", index.start, index.stop, index.step, label(index.name)]
    elif type(index) is pandas.Index:
        form = ["i", str(index.dtype), label(index.name), [label(each) for each in index.tolist()]]
    elif type(index) is pandas.MultiIndex:
        form = ["m", label(tuple(index.names)), [label(each) for each in index.tolist()]]
    else:
        raise RowsRefusedError(f"columns in a {type(index).__name__} can't be stored row by row")
    if not same_index(read_labels(form), index):
        raise RowsRefusedError(f"columns of dtype {index.dtype} can't be stored row by row")
    return form


def read_labels(form: Any) -> Any:
    """Return the index in a form."""
    pandas, numpy = loaded("pandas"), loaded("numpy")
    kind, *details = form
    if kind == "r":
        start, stop, step, name = details
        return pandas.RangeIndex(start, stop, step, name=read_label(name))
    if kind == "m":
        names, values = details
        return pandas.MultiIndex.from_tuples(list(map(read_label, values)), names=read_label(names))
    if kind != "i":
        raise ValueError("not an index")
    dtype, name, values = details
    found = list(map(read_label, values))
    array = numpy.fromiter(found, object, len(found))
    return pandas.Index(array, dtype=dtype, name=read_label(name), tupleize_cols=False)


def same_index(one: Any, other: Any) -> bool:
    """Return whether two indexes are alike: in type, dtype, names and labels."""
    if one is other:
        return True
    if type(one) is not type(other) or not one.identical(other):
        return False
    if one.nlevels > 1:
        places = range(one.nlevels)
        return all(
            same_index(one.get_level_values(at), other.get_level_values(at)) for at in places
        )
    if one.dtype != other.dtype:
        return False
    if one.dtype.kind != "O":
        return True
    return list(map(type, one.tolist())) == list(map(type, other.tolist()))


def has_known_zone(dtype: Any) -> bool:
    """Return whether a dtype with a time zone can be restored from its name."""
    again = loaded("pandas").api.types.pandas_dtype(str(dtype))
    return again == dtype and type(again.tz) is type(dtype.tz) and str(again.tz) == str(dtype.tz)


def zoned(moments: Any, described: str) -> Any:
    """Return moments in UTC as an array of a dtype with a time zone."""
    pandas = loaded("pandas")
    dtype = pandas.api.types.pandas_dtype(described)
    if type(dtype) is not pandas.DatetimeTZDtype or moments.dtype != f"<M8[{dtype.unit}]":
        raise ValueError("not moments of this dtype")
    return pandas.DatetimeIndex(moments).tz_localize("UTC").tz_convert(dtype.tz).array

"""pandas' labels, which the rows share: names, columns, categories and time zones."""

from __future__ import annotations

from typing import Any

from model_cache.entries.refusals import RowsRefusedError
from model_cache.entries.values import Classes, dumps
from model_cache.entries.values.libraries import loaded
from model_cache.interruptions import reraise_interruption
from model_cache.keys.canonical import PREDICTIONS

_NO_CLASSES = Classes()


def packed(labels: Any) -> Any:
    """Return a name, an index or an array in a form; a plain name as it is."""
    if type(labels) in (str, type(None)):
        return labels
    try:
        data = dumps(labels)
        is_same = PREDICTIONS.encode(_NO_CLASSES.loads(data)) == PREDICTIONS.encode(labels)
    except Exception as error:
        reraise_interruption(error)
        is_same = False
    if not is_same:
        kind = type(labels).__name__
        raise RowsRefusedError(f"labels in a {kind} like these can't be stored row by row")
    return data


def unpacked(form: Any) -> Any:
    """Return the name, the index or the array in a form."""
    return _NO_CLASSES.loads(form) if type(form) is bytes else form


def index_of(form: Any) -> Any:
    """Return the index in a form."""
    index = unpacked(form)
    if not isinstance(index, loaded("pandas").Index):
        raise TypeError("not an index")
    return index


def same_index(one: Any, other: Any) -> bool:
    """Return whether two indexes are alike: in type, dtype, names and labels."""
    if one is other:
        return True
    if type(one) is not type(other) or not one.identical(other):
        return False
    if one.nlevels > 1:
        levels = range(one.nlevels)
        get, get_other = one.get_level_values, other.get_level_values
        return all(same_index(get(level), get_other(level)) for level in levels)
    if one.dtype != other.dtype:
        return False
    # A label 1 equals a label True.
    return one.dtype != object or [*map(type, one.tolist())] == [*map(type, other.tolist())]


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

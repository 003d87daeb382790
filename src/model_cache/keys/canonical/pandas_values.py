"""pandas values as simpler ones: what an index, a column or a frame is made of.

Columns are numpy arrays as far as pandas has them as such: no Python object is made for a cell,
except in columns of strings and objects.
"""

from __future__ import annotations

import datetime as dt
import functools
import sys
import zoneinfo
from collections.abc import Callable
from typing import Any, TypeAlias

import pydantic_core

from model_cache.errors import NotCacheableError
from model_cache.keys.canonical.arrays import loaded_numpy
from model_cache.keys.canonical.foreign import Reduction

Parts: TypeAlias = Callable[[Any], tuple[Any, ...]]

# Their names and offsets follow from their canonical forms.
_USUAL_ZONES = (type(None), dt.timezone, pydantic_core.TzInfo)


@functools.lru_cache(256)
def pandas_reduction(pandas: Any, cls: type) -> Reduction | None:
    """Return how the instances of one of pandas' classes reduce to simpler values."""
    name = cls.__name__
    if cls is type(pandas.NaT) or cls is type(pandas.NA):
        return Reduction(f"pandas.{name}", lambda _: ())
    for space, table in ((pandas, _VALUES), (pandas.arrays, _ARRAYS)):
        if name in table and getattr(space, name, None) is cls:
            return Reduction(f"pandas.{name}", table[name], _SEEN.get(name))
    return None


def _timestamp(value: Any) -> tuple[Any, ...]:
    return int(value.asm8.view("i8")), value.unit, value.fold, value.tzinfo


def _offset(value: Any) -> Any:
    zone = type(value.tzinfo)
    if zone in _USUAL_ZONES:
        return None
    if zone is zoneinfo.ZoneInfo:
        return value.utcoffset()
    return value.utcoffset(), value.dst(), value.tzname()


def _timedelta(value: Any) -> tuple[Any, ...]:
    return int(value.asm8.view("i8")), value.unit


def _values(value: Any) -> Any:
    """Return the array of an index or a series: numpy's own where that is all there is to it."""
    return value.to_numpy() if isinstance(value.dtype, loaded_numpy().dtype) else value.array


def _index(value: Any) -> tuple[Any, ...]:
    return _values(value), value.name


def _moments_index(value: Any) -> tuple[Any, ...]:
    array = value.to_numpy() if getattr(value, "tz", None) is None else value.array
    return array, _freq(value), value.name


def _multi_index(value: Any) -> tuple[Any, ...]:
    return list(value.levels), list(value.codes), list(value.names)


def _series(value: Any) -> tuple[Any, ...]:
    return _values(value), value.index, value.name, *_labels(value)


def _labels(value: Any) -> tuple[Any, ...]:
    return dict(value.attrs) or None, value.flags.allows_duplicate_labels


def _frame(value: Any) -> tuple[Any, ...]:
    numpy = loaded_numpy()
    kinds = set(value.dtypes)
    dtype = kinds.pop() if len(kinds) == 1 else None
    if isinstance(dtype, numpy.dtype) and dtype.kind in "biufc":  # one array for all
        return value.columns, value.index, value.to_numpy(), *_labels(value)
    columns = [_values(column) for _, column in value.items()]
    return value.columns, value.index, columns, *_labels(value)


def _moments(value: Any) -> tuple[Any, ...]:
    return _in_utc(value), value.tz, _freq(value)


def _freq(value: Any) -> Any:
    freq = getattr(value, "freq", None)  # only indexes have one since pandas 3
    if freq is None:
        return None
    name = freq.freqstr
    try:
        again = sys.modules["pandas"].tseries.frequencies.to_offset(name)
    except ValueError:
        again = None
    if type(again) is not type(freq) or again != freq:  # holidays, for example
        raise NotCacheableError(f"a frequency that {name!r} describes only in part")
    return name


def _in_utc(value: Any) -> Any:
    return value.to_numpy(f"M8[{value.unit}]")


def _local(value: Any) -> Any:
    """Return the local times, which depend on the process's time zone database."""
    return None if type(value.tz) in _USUAL_ZONES else _in_utc(value.tz_localize(None))


def _differences(value: Any) -> tuple[Any, ...]:
    return value.to_numpy(), _freq(value)


def _masked(value: Any) -> tuple[Any, ...]:
    return value.to_numpy(dtype=value.dtype.numpy_dtype, na_value=0), value.isna()


def _strings(value: Any) -> tuple[Any, ...]:
    missing = value.dtype.na_value
    is_nan = type(missing) is float
    return value.dtype.storage, is_nan, value.to_numpy(object, na_value=None)


def _arrow(value: Any) -> tuple[Any, ...]:
    name = str(value.dtype.pyarrow_dtype)
    # Python's times have no nanoseconds.
    is_nested = any(sign in name for sign in "<({") and not name.startswith("decimal")
    if is_nested or name.startswith(("time64[ns", "month_day")):
        raise NotCacheableError(f"an Arrow array of {name} has no canonical form")
    return name, value.to_numpy(object, na_value=None)


_VALUES: dict[str, Parts] = {
    "Timestamp": _timestamp,
    "Timedelta": _timedelta,
    "Period": lambda value: (value.ordinal, value.freqstr),
    "Interval": lambda value: (value.left, value.right, value.closed),
    "RangeIndex": lambda value: (value.start, value.stop, value.step, value.name),
    **dict.fromkeys(("Index", "PeriodIndex", "IntervalIndex", "CategoricalIndex"), _index),
    **dict.fromkeys(("DatetimeIndex", "TimedeltaIndex"), _moments_index),
    "MultiIndex": _multi_index,
    "Series": _series,
    "DataFrame": _frame,
    "Categorical": lambda value: (value.codes, value.categories, bool(value.ordered)),
}

_ARRAYS: dict[str, Parts] = {
    "DatetimeArray": _moments,
    "TimedeltaArray": _differences,
    "PeriodArray": lambda value: (value.asi8, value.freqstr),
    "IntervalArray": lambda value: (value.left, value.right, value.closed),
    **dict.fromkeys(("IntegerArray", "FloatingArray", "BooleanArray"), _masked),
    **dict.fromkeys(("StringArray", "ArrowStringArray"), _strings),
    "ArrowExtensionArray": _arrow,
    "NumpyExtensionArray": lambda value: (value.to_numpy(),),
}

_SEEN: dict[str, Callable[[Any], Any]] = {"Timestamp": _offset, "DatetimeArray": _local}

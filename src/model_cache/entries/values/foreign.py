"""Build values of numpy.ma, pandas and polars from the parts to which `reduction` reduces them.

Each library is used only where the process has imported it; else an entry with its values is a
miss.
"""

from __future__ import annotations

import datetime as dt
import re
import sys
from collections.abc import Callable
from typing import Any

from model_cache.entries.values.libraries import loaded
from model_cache.keys.canonical.arrays import loaded_numpy

# A range of labels takes no room in the data, but some in memory.
_LARGEST = 2**24
_DECIMAL = re.compile(r"(decimal\d+)\((\d{1,3}), (-?\d{1,3})\)")


def rebuilt(parts: list[Any]) -> Any:
    """Return the value that has these parts, the first of which is its name."""
    name, *rest = parts
    library, _, kind = name.partition(".")
    if library not in ("numpy", "pandas", "polars"):
        raise ValueError("not the name of a library")
    module = loaded(library)
    build = _BUILD[library][kind]
    if library != "polars":
        return build(module, *rest)
    try:
        return build(module, *rest)
    except module.exceptions.PanicException as error:  # not an Exception
        raise ValueError("polars can't build it") from error


def _masked_array(numpy: Any, data: Any, mask: Any, fill: Any, hard: bool) -> Any:
    mask = numpy.ma.nomask if mask is None else mask
    made = numpy.ma.MaskedArray(data, mask=mask, fill_value=fill[()], hard_mask=hard)
    if made.dtype != data.dtype or made.shape != data.shape:
        raise ValueError("another dtype or shape")
    return made


def _moment(numpy: Any, value: Any, unit: Any) -> Any:
    if unit not in ("s", "ms", "us", "ns"):
        raise ValueError("not a unit of pandas")
    return numpy.int64(value).view(f"M8[{unit}]")


def _timestamp(pandas: Any, value: int, unit: str, fold: int, zone: Any) -> Any:
    made = pandas.Timestamp(_moment(loaded_numpy(), value, unit))
    made = _in_zone(made, zone)
    return made if made.fold == fold else made.replace(fold=fold)


def _in_zone(made: Any, zone: Any) -> Any:
    if zone is None:
        return made
    if not isinstance(zone, dt.tzinfo):  # a name would have it looked up
        raise TypeError("not a time zone")
    return made.tz_localize("UTC").tz_convert(zone)


def _timedelta(pandas: Any, value: int, unit: str) -> Any:
    difference = _moment(loaded_numpy(), value, unit) - loaded_numpy().datetime64(0, unit)
    return pandas.Timedelta(difference)


def _index(kind: str) -> Callable[..., Any]:
    return lambda pandas, values, name: getattr(pandas, kind)(values, dtype=values.dtype, name=name)


def _moments_index(kind: str) -> Callable[..., Any]:
    return lambda pandas, values, freq, name: getattr(pandas, kind)(values, freq=freq, name=name)


def _range_index(pandas: Any, start: int, stop: int, step: int, name: Any) -> Any:
    if len(range(start, stop, step)) > _LARGEST:
        raise ValueError("too many labels")
    return pandas.RangeIndex(start, stop, step, name=name)


def _multi_index(pandas: Any, levels: Any, codes: Any, names: Any) -> Any:
    return pandas.MultiIndex(levels=levels, codes=codes, names=names, verify_integrity=True)


def _series(pandas: Any, values: Any, index: Any, name: Any, *labels: Any) -> Any:
    _check_length(values, index)
    made = pandas.Series(values, index=index, name=name, dtype=values.dtype, copy=False)
    return _labelled(made, *labels)


def _check_length(values: Any, labels: Any) -> None:
    if len(values) != len(labels):  # a single value would be repeated for each label
        raise ValueError("another number of labels")


def _labelled(made: Any, attrs: Any, allows_duplicates: Any) -> Any:
    if attrs:
        made.attrs.update(attrs)
    if allows_duplicates is False:
        made = made.set_flags(allows_duplicate_labels=False)
    return made


def _frame(pandas: Any, columns: Any, index: Any, values: Any, *labels: Any) -> Any:
    if type(values) is not list:
        _check_length(values, index)
        _check_length(values.T, columns)
        made = pandas.DataFrame(values, index=index, columns=columns, copy=False)
    elif len(values) != len(columns):
        raise ValueError("another number of columns")
    else:
        for column in values:
            _check_length(column, index)
        filled = {
            place: pandas.Series(column, index=index, dtype=column.dtype, copy=False)
            for place, column in enumerate(values)
        }
        made = pandas.DataFrame(filled, index=index, copy=False)
        made.columns = columns
    return _labelled(made, *labels)


def _categorical(pandas: Any, codes: Any, categories: Any, ordered: Any) -> Any:
    return pandas.Categorical.from_codes(codes, categories=categories, ordered=ordered)


def _moments(pandas: Any, values: Any, zone: Any, freq: Any) -> Any:
    made = pandas.DatetimeIndex(values)
    made = _in_zone(made, zone)
    return (pandas.DatetimeIndex(made, freq=freq) if freq is not None else made).array


def _strings(pandas: Any, storage: str, is_nan: bool, values: Any) -> Any:
    # Before pandas 2.3, only the storage says what is missing.
    missing = {"na_value": float("nan")} if is_nan else {}
    return pandas.array(values, dtype=pandas.StringDtype(storage, **missing))


def _arrow(pandas: Any, name: str, values: Any) -> Any:
    arrow = sys.modules["pyarrow"]
    if name in ("string", "large_string", "binary", "large_binary"):
        dtype = pandas.ArrowDtype(getattr(arrow, name)())
    elif found := _DECIMAL.fullmatch(name):
        dtype = pandas.ArrowDtype(getattr(arrow, found[1])(int(found[2]), int(found[3])))
    else:
        dtype = pandas.ArrowDtype.construct_from_string(f"{name}[pyarrow]")
    return pandas.array(values, dtype=dtype)


def _masked(kind: str) -> Callable[..., Any]:
    return lambda pandas, values, mask: getattr(pandas.arrays, kind)(values, mask)


_PANDAS: dict[str, Callable[..., Any]] = {
    "NaTType": lambda pandas: pandas.NaT,
    "NAType": lambda pandas: pandas.NA,
    "Timestamp": _timestamp,
    "Timedelta": _timedelta,
    "Period": lambda pandas, ordinal, freq: pandas.Period(ordinal=ordinal, freq=freq),
    "Interval": lambda pandas, *parts: pandas.Interval(*parts),
    "RangeIndex": _range_index,
    **{
        kind: _index(kind) for kind in ("Index", "PeriodIndex", "IntervalIndex", "CategoricalIndex")
    },
    **{kind: _moments_index(kind) for kind in ("DatetimeIndex", "TimedeltaIndex")},
    "MultiIndex": _multi_index,
    "Series": _series,
    "DataFrame": _frame,
    "Categorical": _categorical,
    "DatetimeArray": _moments,
    "TimedeltaArray": lambda pandas, values, freq: pandas.TimedeltaIndex(values, freq=freq).array,
    "PeriodArray": lambda pandas, ordinals, freq: (
        pandas.PeriodIndex.from_ordinals(ordinals, freq=freq).array
    ),
    "IntervalArray": lambda pandas, *parts: pandas.arrays.IntervalArray.from_arrays(*parts),
    **{kind: _masked(kind) for kind in ("IntegerArray", "FloatingArray", "BooleanArray")},
    **dict.fromkeys(("StringArray", "ArrowStringArray"), _strings),
    "ArrowExtensionArray": _arrow,
    "NumpyExtensionArray": lambda pandas, values: pandas.arrays.NumpyExtensionArray(values),
}


def _polars_dtype(polars: Any, described: Any) -> Any:
    """Return a simple dtype; nested ones and categories are not stored."""
    kind, unit, zone, precision, scale, *rest = described
    if kind == "Enum":
        return polars.Enum(rest[-1])
    if kind in ("Datetime", "Duration"):
        return getattr(polars, kind)(*((unit, zone) if kind == "Datetime" else (unit,)))
    if kind == "Decimal":
        return polars.Decimal(precision, scale)
    if kind not in _POLARS_DTYPES:
        raise ValueError("not a simple dtype")
    return getattr(polars, kind)


_POLARS_DTYPES = {f"{kind}{size}" for kind in ("Int", "UInt") for size in (8, 16, 32, 64)} | {
    *("Float32", "Float64", "Boolean", "String", "Binary", "Null", "Date", "Time"),
}


def _polars_series(polars: Any, name: str, described: Any, nulls: Any, values: Any) -> Any:
    dtype = _polars_dtype(polars, described)
    if type(values) is list:
        return polars.Series(name, values, dtype=dtype)
    made = polars.Series(name, values)
    if nulls is not None:
        made = made.set(polars.Series(nulls), None)
    return made.cast(dtype)


def _polars_frame(polars: Any, height: int, columns: Any) -> Any:
    if not all(type(column) is polars.Series for column in columns):
        raise TypeError("not columns")
    made = polars.DataFrame(columns)
    if made.height != height:
        raise ValueError("another height")
    return made


_BUILD: dict[str, dict[str, Callable[..., Any]]] = {
    "numpy": {"ma.masked": lambda numpy: numpy.ma.masked, "ma.MaskedArray": _masked_array},
    "pandas": _PANDAS,
    "polars": {"Series": _polars_series, "DataFrame": _polars_frame},
}

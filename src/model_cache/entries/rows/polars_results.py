"""A result that is a Series or a DataFrame of polars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from model_cache.entries.refusals import RowsRefusedError
from model_cache.entries.values.libraries import loaded

_NUMBERS = {f"{sign}{width}" for sign in ("Int", "UInt") for width in (8, 16, 32, 64)}
_NUMBERS |= {"Float32", "Float64", "Boolean"}
_MOMENTS = {"Date": "Int32", "Time": "Int64", "Datetime": "Int64", "Duration": "Int64"}
_OBJECTS = {"String", "Binary", "Null"}


def apart(result: Any) -> tuple[Any, list[Any]]:
    """Return the form and the columns of a Series or a DataFrame."""
    if type(result) is loaded("polars").Series:
        form, columns = _column(result)
        return ["p", result.name, form], columns
    names = result.columns
    each = [_column(series) for series in result.get_columns()]
    columns = [column for _, own in each for column in own]
    return ["q", names, [form for form, _ in each]], columns


def _column(series: Any) -> tuple[Any, list[Any]]:
    form = _dtype_form(series.dtype)
    name = form if type(form) is str else form[0]
    if name in _OBJECTS or name in ("Enum", "List", "Array"):
        return form, [series.to_list()]
    missing = series.is_null().to_numpy()
    nothing = False if name == "Boolean" else 0
    return form, [series.to_physical().fill_null(nothing).to_numpy(), missing]


def _dtype_form(dtype: Any, is_inside: bool = False) -> Any:
    """Return a dtype as plain values."""
    polars, name = loaded("polars"), type(dtype).__name__
    if name in _NUMBERS or name in _OBJECTS:
        return name
    if not is_inside and name in ("Date", "Time"):
        return name
    if not is_inside and name == "Datetime":
        return [name, dtype.time_unit, dtype.time_zone]
    if not is_inside and name == "Duration":
        return [name, dtype.time_unit]
    if not is_inside and name == "Enum":
        return [name, dtype.categories.to_list()]
    if name == "List":
        return [name, _dtype_form(dtype.inner, True)]
    if name == "Array" and not isinstance(dtype.inner, polars.Array):
        return [name, _dtype_form(dtype.inner, True), dtype.size]
    raise RowsRefusedError(f"a polars column of {dtype!r} can't be stored row by row")


def _dtype(form: Any) -> Any:
    polars = loaded("polars")
    name, *details = form if type(form) is list else [form]
    if name in ("List", "Array"):
        details[0] = _dtype(details[0])
    elif name not in _NUMBERS | _OBJECTS | _MOMENTS.keys() | {"Enum"}:
        raise ValueError("not a dtype")
    cls = getattr(polars, name)
    return cls(*details)


def together(kind: str, details: Sequence[Any], columns: Iterator[Any]) -> Any:
    """Return the Series or the DataFrame with that form and those columns."""
    polars = loaded("polars")
    names, forms = details
    if kind == "p":
        return _series(names, forms, columns)
    if len(names) != len(forms):
        raise ValueError("not as many columns as names")
    series = [_series(name, form, columns) for name, form in zip(names, forms, strict=True)]
    return polars.DataFrame(series)


def _series(name: str, form: Any, columns: Iterator[Any]) -> Any:
    polars = loaded("polars")
    dtype, values = _dtype(form), next(columns)
    if isinstance(values, list):
        return polars.Series(name, values, dtype=dtype, strict=True)
    physical = _MOMENTS.get(type(dtype).__name__)
    plain = dtype if physical is None else getattr(polars, physical)()
    series = polars.Series(name, values)
    if series.dtype != plain:
        raise ValueError("not a column of this dtype")
    missing = polars.Series(next(columns))
    return series.cast(dtype).set(missing, None) if missing.any() else series.cast(dtype)

"""polars values as simpler ones: the dtype, the nulls and the values of each column."""

from __future__ import annotations

import functools
from typing import Any

from model_cache.errors import NotCacheableError
from model_cache.keys.canonical.foreign import Reduction

_TEMPORAL = ("Date", "Time", "Datetime", "Duration")
_NUMBERS = [f"{kind}{size}" for kind in ("Int", "UInt") for size in (8, 16, 32, 64, 128)]
_KNOWN = {
    *_TEMPORAL,
    *_NUMBERS,
    *("Float32", "Float64", "Boolean", "String", "Binary", "Null", "Decimal"),
    *("Categorical", "Enum", "List", "Array", "Struct"),
}
_NOT_NUMPYS = ("Decimal", "Int128", "UInt128")
# What tells two dtypes of one class apart.
_PARAMETERS = ("time_unit", "time_zone", "precision", "scale", "shape", "ordering")


@functools.lru_cache(64)
def polars_reduction(polars: Any, cls: type) -> Reduction | None:
    """Return how a Series or a DataFrame reduces to simpler values."""
    if cls is polars.DataFrame:
        return Reduction("polars.DataFrame", lambda value: (value.height, value.get_columns()))
    if cls is polars.Series:
        return Reduction("polars.Series", _series)
    return None


def _series(value: Any) -> tuple[Any, ...]:
    dtype = value.dtype
    return value.name, described(dtype), *_content(value, dtype)


def _content(value: Any, dtype: Any) -> tuple[Any, ...]:
    kind = str(dtype.base_type())
    if kind in _TEMPORAL:
        value = value.to_physical()
    if kind in _TEMPORAL or (dtype.is_numeric() and kind not in _NOT_NUMPYS):
        nulls = value.is_null().to_numpy() if value.null_count() else None
        filled = value if nulls is None else value.fill_null(0)
        return nulls, filled.to_numpy()
    return None, value.to_list()


def described(dtype: Any, *, is_inside: bool = False) -> Any:
    """Return a dtype as plain values."""
    kind = str(dtype.base_type())
    # Python's moments lack the nanoseconds of those inside a list.
    if kind not in _KNOWN or (is_inside and kind in _TEMPORAL):
        raise NotCacheableError(f"a polars value of dtype {dtype} has no canonical form")
    parameters = [getattr(dtype, name, None) for name in _PARAMETERS]
    if kind == "Enum":
        parameters.append(dtype.categories.to_list())
    if kind in ("List", "Array"):
        parameters.append(described(dtype.inner, is_inside=True))
    if kind == "Struct":
        parameters += [[each.name, described(each.dtype, is_inside=True)] for each in dtype.fields]
    categories: Any = getattr(dtype, "categories", None)
    if kind == "Categorical" and hasattr(categories, "name"):
        parameters += [categories.name(), categories.namespace(), str(categories.physical())]
    return [kind, *parameters]

"""A result that is a Series or a DataFrame of pandas.

Its index is the one of the function's input, or the default one; another one would be an index of
rows that are not there when the result is put together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from model_cache.entries.refusals import RowsRefusedError
from model_cache.entries.rows import pandas_labels
from model_cache.entries.rows.pandas_labels import same_index
from model_cache.entries.values.libraries import loaded
from model_cache.keys.tables import Table
from model_cache.keys.tables.pandas_tables import is_default_index

_INPUT, _RANGE = "i", "r"
_NULLABLE = {
    "boolean",
    "Float32",
    "Float64",
    *(f"{sign}Int{width}" for sign in ("", "U") for width in (8, 16, 32, 64)),
}


def apart(result: Any, table: Table) -> tuple[Any, list[Any]]:
    """Return the form and the columns of a Series or a DataFrame."""
    pandas = loaded("pandas")
    if result.attrs or not result.flags.allows_duplicate_labels:
        raise RowsRefusedError("a pandas object with attrs or flags can't be stored row by row")
    index = _index_rule(result.index, table)
    if type(result) is pandas.Series:
        form, columns = _column(result)
        return ["s", index, pandas_labels.packed(result.name), form], columns
    labels = pandas_labels.packed(result.columns)
    if _is_one_array(result):
        return ["f", index, labels, "n"], [result.to_numpy()]
    each = [_column(result.iloc[:, place]) for place in range(result.shape[1])]
    columns = [column for _, own in each for column in own]
    return ["f", index, labels, [form for form, _ in each]], columns


def _is_one_array(frame: Any) -> bool:
    dtypes = set(frame.dtypes.tolist())
    return (
        len(dtypes) == 1
        and getattr(dtypes.pop(), "kind", "O") in "biufc"
        and (isinstance(frame.dtypes.iloc[0], loaded("numpy").dtype))
    )


def _index_rule(index: Any, table: Table) -> str:
    """Return whether a result has its input's index or the default one.

    Where the input's is the default one, both are the same for all rows.
    """
    if table.index is not None and same_index(index, table.index):
        return _INPUT
    if is_default_index(index):
        return _INPUT if table.is_default_index else _RANGE
    raise RowsRefusedError("the result's index is neither that of the input nor the default one")


def _column(column: Any) -> tuple[Any, list[Any]]:
    """Return the form and the columns of a Series, without its index."""
    pandas, numpy = loaded("pandas"), loaded("numpy")
    dtype = column.dtype
    if isinstance(dtype, numpy.dtype):
        values = column.to_numpy()
        return ("o", [values.tolist()]) if dtype.kind == "O" else ("n", [values])
    if type(dtype) is pandas.CategoricalDtype:
        categories = pandas_labels.packed(dtype.categories)
        return ["c", bool(dtype.ordered), categories], [column.array.codes]
    if str(dtype) in _NULLABLE and type(dtype) is type(pandas.api.types.pandas_dtype(str(dtype))):
        missing = numpy.asarray(column.array.isna())
        plain = dtype.numpy_dtype
        values = column.array.to_numpy(dtype=plain, na_value=plain.type(0))
        return ["m", str(dtype)], [values, missing]
    if type(dtype) is pandas.StringDtype:
        missing_value = getattr(dtype, "na_value", pandas.NA)
        values = column.array.to_numpy(dtype=object, na_value=None).tolist()
        return ["t", dtype.storage, missing_value is pandas.NA], [values]
    if type(dtype) is pandas.DatetimeTZDtype and pandas_labels.has_known_zone(dtype):
        return ["z", str(dtype)], [numpy.asarray(column.array.tz_convert(None))]
    # Of any other dtype: an empty array, and a Python object for each value.
    return ["x", pandas_labels.packed(column.array[:0])], [list(column.array)]


def together(kind: str, details: Sequence[Any], columns: Iterator[Any], table: Table) -> Any:
    """Return the Series or the DataFrame with that form and those columns."""
    pandas = loaded("pandas")
    rule, names, forms = details
    if rule == _INPUT and table.index is not None:
        index = table.index.copy()  # so that the caller's is not renamed with it
    elif rule == _RANGE:
        index = pandas.RangeIndex(len(table))
    else:
        raise ValueError("not a rule for the index")
    if kind == "s":
        name = pandas_labels.unpacked(names)
        return _series(forms, columns, index, name)
    labels = pandas_labels.index_of(names)
    if forms == "n":
        return pandas.DataFrame(next(columns), index=index, columns=labels, copy=False)
    if len(forms) != len(labels):
        raise ValueError("not as many columns as labels")
    series = [_series(form, columns, index) for form in forms]
    frame = pandas.DataFrame(dict(enumerate(series)), index=index)
    frame.columns = labels
    return frame


def _series(form: Any, columns: Iterator[Any], index: Any, name: Any = None) -> Any:
    # Of objects, pandas 3 would make strings if all of them are.
    dtype = object if form == "o" else None
    values = _values(form, columns)
    return loaded("pandas").Series(values, index=index, name=name, dtype=dtype, copy=False)


def _values(form: Any, columns: Iterator[Any]) -> Any:
    """Return the array of a column."""
    pandas, numpy = loaded("pandas"), loaded("numpy")
    kind, *details = form if type(form) is list else [form]
    values = next(columns)
    if (kind in ("o", "t", "x")) is not isinstance(values, list):
        raise ValueError("not a column of this form")
    if kind == "n":
        return values
    if kind == "o":
        return numpy.fromiter(values, object, len(values))
    if kind == "t":
        return _strings(pandas, values, *details)
    if kind == "x":
        return pandas.array(values, dtype=pandas_labels.unpacked(*details).dtype)
    if kind == "c":
        ordered, categories = details
        labels = pandas_labels.index_of(categories)
        return pandas.Categorical.from_codes(values, categories=labels, ordered=ordered)
    if kind == "z":
        return pandas_labels.zoned(values, *details)
    if kind == "m" and details[0] in _NULLABLE:
        dtype = pandas.api.types.pandas_dtype(details[0])
        if values.dtype != dtype.numpy_dtype:
            raise ValueError("not a column of this dtype")
        return dtype.construct_array_type()(values, next(columns))
    raise ValueError("not the form of a column")


def _strings(pandas: Any, values: list[Any], storage: str, is_na: bool) -> Any:
    if set(map(type, values)) - {str, type(None)}:
        raise ValueError("not strings")
    if not is_na:
        dtype = pandas.StringDtype(storage, na_value=float("nan"))
    else:
        dtype = pandas.StringDtype(storage)
    return pandas.array(values, dtype=dtype)

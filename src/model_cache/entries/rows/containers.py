"""The containers of a result, as a form of plain values and a list of columns."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from model_cache.entries.refusals import LengthError, RowsRefusedError
from model_cache.entries.rows import pandas_results, polars_results
from model_cache.entries.values.libraries import loaded
from model_cache.keys.canonical.arrays import loaded_numpy
from model_cache.keys.canonical.identities import described
from model_cache.keys.tables import Table


def apart(result: object, table: Table, outputs: bool = False) -> tuple[Any, list[Any]]:
    """Return a result's form and columns.

    Raises:
        LengthError: it has another length than the table.
        RowsRefusedError: it is no container of rows.
    """
    if not outputs:
        return _container(result, table)
    if type(result) not in (list, tuple):
        raise RowsRefusedError(f"expected a list of outputs, got {described(type(result))}")
    found = [_container(each, table) for each in result]  # type: ignore[attr-defined]
    kind = "m" if type(result) is list else "M"
    return [kind, *(form for form, _ in found)], [each for _, own in found for each in own]


def _container(result: Any, table: Table) -> tuple[Any, list[Any]]:
    cls = type(result)
    if cls is list or cls is tuple:
        _check_length(result, table)
        return "l" if cls is list else "t", [list(result)]
    numpy = loaded_numpy()
    if numpy is not None and cls is numpy.ndarray and result.ndim:
        _check_length(result, table)
        return _array(result)
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    if pandas is not None and cls in (pandas.Series, pandas.DataFrame):
        _check_length(result, table)
        return pandas_results.apart(result, table)
    if polars is not None and cls in (polars.Series, polars.DataFrame):
        _check_length(result, table)
        return polars_results.apart(result)
    advice = "return a list, an array, a Series or a DataFrame"
    if cls.__module__.startswith("scipy.sparse"):
        advice = "return its .toarray()"
    raise RowsRefusedError(f"{described(cls)} can't be stored row by row; {advice}")


def _check_length(result: Any, table: Table) -> None:
    if len(result) != len(table):
        raise LengthError(len(table), len(result))


def _array(array: Any) -> tuple[Any, list[Any]]:
    if array.dtype.kind != "O":
        return "n", [array]
    if array.ndim == 1:
        return "o", [array.tolist()]
    return ["o", *array.shape[1:]], [[row.reshape(-1).tolist() for row in array]]


def together(form: Any, columns: Iterator[Any], table: Table) -> Any:
    """Return the result with that form and those columns."""
    kind, *details = form if type(form) is list else [form]
    if kind in ("m", "M"):
        results = [together(each, columns, table) for each in details]
        return results if kind == "m" else tuple(results)
    if kind in ("l", "t"):
        values = _next(columns, of_objects=True)
        return values if kind == "l" else tuple(values)
    if kind == "n":
        return _next(columns, of_objects=False)
    if kind == "o":
        return _object_array(_next(columns, of_objects=True), details)
    if kind in ("s", "f"):
        return pandas_results.together(kind, details, columns, table)
    if kind in ("p", "q"):
        return polars_results.together(kind, details, columns)
    raise ValueError("not a form")


def _next(columns: Iterator[Any], *, of_objects: bool) -> Any:
    column = next(columns)
    if isinstance(column, list) is not of_objects:
        raise TypeError("a column of another kind")
    return column


def _object_array(values: Sequence[Any], shape: Sequence[Any]) -> Any:
    numpy = loaded("numpy")
    if not shape:
        return numpy.fromiter(values, object, len(values))
    size = math.prod(shape)
    if any(type(row) is not list or len(row) != size for row in values):
        raise ValueError("not rows of this shape")
    made = numpy.empty((len(values), *shape), object)
    items = itertools.chain.from_iterable(values)
    made.reshape(-1)[...] = numpy.fromiter(items, object, len(values) * size)
    return made

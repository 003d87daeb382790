"""The rows of a table, and their canonical bytes.

A table is what a function of many rows takes: a list, a tuple, a numpy array, a dict of arrays, or
a Series or DataFrame of pandas or polars. It is read by column, without a Python object for each
cell. These libraries are not imported; a process that has their values has imported them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from model_cache.errors import NotCacheableError
from model_cache.keys.canonical.arrays import loaded_numpy
from model_cache.keys.canonical.identities import described, text
from model_cache.keys.canonical.refusals import refuse
from model_cache.keys.tables.cells import encoded
from model_cache.keys.tables.numpy_tables import array_table, feeds_table
from model_cache.keys.tables.pandas_tables import frame_table, series_table
from model_cache.keys.tables.polars_tables import polars_frame_table, polars_series_table
from model_cache.keys.tables.table import Table

__all__ = ["Table", "table_of"]


def table_of(value: object) -> Table:
    """Return the rows of a table.

    Args:
        value: a list, a tuple, a numpy array, a dict of numpy arrays of equal length, or a Series
            or a DataFrame of pandas or polars. It is not changed.

    Raises:
        NotCacheableError: it is something else, or contains a value without a canonical form.
    """
    try:
        return _reader(type(value))(value)
    except Exception as error:
        refuse(error)


def _reader(cls: type) -> Callable[[Any], Table]:
    if cls is list or cls is tuple:
        return _sequence_table
    if cls is dict:
        return feeds_table
    numpy = loaded_numpy()
    if numpy is not None and issubclass(cls, numpy.ndarray):
        return array_table
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    if pandas is not None and cls in (pandas.Series, pandas.DataFrame):
        return series_table if cls is pandas.Series else frame_table
    if polars is not None and cls in (polars.Series, polars.DataFrame):
        return polars_series_table if cls is polars.Series else polars_frame_table
    raise NotCacheableError(
        f"a value of {described(cls)} is not a table; expected a list, a tuple, a numpy array, "
        "a dict of numpy arrays, or a Series or DataFrame of pandas or polars"
    )


def _sequence_table(value: list[Any] | tuple[Any, ...]) -> Table:
    """Return the table of a list or a tuple, whose kind does not depend on its items."""
    return Table(value, text(type(value).__name__), encoded(value), _select_items)


def _select_items(whole: Sequence[Any], places: Sequence[int]) -> Any:
    return type(whole)([whole[place] for place in places])  # type: ignore[call-arg]

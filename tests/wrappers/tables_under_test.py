"""Tables for property tests, and whether two results are exactly the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from hypothesis import strategies as st

_FLOATS = st.sampled_from([0.0, -0.0, 1.5, float("nan"), float("inf"), -2.0])
_INTS = st.integers(-3, 3)
_WORDS = st.sampled_from(["", "a", "bb", "ä", "a\0", "x" * 40])
_DAYS = st.sampled_from(["2024-01-01", "2024-10-27 02:30", "1999-12-31", None])

COLUMNS: dict[str, Any] = {
    "float64": _FLOATS,
    "float32": _FLOATS,
    "int64": _INTS,
    "int8": _INTS,
    "bool": st.booleans(),
    "str": _WORDS | st.none(),
    "object": _WORDS | _INTS | st.none() | _FLOATS,
    "Int64": _INTS | st.none(),
    "boolean": st.booleans() | st.none(),
    "category": st.sampled_from(["a", "b", "c"]),
    "datetime64[ns]": _DAYS,
    "string": _WORDS | st.none(),
    "Float64": _INTS.map(float) | st.none(),
}


def _index(draw: Any, count: int) -> Any:
    kind = draw(st.sampled_from(["default", "unsorted", "equal", "words", "levels", "named"]))
    if kind == "default":
        return pd.RangeIndex(count)
    if kind == "levels":
        return pd.MultiIndex.from_tuples([(n % 2, str(-n)) for n in range(count)], names=["a", "b"])
    labels = {
        "unsorted": [(7 * n) % 11 - n for n in range(count)],
        "equal": [5] * count,
        "words": [f"row {n % 3}" for n in range(count)],
        "named": list(range(count)),
    }[kind]
    return pd.Index(labels, name="id" if kind == "named" else None)


@st.composite
def frames(draw: Any) -> Any:
    """Draw a DataFrame of up to eight rows, many of them equal."""
    dtypes = draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=1, max_size=3))
    count = draw(st.integers(0, 8))
    index = _index(draw, count) if count else pd.RangeIndex(0)
    columns = []
    for dtype in dtypes:
        values = draw(st.lists(COLUMNS[dtype], min_size=count, max_size=count))
        if dtype == "datetime64[ns]":
            values = pd.to_datetime(values, format="mixed")
        columns.append(pd.Series(values, index=index, dtype=dtype))
    frame = pd.concat(columns, axis=1)
    frame.columns = pd.Index([f"{n} {dtype}" for n, dtype in enumerate(dtypes)])
    return frame


def same(one: Any, other: Any) -> bool:
    """Return whether two results are the same: type, dtype, shape, labels, bytes."""
    if type(one) is not type(other):
        return False
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, check_exact=True, check_column_type=True)
        return True
    if isinstance(one, pd.Series):
        pd.testing.assert_series_equal(one, other, check_exact=True)
        return True
    if isinstance(one, np.ndarray):
        same_kind = one.dtype == other.dtype and one.shape == other.shape
        if one.dtype.kind == "O":
            return same_kind and repr(one.tolist()) == repr(other.tolist())
        return same_kind and one.tobytes() == other.tobytes()
    if isinstance(one, pl.DataFrame | pl.Series):
        return bool(one.equals(other, null_equal=True)) and repr(one) == repr(other)
    return repr(one) == repr(other)

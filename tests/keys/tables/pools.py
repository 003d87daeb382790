"""Values for the rows of a table: a pool contains values that a model can tell apart."""

from __future__ import annotations

import datetime as dt
import decimal
import importlib
import zoneinfo
from typing import Any

import numpy as np

from tests.keys.forms import NEGATIVE_NAN

pd: Any = importlib.import_module("pandas")  # with or without its stubs
pl: Any = importlib.import_module("polars")

OBJECTS: list[Any] = [
    "1",
    1,
    1.0,
    True,
    b"1",
    decimal.Decimal(1),
    decimal.Decimal("1.0"),
    np.float64(1.0),
    np.int64(1),
    np.str_("1"),
    None,
    float("nan"),
    NEGATIVE_NAN,
    pd.NA,
    pd.NaT,
    0,
    False,
    0.0,
    -0.0,
    "",
    "nan",
    "None",
    (1, "1"),
    ("1", 1),
    [1.0],
    [1],
    "x" * 14,
    "x" * 15,
    "x" * 100,
    "\0",
    "\0\0",
    "\ud800",
    2**100,
    dt.date(2024, 1, 1),
    dt.datetime(2024, 1, 1),
    dt.datetime(2024, 1, 1, fold=1),
]
STRINGS = ["", "a", "A", "\0", "a\0", "nan", "None", "ä", "x" * 15, "x" * 16, "x" * 17, None]
FLOATS = [0.0, -0.0, 1.0, 1.5, float("inf"), -float("inf"), float("nan"), 5e-324]
_BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
# The second of two equal local times; a summer and a winter day.
_MOMENTS = pd.to_datetime(
    ["2024-10-27 00:30", "2024-10-27 01:30", "2024-07-01", "2024-01-01 00:00:00.000001", None],
    format="mixed",
)
_DECIMALS = [decimal.Decimal("1.50"), decimal.Decimal("1.51"), None]

PANDAS: dict[str, Any] = {
    "float64": pd.Series([*FLOATS, NEGATIVE_NAN]),
    "float32": pd.Series([0.0, -0.0, 1.5, float("nan")], dtype="float32"),
    "int8": pd.Series([-128, 0, 127], dtype="int8"),
    "uint64": pd.Series([0, 2**63, 2**64 - 1], dtype="uint64"),
    "bool": pd.Series([True, False]),
    "complex": pd.Series([1j, -1j, complex(0.0, -0.0), 0j]),
    "objects": pd.Series(OBJECTS, dtype=object),
    "strings as objects": pd.Series(STRINGS, dtype=object),
    "str": pd.Series(STRINGS, dtype="str"),
    "string[python]": pd.Series(STRINGS, dtype="string[python]"),
    "string[pyarrow]": pd.Series(STRINGS, dtype="string[pyarrow]"),
    "category": pd.Series(pd.Categorical(["a", "b", None], categories=["b", "a", "c"])),
    "category of ints": pd.Series(pd.Categorical([3, 1, None])),
    "datetime64[ns]": pd.Series(pd.to_datetime(_MOMENTS).as_unit("ns")),
    "datetime64[s]": pd.Series(pd.to_datetime(["2024-01-01", None]).as_unit("s")),
    "timedelta64": pd.Series(pd.to_timedelta([0, 1, -1, None], unit="us")),
    "zoned": pd.Series(_MOMENTS.tz_localize("UTC").tz_convert(_BERLIN)),
    "utc": pd.Series(_MOMENTS.tz_localize("UTC")),
    "period": pd.Series(pd.PeriodIndex(["2024-01", "2024-02", None], freq="M")),
    "interval": pd.Series(pd.arrays.IntervalArray.from_tuples([(0, 1), (0, 2), None])),
    "Int64": pd.Series([0, 1, -1, None], dtype="Int64"),
    "UInt8": pd.Series([0, 255, None], dtype="UInt8"),
    "Float64": pd.Series([0.0, -0.0, 1.5, None], dtype="Float64"),
    "boolean": pd.Series([True, False, None], dtype="boolean"),
    "arrow ints": pd.Series([0, 1, None], dtype="int32[pyarrow]"),
    "arrow floats": pd.Series([0.0, -0.0, None], dtype="double[pyarrow]"),
    "arrow bools": pd.Series([True, False, None], dtype="bool[pyarrow]"),
    "arrow bytes": pd.Series([b"", b"a", None], dtype="binary[pyarrow]"),
    "arrow moments": pd.Series(_MOMENTS).astype("timestamp[us, tz=Europe/Berlin][pyarrow]"),
    "arrow dates": pd.Series([dt.date(2024, 1, 1), None], dtype="date32[day][pyarrow]"),
}

POLARS: dict[str, Any] = {
    "Float64": pl.Series("x", [*FLOATS, None]),
    "Float32": pl.Series("x", [0.0, -0.0, 1.5, None], dtype=pl.Float32),
    "Int8": pl.Series("x", [-128, 0, 127, None], dtype=pl.Int8),
    "UInt64": pl.Series("x", [0, 2**64 - 1, None], dtype=pl.UInt64),
    "Boolean": pl.Series("x", [True, False, None]),
    "String": pl.Series("x", STRINGS),
    "Binary": pl.Series("x", [b"", b"a", None]),
    "Enum": pl.Series("x", ["a", "b", None], dtype=pl.Enum(["b", "a"])),
    "Decimal": pl.Series("x", _DECIMALS, dtype=pl.Decimal(10, 2)),
    "Date": pl.Series("x", [dt.date(2024, 1, 1), dt.date(2024, 1, 2), None]),
    "Time": pl.Series("x", [dt.time(1), dt.time(1, 0, 0, 1), None]),
    "Datetime": pl.Series("x", [0, 1, -1, None]).cast(pl.Datetime("ns")),
    "zoned": pl.Series("x", [0, 1, None]).cast(pl.Datetime("us", "Europe/Berlin")),
    "Duration": pl.Series("x", [0, 1, None]).cast(pl.Duration("ns")),
    "List": pl.Series("x", [[1.0], [1.0, None], [], None], dtype=pl.List(pl.Float64)),
    "Struct": pl.Series("x", [{"a": 1, "b": "x"}, {"a": None, "b": "x"}]),
    "Null": pl.Series("x", [None]),
}

ARRAYS: dict[str, Any] = {
    "float64": np.array([*FLOATS, NEGATIVE_NAN]),
    "big-endian": np.array(FLOATS, ">f8"),
    "float16": np.array([0.0, -0.0, 1.5], "f2"),
    "long double": np.array([0.0, -0.0, 1.5], "longdouble"),
    "complex64": np.array([1j, -1j, 0], "c8"),
    "bool": np.array([True, False]),
    "text": np.array(["", "a", "ab"]),
    "bytes": np.array([b"", b"a", b"ab"]),
    "datetime64": np.array(["2024-01-01", "2024-01-02", "NaT"], "M8[D]"),
    "records": np.array([(0, 1.0), (1, 1.0), (0, 2.0)], np.dtype("i1,f8", align=True)),
    "objects": np.fromiter(OBJECTS[:13] + OBJECTS[15:], object),
    "matrix": np.array([[0.0, 1.0], [1.0, 0.0], [-0.0, 1.0]]),
    "matrix of objects": np.array([["1", 1], [1, "1"], [1.0, 1]], object),
    "images": np.arange(24, dtype="u1").reshape(4, 2, 3),
    "masked": np.ma.masked_array([1.0, 1.0, 2.0], [False, True, False]),
}

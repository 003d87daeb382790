"""Fixed values of pandas and polars, whose canonical forms are committed in `tests/golden`.

All units and dtypes are spelled out, since their defaults differ between versions.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import zoneinfo
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

from model_cache.keys.canonical import INPUTS, PREDICTIONS

MORNING = np.array(["2024-10-27T00:30", "2024-10-27T01:30", "NaT"], "<M8[ns]")
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


def objects(*items: Any) -> Any:
    made = np.empty(len(items), object)
    made[:] = items
    return made


INDEX = pd.Index(np.array([3, 1, 2], "<i8"), name="number")
LABELS = pd.Index(objects("a", "b", "c"), dtype=object)
ZONED = pd.DatetimeIndex(MORNING).tz_localize("UTC").tz_convert(BERLIN)


def column(values: Any, dtype: Any = None, **parts: Any) -> Any:
    return pd.Series(values, dtype=dtype, index=INDEX, **parts)


PANDAS: dict[str, Any] = {
    "timestamp": pd.Timestamp(MORNING[0]),
    "timestamp in seconds": pd.Timestamp(MORNING[0]).as_unit("s"),
    "timestamp in utc": pd.Timestamp(MORNING[0]).tz_localize(dt.UTC),
    "timestamp in a zone": pd.Timestamp(MORNING[0]).tz_localize("UTC").tz_convert(BERLIN),
    "timestamp in a zone, fold": pd.Timestamp(MORNING[1]).tz_localize("UTC").tz_convert(BERLIN),
    "timedelta": pd.Timedelta(np.timedelta64(-5, "ns")),
    "nat": pd.NaT,
    "na": pd.NA,
    "period": pd.Period("2024-02", "M"),
    "interval": pd.Interval(1, 2.5, "left"),
    "index": INDEX,
    "index of objects": LABELS,
    "range index": pd.RangeIndex(1, 9, 2, name="r"),
    "datetime index": pd.DatetimeIndex(MORNING[:2]),
    "timedelta index": pd.TimedeltaIndex(MORNING[:2] - MORNING[0]),
    "period index": pd.period_range("2024-01", periods=3, freq="M"),
    "interval index": pd.interval_range(0, 3),
    "categorical index": pd.CategoricalIndex(["b", "a"], pd.Index(objects("a", "b"), dtype=object)),
    "multi index": pd.MultiIndex([INDEX, LABELS], [[0, 1], [2, 0]], names=["n", None]),
    "series": column(np.array([1.5, 2.5, np.nan])),
    "series with a name": column(np.array([1.5, 2.5, np.nan]), name="x"),
    "series of objects": column(objects("a", None, 1), object),
    "series of datetimes": column(MORNING),
    "series of datetimes in a zone": column(ZONED),
    "series of timedeltas": column(MORNING - MORNING[0]),
    "series of nullable ints": column([1, None, 3], "Int16"),
    "series of nullable floats": column([1.5, None, 3], "Float32"),
    "series of nullable bools": column([True, None, False], "boolean"),
    "series of strings": column(["a", None, "b"], "string[python]"),
    "series of categories": column(pd.Categorical.from_codes([0, 2, -1], categories=LABELS)),
    "series of periods": column(pd.period_range("2024-01", periods=3, freq="M")),
    "frame": pd.DataFrame(np.arange(3.0).reshape(3, 1), index=INDEX, columns=LABELS[:1]),
    "frame of several dtypes": pd.DataFrame(
        {0: column(np.array([1, 2, 3], "<i8")), 1: column(objects("a", None, "b"), object)}
    ).set_axis(LABELS[:2], axis=1),
    "frame without columns": pd.DataFrame(index=INDEX, columns=LABELS[:0]),
}

POLARS: dict[str, Any] = {
    "series": pl.Series("x", [1, None, 3], dtype=pl.Int64),
    "series of floats": pl.Series("x", [1.5, None, float("nan")], dtype=pl.Float64),
    "series of strings": pl.Series("x", ["a", None]),
    "series of bools": pl.Series("x", [True, None]),
    "series of datetimes": pl.Series("x", [dt.datetime(2024, 2, 29)], dtype=pl.Datetime("us")),
    "series of dates": pl.Series("x", [dt.date(2024, 2, 29), None]),
    "series of an enum": pl.Series("x", ["b"], dtype=pl.Enum(["a", "b"])),
    "series of lists": pl.Series("x", [[1, 2], None], dtype=pl.List(pl.Int64)),
    "series of structs": pl.Series("x", [{"a": 1}], dtype=pl.Struct({"a": pl.Int64})),
    "frame": pl.DataFrame({"a": [1, 2], "b": ["x", None]}),
}

FRAMES = {
    f"{library} {name}": value
    for library, values in (("pandas", PANDAS), ("polars", POLARS))
    for name, value in values.items()
}


def forms(*, backwards: bool = False) -> dict[str, list[str]]:
    """Return digests of the canonical forms as an input and as a prediction."""
    wanted = list(FRAMES.items())
    return {
        name: [
            hashlib.blake2b(canonical.encode(value), digest_size=16).hexdigest()
            for canonical in (INPUTS, PREDICTIONS)
        ]
        for name, value in (reversed(wanted) if backwards else wanted)
    }

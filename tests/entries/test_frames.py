"""Values of pandas and polars have distinct forms, and come back from an entry."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pandas", reason="install the group `test`")
pytest.importorskip("polars", reason="install the group `test`")

import pandas as pd

from model_cache.entries.codec import Codec
from model_cache.entries.values import Classes, PythonValues, Result, dumps
from model_cache.errors import NotCacheableError
from model_cache.keys.canonical import INPUTS, PREDICTIONS
from tests.golden_frames import FRAMES, POLARS, column, objects

NOT_STORED = ("polars series of lists", "polars series of structs")

labels = st.text("ab", max_size=2) | st.integers(0, 2)
arrays = st.one_of(
    st.lists(st.floats(), min_size=3, max_size=3).map(np.array),
    st.lists(st.integers(-2, 2), min_size=3, max_size=3).map(lambda made: np.array(made, "i1")),
    st.lists(st.integers(-2, 2), min_size=3, max_size=3).map(lambda made: np.array(made, "i8")),
    st.lists(st.text("ab\0", max_size=2) | st.none(), min_size=3, max_size=3).map(
        lambda made: pd.Series(made, dtype=object)
    ),
    st.lists(st.text("ab\0", max_size=2) | st.none(), min_size=3, max_size=3).map(
        lambda made: pd.array(made, dtype="string[python]")
    ),
    st.lists(st.integers(0, 2) | st.none(), min_size=3, max_size=3).map(
        lambda made: pd.array(made, dtype="Int8")
    ),
    st.lists(st.sampled_from("ab"), min_size=3, max_size=3).map(pd.Categorical),
    st.lists(st.integers(0, 9), min_size=3, max_size=3).map(
        lambda made: pd.DatetimeIndex(np.array(made, "M8[s]")).tz_localize("UTC")
    ),
)
frames = st.dictionaries(labels, arrays, max_size=3).map(
    lambda made: pd.DataFrame({name: pd.Series(item) for name, item in made.items()})
)


@pytest.mark.parametrize("name", [name for name in FRAMES if name not in NOT_STORED])
def test_golden_values_come_back(name: str) -> None:
    value = FRAMES[name]
    restored = Classes().loads(dumps(value))
    assert type(restored) is type(value)
    assert PREDICTIONS.encode(restored) == PREDICTIONS.encode(value)


@given(frames, frames)
def test_frames_have_one_form_only_if_they_are_the_same(one: Any, other: Any) -> None:
    try:
        pd.testing.assert_frame_equal(one, other, check_exact=True)
        same = True
    except AssertionError:
        same = False
    # A sign of zero, or None beside NaN, may differ in frames that pandas calls equal.
    assert same or PREDICTIONS.encode(one) != PREDICTIONS.encode(other)
    assert PREDICTIONS.encode(one.copy()) == PREDICTIONS.encode(one)


@given(frames)
def test_frames_come_back(frame: Any) -> None:
    codec = Codec(Result, serder=PythonValues(Classes()))
    read = codec.decode(b"k", codec.encode(b"k", Result(frame)))
    pd.testing.assert_frame_equal(read.value, frame, check_exact=True)
    assert read.value is not frame


BASE = pd.DataFrame({"a": [1, 2], "b": [3, 4]})


@pytest.mark.parametrize(
    "other",
    [
        BASE[["b", "a"]],
        BASE.rename(columns={"a": "c"}),
        BASE.astype("i4"),
        BASE.astype("f8"),
        BASE.set_axis([1, 0]),
        BASE.rename_axis("index"),
        BASE.rename_axis(columns="columns"),
        BASE[::-1],
        BASE.assign(a=BASE["a"].astype("Int64")),
        BASE.assign(a=objects(1, 2)),
        BASE.set_flags(allows_duplicate_labels=False),
    ],
)
@pytest.mark.parametrize("canonical", [INPUTS, PREDICTIONS])
def test_whatever_differs_between_frames_counts(other: Any, canonical: Any) -> None:
    assert canonical.encode(other) != canonical.encode(BASE)


def test_each_caller_has_a_frame_of_his_own() -> None:
    data = dumps(BASE)
    first: Any = Classes().loads(data)
    second: Any = Classes().loads(data)
    first.loc[0, "a"] = 99
    assert second.equals(BASE)


@pytest.mark.parametrize("value", [pd.arrays.SparseArray([0, 1]), type("Own", (pd.Series,), {})()])
def test_what_is_not_known_of_pandas_has_no_form(value: Any) -> None:
    with pytest.raises(NotCacheableError):
        PREDICTIONS.encode(value)


def test_a_range_of_labels_does_not_multiply_a_value() -> None:
    huge = ["pandas.RangeIndex", 0, 2**40, 1, None]
    value = msgpack.ExtType(51, msgpack.packb(huge))
    hostile = [
        huge,
        ["pandas.DataFrame", value, value, 1.5, None, True],
        ["pandas.Series", 1.5, value, None, None, True],
    ]
    for parts in hostile:
        with pytest.raises(Exception):  # noqa: B017, PT011 - any will do
            Classes().loads(msgpack.packb(msgpack.ExtType(51, msgpack.packb(parts))))


@given(st.sampled_from(sorted(FRAMES)), st.data())
def test_damaged_frames_are_read_or_refused(name: str, data: Any) -> None:
    if name in NOT_STORED:
        return
    damaged = bytearray(dumps(FRAMES[name]))
    place = data.draw(st.integers(0, len(damaged) - 1))
    damaged[place] = data.draw(st.integers(0, 255))
    codec = Codec(Result, serder=PythonValues(Classes()))
    codec.decode(b"k", b"\xc1\x01\x04\x00\x00" + bytes(damaged))


def test_columns_of_polars_are_told_apart() -> None:
    forms = {INPUTS.encode(value) for value in POLARS.values()}
    assert len(forms) == len(POLARS)
    assert INPUTS.encode(column([1.0] * 3)) not in forms

"""Rows of tables: different rows have different bytes, equal rows the same, in every table."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_cache.errors import NotCacheableError
from model_cache.keys.canonical import INPUTS
from model_cache.keys.tables import table_of
from tests.keys.tables.pools import ARRAYS, OBJECTS, PANDAS, POLARS

pd: Any = importlib.import_module("pandas")  # with or without its stubs
pl: Any = importlib.import_module("polars")

POOLS = {
    "list": OBJECTS[:13] + OBJECTS[15:],
    **{f"numpy {name}": array for name, array in ARRAYS.items()},
    **{f"pandas {name}": series for name, series in PANDAS.items()},
    **{f"polars {name}": series for name, series in POLARS.items()},
}


def taken(whole: Any, places: Sequence[int]) -> Any:
    return table_of(whole).take(places)


@pytest.mark.parametrize("name", POOLS)
def test_different_values_have_different_bytes(name: str) -> None:
    rows = table_of(POOLS[name]).rows()
    assert len(set(rows)) == len(rows) == len(POOLS[name])


@pytest.mark.parametrize("name", POOLS)
@given(data=st.data())
def test_a_row_has_the_same_bytes_in_every_table_of_its_kind(
    name: str, data: st.DataObject
) -> None:
    pool = POOLS[name]
    places = data.draw(st.lists(st.integers(0, len(pool) - 1), max_size=20))
    whole = table_of(pool)
    other = table_of(taken(pool, places))
    assert other.rows() == [whole.rows()[place] for place in places]
    if len(places) > 1 and not isinstance(pool, pd.Series):
        assert other.kind == whole.kind
    assert whole.part(places).kind == whole.kind
    assert whole.part(places).rows() == other.rows()


@pytest.mark.parametrize("name", PANDAS)
def test_a_pandas_row_may_stand_in_any_row(name: str) -> None:
    series = PANDAS[name]
    turned = series.iloc[::-1].reset_index(drop=True)
    assert table_of(turned).kind == table_of(series).kind
    assert table_of(turned).rows() == table_of(series).rows()[::-1]


@given(data=st.data())
def test_rows_of_frames_are_equal_if_and_only_if_all_their_cells_are(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(list(PANDAS)), min_size=1, max_size=6))
    count = data.draw(st.integers(0, 12))
    places = [
        data.draw(st.lists(st.integers(0, len(PANDAS[name]) - 1), min_size=count, max_size=count))
        for name in names
    ]
    columns = [
        PANDAS[name].take(own).reset_index(drop=True)
        for name, own in zip(names, places, strict=True)
    ]
    frame = pd.concat(columns, axis=1)
    before = frame.copy()
    rows = table_of(frame).rows()
    expected = list(zip(*places, strict=True))
    for one in range(count):
        for other in range(count):
            assert (rows[one] == rows[other]) == (expected[one] == expected[other])
    pd.testing.assert_frame_equal(frame, before)


@given(data=st.data())
def test_rows_of_polars_frames_are_equal_if_and_only_if_all_cells_are(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(list(POLARS)), min_size=1, max_size=6))
    count = data.draw(st.integers(1, 12))
    places = [
        data.draw(st.lists(st.integers(0, len(POLARS[name]) - 1), min_size=count, max_size=count))
        for name in names
    ]
    frame = pl.DataFrame(
        [
            POLARS[name][own].alias(str(at))
            for at, (name, own) in enumerate(zip(names, places, strict=True))
        ]
    )
    rows = table_of(frame).rows()
    expected = list(zip(*places, strict=True))
    assert rows == [rows[expected.index(each)] for each in expected]
    assert len(set(rows)) == len(set(expected))


def series(values: Any, **options: Any) -> Any:
    return pd.Series(values, **options)


def frame(**columns: Any) -> Any:
    return pd.DataFrame(columns)


class Matrix(np.ndarray[Any, Any]):
    pass


SQUARE = np.arange(9.0).reshape(3, 3)
CUBE = np.arange(27.0).reshape(3, 3, 3)
CATEGORIES = pd.CategoricalDtype(["a", "b"])
TABLES_OF_DIFFERENT_KINDS: list[Any] = [
    ["a"],
    ("a",),
    np.array([1.0]),
    np.array([1]),
    np.array([1], np.longlong),
    np.array(["a"]),
    np.array(["a"], "U2"),
    np.array(["a"], object),
    SQUARE,
    np.asfortranarray(SQUARE),
    np.arange(18.0).reshape(3, 6)[:, ::2],
    np.asfortranarray(np.arange(18.0).reshape(6, 3))[:3],
    SQUARE.astype("f4"),
    SQUARE.astype(">f8"),
    CUBE,
    np.arange(9.0).reshape(3, 3, 1),
    SQUARE[:, :2].copy(),
    np.ma.masked_array(SQUARE),
    np.ma.masked_array(SQUARE, False),
    np.ma.masked_array(SQUARE, fill_value=0),
    np.zeros(1, "i4,i4"),
    np.zeros(1, [("x", "i4"), ("y", "i4")]),
    {"a": SQUARE},
    {"b": SQUARE},
    {"a": SQUARE, "b": SQUARE},
    {"b": SQUARE, "a": SQUARE},
    series([1]),
    series([1], name="a"),
    series([1], name=1),
    series([1], name=True),
    series([1], index=[0]),
    series([1], dtype="Int64"),
    series([1], dtype="int64[pyarrow]"),
    series([1], dtype=object),
    series(["a"], dtype="category"),
    series(["a"], dtype=CATEGORIES),
    series(["a"], dtype=pd.CategoricalDtype(["b", "a"])),
    series(["a"], dtype=pd.CategoricalDtype(["a", "b"], ordered=True)),
    series(["a"], dtype="string[python]"),
    series(["a"], dtype="string[pyarrow]"),
    *([series(["a"], dtype="str")] if pd.__version__ >= "3" else []),
    series(["a"], dtype=object, name="x"),
    series(pd.to_datetime(["2024"]).as_unit("s")),
    series(pd.to_datetime(["2024"]).as_unit("ns")),
    series(pd.to_datetime(["2024"]).tz_localize("UTC")),
    series(pd.to_datetime(["2024"]).tz_localize("Europe/Berlin")),
    series(pd.PeriodIndex(["2024"], freq="Y")),
    series(pd.PeriodIndex(["2024"], freq="M")),
    series(pd.IntervalIndex.from_tuples([(0, 1)])),
    series(pd.IntervalIndex.from_tuples([(0, 1)], closed="left")),
    frame(a=[1, 2]),
    frame(a=[1.0, 2.0]),
    frame(b=[1, 2]),
    frame(a=[1, 2], b=[1, 2]),
    frame(b=[1, 2], a=[1, 2]),
    frame(a=[1, 2], b=["x", "y"]),
    frame(a=["1", "2"], b=["x", "y"]),
    frame(a=[1, 2]).set_index(pd.Index([1, 0])),
    pd.DataFrame([[1]], columns=[0]),
    pd.DataFrame([[1]], columns=["0"]),
    pd.DataFrame([[1]], columns=pd.RangeIndex(1)),
    pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])),
    pd.DataFrame([[1]], columns=pd.Index(["a"], name="of columns")),
    pd.DataFrame(SQUARE, columns=list("abc"), copy=False),
    pd.DataFrame(dict.fromkeys("abc", SQUARE[:, 0])),
    pl.Series("a", [1]),
    pl.Series("b", [1]),
    pl.Series("a", [1], dtype=pl.Int32),
    pl.Series("a", ["a"], dtype=pl.Enum(["a"])),
    pl.Series("a", ["a"], dtype=pl.Enum(["a", "b"])),
    pl.DataFrame({"a": [1]}),
    pl.DataFrame({"a": [1], "b": [1]}),
    pl.DataFrame({"b": [1], "a": [1]}),
]


def test_what_a_model_can_tell_apart_is_of_another_kind() -> None:
    kinds = [table_of(table).kind for table in TABLES_OF_DIFFERENT_KINDS]
    same = [
        (TABLES_OF_DIFFERENT_KINDS[one], TABLES_OF_DIFFERENT_KINDS[other])
        for one in range(len(kinds))
        for other in range(one)
        if kinds[one] == kinds[other]
    ]
    assert same == []


@pytest.mark.parametrize("dtype", ["object", "str", "string[python]", "string[pyarrow]"])
def test_a_zero_in_a_string_is_not_its_end(dtype: str) -> None:
    texts = ["", "\0", "\0a", "a", "a\0", "a\0b"]
    assert len(set(table_of(series(texts, dtype=dtype)).rows())) == len(texts)
    assert len(set(table_of(series(pd.Categorical(texts, texts))).rows())) == len(texts)


def test_attrs_and_flags_of_pandas_are_of_another_kind() -> None:
    plain, noted = frame(a=[1]), frame(a=[1])
    noted.attrs["source"] = "here"
    strict = frame(a=[1]).set_flags(allows_duplicate_labels=False)
    assert len({table_of(each).kind for each in (plain, noted, strict)}) == 3


def test_a_list_is_of_one_kind_whatever_its_items() -> None:
    assert table_of(["a"]).kind == table_of([1.0, None]).kind == table_of([]).kind


def test_the_index_is_not_part_of_a_row() -> None:
    one, other = frame(a=[1, 2]).set_index(pd.Index(["x", "x"])), frame(a=[1, 2])
    assert table_of(one).rows() == table_of(other).rows()
    assert table_of(one).kind == table_of(one.set_index(pd.Index([5, 3]))).kind


def test_one_row_of_a_frame_is_of_the_kind_of_many() -> None:
    many = frame(a=[1.0, 2.0], b=[3.0, 4.0])
    assert table_of(many.iloc[:1]).kind == table_of(many).kind


def test_a_hundred_thousand_rows_are_as_distinct_as_pandas_says() -> None:
    random = np.random.default_rng(1)
    count = 100_000
    whole = pd.DataFrame(
        {
            "age": random.integers(18, 30, count),
            "bmi": random.integers(0, 9, count) / 2,
            "smoker": random.random(count) < 0.5,
            "region": random.choice(["north", "a region with a long name", "south"], count),
            "sex": pd.Categorical(random.choice(["f", "m"], count)),
            "day": pd.Timestamp("2024") + pd.to_timedelta(random.integers(0, 5, count), unit="D"),
        }
    )
    rows = table_of(whole).rows()
    groups = whole.groupby(list(whole.columns), observed=True).ngroup()
    assert len(set(rows)) == len(set(zip(rows, groups, strict=True))) == groups.nunique()


@pytest.mark.parametrize(
    "value",
    [
        "text",
        b"bytes",
        3,
        {"a": [1]},
        {},
        {"a": np.zeros(2), "b": np.zeros(3)},
        {"a": np.array(1.0)},
        np.array(1.0),
        np.zeros(2).view(Matrix),
        np.zeros(1, np.dtype("f8", metadata={"unit": "m"})),
        np.array([object()]),
        [object()],
        pd.Index([1]),
        pd.Series([object()]),
        pd.DataFrame({"a": [1], "b": [object()]}),
        pd.Series(pd.arrays.SparseArray([0.0, 1.0])),
        pl.Series(["a"], dtype=pl.Categorical),
        pl.Series([object()]),
        pl.Series([[0]]).cast(pl.List(pl.Datetime("ns"))),
        iter([1]),
    ],
    ids=lambda value: str(type(value).__name__),
)
def test_what_is_no_table_is_refused(value: Any) -> None:
    with pytest.raises(NotCacheableError):
        table_of(value)


def test_a_refusal_names_the_column_and_the_row() -> None:
    with pytest.raises(NotCacheableError, match=r"\[b\]|\['b'\]\[1\]: a value of type .*object"):
        table_of(pd.DataFrame({"a": [1, 2], "b": [1, object()]}))


def test_scipys_sparse_matrix_is_refused() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(NotCacheableError, match="not a table"):
        table_of(sparse.csr_matrix([[1.0]]))


def test_a_subclass_is_refused() -> None:
    class Frame(pd.DataFrame):  # type: ignore[misc]
        pass

    with pytest.raises(NotCacheableError, match="Frame is not a table"):
        table_of(Frame({"a": [1]}))


@pytest.mark.parametrize("order", ["C", "F"])
def test_some_rows_of_an_array_have_its_order_in_memory(order: str) -> None:
    whole = np.array(SQUARE, order=order)  # type: ignore[call-overload]
    part = taken(whole, [2, 0])
    assert part.flags[f"{order}_CONTIGUOUS"]
    np.testing.assert_array_equal(part, whole[[2, 0]])


def test_some_rows_keep_their_labels() -> None:
    whole = pd.DataFrame({"a": [1, 2, 3], "b": list("xyz")}, index=["u", "u", "t"])
    pd.testing.assert_frame_equal(taken(whole, [2, 0]), whole.iloc[[2, 0]])
    part = table_of(whole).part([2, 0])
    assert part.index is part.whole.index
    assert not part.is_default_index


def test_all_rows_are_a_new_object_too() -> None:
    whole = np.array([1, 2])
    part = taken(whole, range(2))
    part += 1
    assert whole.tolist() == [1, 2]


def test_some_rows_of_another_range_do_not_look_like_the_default_index() -> None:
    whole = pd.DataFrame({"a": [1, 2, 3]}, index=pd.RangeIndex(0, 6, 2))
    part = taken(whole, [0])
    assert type(part.index) is pd.Index
    assert part.index.tolist() == [0]
    assert table_of(whole).part([0]).kind == table_of(whole).kind == table_of(part).kind


def test_part_of_a_default_index_counts_as_one() -> None:
    part = table_of(frame(a=[1, 2, 3])).part([2, 1])
    assert part.is_default_index
    assert part.index.tolist() == [2, 1]


def test_no_rows_of_a_frame_have_its_columns() -> None:
    for whole in (frame(a=[1], b=["x"]), pl.DataFrame({"a": [1], "b": ["x"]})):
        assert list(taken(whole, []).columns) == ["a", "b"]
        assert table_of(taken(whole, [])).rows() == []


def test_places_may_be_numpys() -> None:
    for whole in (["a", "b"], SQUARE[:2], frame(a=[1, 2]), pl.Series([1, 2])):
        assert len(taken(whole, np.arange(2))) == 2  # type: ignore[arg-type]
        assert len(taken(whole, np.array([1]))) == 1  # type: ignore[arg-type]


def test_the_form_of_a_row_is_pinned() -> None:
    """Entries of older versions stay readable; another form needs another version of the key."""
    table = table_of(
        pd.DataFrame(
            {
                "age": pd.Series([18], dtype="int64"),
                "region": pd.Series(["south"], dtype=object),
                "sex": pd.Series(pd.Categorical.from_codes([0], pd.Index(["f"], dtype=object))),
                "note": pd.Series(["longer than sixteen bytes"], dtype=object),
            }
        ).set_axis(pd.Index(["age", "region", "sex", "note"], dtype=object), axis=1)
    )
    assert table.kind == (
        b"s10:pandas.DataFramels5:Indext1;NO4;s3:ages6:regions3:sexs4:note"
        b"4;nys3:<i8OCFls5:Indext1;NO1;s1:fOFRm0;T"
    )
    assert [row.hex(" ") for row in table.rows()] == [
        "12 00 00 00 00 00 00 00 00 73 35 3a 73 6f 75 74 68 00 00 00 00 00 00 00 00 00 "
        "00 00 00 00 00 00 00 01 df bd fc 6c b3 79 3f 6c ba 0b ad 10 e5 d9 21 61"
    ]
    numbers = table_of(np.array([[1.5, 2.0]]))
    assert numbers.kind == b"sd:numpy.ndarrayys3:<f8(2,)C"
    assert numbers.rows() == [np.array([1.5, 2.0], "<f8").tobytes()]
    assert table_of(["a"]).kind == b"s4:list"


def test_changing_the_part_leaves_the_whole() -> None:
    for whole in (SQUARE.copy(), np.asfortranarray(SQUARE), {"a": SQUARE.copy()}):
        part = taken(whole, [0, 2])
        (part["a"] if isinstance(part, dict) else part)[...] = -1
        np.testing.assert_array_equal(whole["a"] if isinstance(whole, dict) else whole, SQUARE)


def test_no_library_is_imported() -> None:
    code = (
        "import sys; from model_cache.keys.tables import table_of; "
        "assert table_of(['a', 'b']).rows(); "
        "assert not {'numpy', 'pandas', 'polars', 'pyarrow', 'scipy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


def test_a_row_of_a_list_is_its_items_canonical_form() -> None:
    values = POOLS["list"]
    assert table_of(values).rows() == list(map(INPUTS.encode, values))

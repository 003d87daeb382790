"""Results for many rows: each row is stored alone, and all are put together unchanged."""

from __future__ import annotations

import dataclasses
import datetime as dt
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model_cache.entries.rows import LengthError, RowsRefusedError, join, split
from model_cache.entries.values import Classes
from model_cache.keys.canonical import PREDICTIONS
from model_cache.keys.tables import Table, table_of

pd: Any = importlib.import_module("pandas")  # with or without its stubs
pl: Any = importlib.import_module("polars")

FRAME = pd.DataFrame({"a": [3.0, 1.0, 3.0], "b": ["x", None, "x"]})
LABELLED = FRAME.set_index(pd.Index(["u", "u", "t"], name="id"))
TABLES: dict[str, Any] = {
    "list": ["x", "y", "x"],
    "tuple": (1, 2, 1),
    "array": np.arange(6.0).reshape(3, 2),
    "feeds": {"ids": np.arange(3), "mask": np.ones((3, 2))},
    "frame": FRAME,
    "labelled frame": LABELLED,
    "series": FRAME["a"],
    "frame with dates": FRAME.set_index(pd.date_range("2024", periods=3)),
    "frame with levels": FRAME.set_index(pd.MultiIndex.from_tuples([(1, "a"), (1, "b"), (0, "a")])),
    "frame with another range": FRAME.set_index(pd.RangeIndex(0, 6, 2)),
    "frame with a named range": FRAME.set_index(pd.RangeIndex(3, name="id")),
    "polars": pl.DataFrame({"a": [1, 2, 1]}),
}


def assert_same(found: Any, expected: Any) -> None:
    """Check that two results are alike: container, dtypes, values, index, names and order."""
    assert type(found) is type(expected)
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(
            found, expected, check_exact=True, check_index_type="exact", check_column_type="exact"
        )
        assert type(found.index) is type(expected.index)
    elif isinstance(expected, pd.Series):
        pd.testing.assert_series_equal(found, expected, check_exact=True, check_index_type="exact")
        assert type(found.index) is type(expected.index)
    elif isinstance(expected, pl.DataFrame):
        assert found.schema == expected.schema
        assert found.equals(expected, null_equal=True)
    elif isinstance(expected, pl.Series):
        assert found.dtype == expected.dtype
        assert found.equals(expected, check_names=True, null_equal=True)
    elif isinstance(expected, np.ndarray) and expected.dtype == object:
        assert found.dtype == object
        assert found.shape == expected.shape
        assert_same(found.tolist(), expected.tolist())
    else:
        assert PREDICTIONS.encode(found) == PREDICTIONS.encode(expected)


def restored(result: Any, table: Table, **options: Any) -> Any:
    classes = Classes()
    parts = split(result, table, classes=classes, **options)
    return join(parts.form, parts.payloads, table, classes=classes)


def cached(function: Callable[[Any], Any], value: Any, known: Sequence[int] = ()) -> Any:
    """Return a result as a cache would: rows from two calls, each called with distinct rows."""
    whole, classes = table_of(value), Classes()
    rows = whole.rows()
    entries: dict[bytes, bytes] = {}
    forms = set()
    for wanted in (known, range(len(whole))):
        missing = {rows[at]: at for at in reversed(wanted) if rows[at] not in entries}
        part = whole.part(sorted(missing.values()))
        if len(part):
            parts = split(function(part.whole), part, classes=classes)
            forms.add(parts.form)
            entries |= dict(zip(part.rows(), parts.payloads, strict=True))
    (form,) = forms
    return join(form, [entries[row] for row in rows], whole, classes=classes)


def values_of(value: Any) -> list[float]:
    """Return a number for each row, which depends on the row alone."""
    return [float(sum(row) % 7) for row in table_of(value).rows()]


def index_of(value: Any) -> Any:
    return value.index if isinstance(value, pd.DataFrame | pd.Series) else None


def as_series(value: Any) -> Any:
    return pd.Series(values_of(value), name="score")


def as_series_like_its_input(value: Any) -> Any:
    return pd.Series(values_of(value), index=index_of(value), dtype="float32")


def as_frame_like_its_input(value: Any) -> Any:
    numbers = values_of(value)
    columns = {"p": numbers, "label": [f"{number}" for number in numbers], "n": [1] * len(numbers)}
    return pd.DataFrame(columns, index=index_of(value))


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "list": values_of,
    "tuple": lambda value: tuple(map(str, values_of(value))),
    "array": lambda value: np.array(values_of(value)),
    "embeddings": lambda value: np.outer(values_of(value), np.arange(5, dtype="f4")),
    "objects": lambda value: np.array([f"{each}" for each in values_of(value)], object),
    "Series": as_series,
    "Series of its index": as_series_like_its_input,
    "DataFrame of its index": as_frame_like_its_input,
    "probabilities": lambda value: pd.DataFrame({"no": values_of(value), "yes": values_of(value)}),
    "polars Series": lambda value: pl.Series("p", values_of(value)),
    "polars DataFrame": lambda value: pl.DataFrame({"p": values_of(value)}),
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("known", [(), (1,), (0, 2)])
def test_rows_from_several_calls_make_the_result_of_one(
    table: str, function: str, known: Sequence[int]
) -> None:
    value, call = TABLES[table], FUNCTIONS[function]
    before = PREDICTIONS.encode(table_of(value).rows())
    assert_same(cached(call, value, known), call(value))
    assert PREDICTIONS.encode(table_of(value).rows()) == before


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("count", [0, 1])
def test_no_row_and_one_row(table: str, function: str, count: int) -> None:
    value, call = table_of(TABLES[table]).take(range(count)), FUNCTIONS[function]
    assert_same(restored(call(value), table_of(value)), call(value))


@dataclasses.dataclass
class Label:
    name: str
    scores: list[float]


THREE: dict[str, Any] = {
    "long integers of C": np.array([1, 2, 2**62], np.longlong),  # as from ONNX Runtime
    "long integers of C, without a sign": np.array([[1, 2], [3, 4], [5, 2**63]], np.ulonglong),
    "objects": [Label("a", [1.0]), None, {"x": dt.date(2024, 1, 1)}],
    "arrays": [np.arange(3.0), np.zeros((2, 2), "f4"), np.array(["a"])],
    "big-endian": np.array([1.0, -0.0, float("nan")], ">f8"),
    "bools": np.array([[True], [False], [True]]),
    "text": np.array(["a", "", "\U0010ffff"]),
    "bytes": np.array([b"a", b"", b"abc"]),
    "moments": np.array(["2024-01-01", "NaT", "2024-01-02"], "M8[D]"),
    "complex": np.array([1j, complex(-0.0, 0.0), complex("nan")]),
    "no columns": np.zeros((3, 0)),
    "images": np.arange(24, dtype="u1").reshape(3, 2, 4),
    "Fortran": np.asfortranarray(np.arange(6.0).reshape(3, 2)),
    "object matrix": np.array([[1, "a"], [None, 2.0], ["", 3]], object),
    "Series of lists": pd.Series([[1], [2, 3], []]),
    "Series with a tuple as its name": pd.Series([1, 2, 3], name=("a", 1)),
    "Series of strings": pd.Series(["a", None, "\0"]),
    "string[python]": pd.Series(["a", None, ""], dtype="string[python]"),
    "string[pyarrow]": pd.Series(["a", None, ""], dtype="string[pyarrow]"),
    "mixed objects": pd.Series([1, "a", None], dtype=object),
    "category": pd.Series(pd.Categorical(["b", None, "a"], ["b", "c", "a"], ordered=True)),
    "category of ints": pd.Series(pd.Categorical([3, 1, None])),
    "Int64": pd.Series([1, None, 3], dtype="Int64"),
    "Float32": pd.Series([1.5, None, -0.0], dtype="Float32"),
    "boolean": pd.Series([True, None, False], dtype="boolean"),
    "zoned": pd.Series(pd.to_datetime(["2024-10-27", None, "2024"], format="mixed", utc=True)),
    "Berlin": pd.Series(pd.date_range("2024-10-27", periods=3, freq="h", tz="Europe/Berlin")),
    "timedelta": pd.Series(pd.to_timedelta([1, 2, None], unit="s")),
    "mixed frame": pd.DataFrame(
        {"i": [1, 2, 3], "s": ["a", None, "c"], "o": pd.Series([1, "b", None], dtype=object)}
    ),
    "frame of columns of one name": pd.DataFrame(
        [[1, "a"], [2, "b"], [3, "c"]], columns=["x", "x"]
    ),
    "frame of numbered columns": pd.DataFrame(np.arange(6.0).reshape(3, 2)),
    "frame of levels": pd.DataFrame(
        np.ones((3, 2)), columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", None])
    ),
    "frame without columns": pd.DataFrame(index=pd.RangeIndex(3)),
    "missing objects": pd.Series([pd.NA, pd.NaT, None], dtype=object),
    "period": pd.Series(pd.PeriodIndex(["2024", None, "2026"], freq="Y")),
    "interval": pd.Series(pd.arrays.IntervalArray.from_tuples([(0, 1), None, (1, 2)])),
    "arrow": pd.Series([1, None, 3], dtype="int16[pyarrow]"),
    "Series with a date as its name": pd.Series([1, 2, 3], name=dt.date(2024, 1, 1)),
    "frame of dates": pd.DataFrame(np.zeros((3, 1)), columns=pd.DatetimeIndex(["2024"])),
    "category of dates": pd.Series(pd.Categorical(pd.to_datetime(["2024", None, "2025"]))),
    "polars frame": pl.DataFrame(
        {
            "f": [1.0, None, float("nan")],
            "s": ["a", None, ""],
            "d": [dt.date(2024, 1, 1), None, dt.date(2024, 1, 2)],
            "t": [dt.time(1), None, dt.time(2)],
            "z": pl.Series([1, None, 2]).cast(pl.Datetime("ns", "Europe/Berlin")),
            "p": pl.Series([1, None, 2]).cast(pl.Duration("ms")),
            "e": pl.Series(["a", None, "b"], dtype=pl.Enum(["b", "a"])),
            "l": [[1.0], None, [2.0, None]],
            "a": pl.Series([[1, 2], None, [3, 4]], dtype=pl.Array(pl.Int8, 2)),
            "b": [True, None, False],
        }
    ),
}


@pytest.mark.parametrize("name", THREE)
def test_a_result_is_restored_exactly(name: str) -> None:
    table = table_of(["x", "y", "z"])
    result = THREE[name]
    again = restored(result, table)
    assert_same(again, result)
    if isinstance(result, np.ndarray):
        assert again.flags.writeable
        assert again.flags.owndata


@given(
    data=st.data(),
    dtype=st.one_of(
        hnp.boolean_dtypes(),
        hnp.integer_dtypes(),
        hnp.floating_dtypes(),
        hnp.complex_number_dtypes(sizes=(64, 128)),
        hnp.datetime64_dtypes(),
        hnp.timedelta64_dtypes(),
    ),
)
def test_any_array_is_restored_exactly(data: st.DataObject, dtype: Any) -> None:
    if dtype.itemsize > 8 and dtype.kind == "f":
        dtype = np.dtype("f8")
    shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)
    result = data.draw(hnp.arrays(dtype, shapes))
    table = table_of(list(range(len(result))))
    assert_same(restored(result, table), result)


@given(st.lists(st.recursive(st.none() | st.floats() | st.text() | st.integers(), st.lists)))
def test_any_list_is_restored_exactly(result: list[Any]) -> None:
    assert_same(restored(result, table_of(list(range(len(result))))), result)


def test_many_outputs() -> None:
    table = table_of(np.zeros((2, 3)))
    result = [np.array([1, 2]), np.array([[0.1, 0.9], [0.2, 0.8]], "f4"), [{1: 0.5}, {1: 0.25}]]
    assert_same(restored(result, table, outputs=True), result)
    assert_same(restored(tuple(result), table, outputs=True), tuple(result))
    with pytest.raises(LengthError, match="expected 2 results for 2 rows, got 3"):
        split([np.zeros(2), np.zeros(3)], table, outputs=True)
    with pytest.raises(RowsRefusedError, match=r"expected a list of outputs, got type numpy\.nda"):
        split(np.zeros(2), table, outputs=True)


@pytest.mark.parametrize("result", [[1, 2], np.zeros(4), pd.Series([1]), pl.Series([1])])
def test_another_number_of_results(result: Any) -> None:
    with pytest.raises(LengthError, match=f"expected 3 results for 3 rows, got {len(result)}"):
        split(result, table_of([1, 2, 3]))


def noted(**attrs: Any) -> Any:
    frame = pd.DataFrame({"a": [1, 2, 3]})
    frame.attrs.update(attrs)
    return frame


class MyList(list[Any]):
    pass


@pytest.mark.parametrize(
    "result",
    [
        "abc",
        {1: 1, 2: 2, 3: 3},
        3.0,
        None,
        np.array(3.0),
        np.ma.masked_array([1, 2, 3], [True, False, False]),
        np.zeros(3, "longdouble"),
        np.zeros(3, "i4,i4"),
        MyList([1, 2, 3]),
        [object(), object(), object()],
        np.array([object()] * 3),
        pd.Series([1, 2, 3], index=[5, 6, 7]),
        pd.Series([1, 2, 3], index=[0, 1, 2]),
        pd.Series([1, 2, 3], index=pd.RangeIndex(3, name="id")),
        pd.Series(pd.arrays.SparseArray([0.0, 1.0, 0.0])),
        pd.Series([1, 2, 3], name=frozenset([object()])),
        noted(source="here"),
        pl.Series(["a", "b", "c"], dtype=pl.Categorical),
        pl.Series([{"a": 1}] * 3),
    ],
    ids=lambda result: str(type(result).__name__),
)
def test_what_would_change_is_refused(result: Any) -> None:
    with pytest.raises(RowsRefusedError):
        split(result, table_of([1, 2, 3]))


def test_a_sparse_matrix_is_refused_with_advice() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(RowsRefusedError, match="toarray"):
        split(sparse.csr_matrix(np.eye(3)), table_of([1, 2, 3]))


def test_forms_are_short() -> None:
    table = table_of([1, 2, 3])
    assert len(split(np.zeros(3), table).form) <= 12
    assert split(np.zeros(3), table).payloads == [bytes(8)] * 3


def test_a_hundred_thousand_rows() -> None:
    count = 100_000
    table = table_of(np.arange(count))
    numbers = np.random.default_rng(1).random(count)
    assert_same(restored(numbers, table), numbers)
    assert_same(restored(pd.Series(numbers), table), pd.Series(numbers))


def test_the_callers_index_is_not_shared() -> None:
    again = restored(pd.Series([1, 2, 3], index=LABELLED.index), table_of(LABELLED))
    again.index.name = "renamed"
    assert LABELLED.index.name == "id"


PARTS = {name: split(result, table_of([1, 2, 3])) for name, result in THREE.items()}


@pytest.mark.parametrize("name", THREE)
@given(data=st.data())
def test_damaged_bytes_raise_or_give_a_result(name: str, data: st.DataObject) -> None:
    form, payloads = PARTS[name]
    payloads = list(payloads)
    target = data.draw(st.integers(0, 3))
    damaged = bytearray(form if target == 3 else payloads[target])
    for _ in range(data.draw(st.integers(1, 3))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        damaged = damaged[: data.draw(st.integers(0, len(damaged)))]
    if target == 3:
        form = bytes(damaged)
    else:
        payloads[target] = bytes(damaged)
    try:
        join(form, payloads, table_of([1, 2, 3]))
    except Exception:
        return


@pytest.mark.parametrize("name", [name for name in THREE if PARTS[name].payloads[0]])
def test_a_payload_of_another_length_is_a_miss(name: str) -> None:
    form, payloads = PARTS[name]
    for other in (payloads[0][:-1], payloads[0] + b"\0", b""):
        with pytest.raises(Exception):  # noqa: B017, PT011 - any, as for all damaged bytes
            join(form, [other, *payloads[1:]], table_of([1, 2, 3]))


def test_moving_a_byte_between_payloads_is_a_miss() -> None:
    form, payloads = PARTS["moments"]
    with pytest.raises(ValueError, match="another length"):
        join(
            form,
            [payloads[0][:-1], payloads[0][-1:] + payloads[1], payloads[2]],
            table_of([1, 2, 3]),
        )


@pytest.mark.parametrize(
    "form",
    [
        ["n", "O"],
        ["n", "V8"],
        ["n", "<U0"],
        ["n", "f8,f8"],
        ["n", ["<f8", 2**62, 2**62, 0]],
        ["n", ["<f8", -1]],
        ["n", ["<U900000000", 0]],
        ["n", ["|b1", True]],
        [["r"], None],
        [["o", 2**40], None],
        ["n"],
        ["n", "<f8", "<f8"],
        ["l", "<f8"],
        ["n", None],
        [["s", "x", None, "n"], "<f8"],
        [["s", "i", None, "n"], "<f8"],
        [["s", "r", None, ["m", "category"]], "<f8"],
        [["s", "r", None, ["z", "int64"]], "<M8[ns]"],
        [["f", "r", b"\x01", "n"], ["<f8", 1]],
        [["s", "r", None, ["c", False, b"\x90"]], "|i1"],
        [["p", "x", "Object"], None],
        [["p", "x", ["DataFrame", []]], None],
    ],
    ids=str,
)
def test_a_forged_form_is_a_miss(form: Any) -> None:
    table = table_of([1])
    for payload in (bytes(8), b"", b"\xc0", b"\x90"):
        if form == ["n", "<f8"]:
            continue
        with pytest.raises(Exception):  # noqa: B017, PT011
            join(msgpack.packb(form), [payload], table)


@pytest.mark.parametrize("form", [b"", b"\xc1", b"\x90", b"\xc0", msgpack.packb("n")])
def test_a_damaged_form_is_a_miss(form: bytes) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011
        join(form, [bytes(8)], table_of([1]))

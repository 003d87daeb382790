"""A cached function of many rows returns what the function alone returns."""

from __future__ import annotations

import copy
import datetime as dt
import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from model_cache import Cache, ConfigurationError, bypass, last_outcome, record_outcomes, refresh
from tests.servers import Server
from tests.stored import entries
from tests.waiting import poll
from tests.wrappers.functions_under_test import OPTIONS, counted
from tests.wrappers.tables_under_test import frames, same

_numbers = itertools.count()

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "the input itself": lambda df: df,
    "a copy": lambda df: df.copy(),
    "a column": lambda df: df.iloc[:, 0],
    "numbers": lambda df: np.array([float(len(repr(row))) for row in df.itertuples(index=False)]),
    "a series": lambda df: pd.Series(
        [len(repr(row)) for row in df.itertuples(index=False)], index=df.index, dtype="int32"
    ),
    "words": lambda df: [str(row) for row in df.astype(object).to_numpy().tolist()],
    "two numbers": lambda df: np.stack([df.isna().sum(axis=1).to_numpy()] * 2, axis=1),
    "missing": lambda df: df.isna(),
    "reset": lambda df: df.reset_index(drop=True),
    "with another column": lambda df: df.assign(missing=df.isna().sum(axis=1)),
    "a tuple": lambda df: tuple(df.isna().sum(axis=1).tolist()),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=12)
@given(data=st.data())
def test_hits_mixtures_and_misses_are_what_the_function_returns(
    server: Server, name: str, data: st.DataObject
) -> None:
    function = FUNCTIONS[name]
    frame = data.draw(frames())
    count = len(frame)
    first = data.draw(st.lists(st.integers(0, max(0, count - 1)), max_size=count and 4))
    with Cache(server.url, near_cache=data.draw(st.sampled_from([None, 999]))) as cache:
        version = str(next(_numbers))
        cached = cache.memoize_rows(version=version, name=name, batch_equality="ignore")(function)
        some = frame.iloc[first]
        for rows in (some, frame, frame, some):
            before = copy.deepcopy(rows)
            assert same(cached(rows), function(before))
            pd.testing.assert_frame_equal(rows, before, check_exact=True)


ARRAYS: list[Any] = [
    np.arange(5),
    np.arange(6).reshape(3, 2),
    np.arange(6).reshape(6, 1),
    np.array([1, 1, 2, 1]),
    np.zeros((3, 0)),
    np.zeros((0, 3)),
    np.array(["a", "bb", ""]),
    np.array([b"a\0", b"b"]),
    np.array([1 + 2j, complex("nan")]),
    np.array(["2020-01-01", "NaT"], "M8[D]"),
    np.array([(1, 2.0), (1, 3.0)], dtype=[("a", "i4"), ("b", "f8")]),
    np.ma.array([1, 2, 3], mask=[False, True, False]),
    np.array([1, "a", None, 2.5, True], object),
    np.array([True, False, True]),
    np.array([1, np.nan], np.float32),
    np.array([1, 2], np.longdouble),
    np.array([1, 2], ">i4"),
    np.arange(10)[::2],
    np.arange(12.0).reshape(4, 3)[:, ::2],
    np.asfortranarray(np.arange(6.0).reshape(3, 2)),
    np.broadcast_to(np.arange(3.0), (4, 3)),
    np.array(5),
    [1, True, 1.0, "1", None],
    (1, 2, 1),
    [],
    (),
    ["", "a", ""],
    [[1], [1.0], [True]],
    pl.Series("x", [1, None, 1]),
    pl.DataFrame({"a": [1, None], "b": ["x", "y"]}),
    pd.Series([1, 2], index=[5, 5]),
    pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]),
    pd.DataFrame(index=range(3)),
    pd.Series(pd.Categorical(["a", "b"], categories=["b", "a", "z"])),
    pd.Series(pd.date_range("2020", periods=3, tz="Europe/Berlin")),
    range(3),
    "abc",
    {"a": np.arange(3), "b": np.ones(3)},
]


@pytest.mark.parametrize("number", range(len(ARRAYS)))
def test_every_container_comes_back_as_it_is(cache: Cache, number: int) -> None:
    cached = cache.memoize_rows(version="1", name="identity")(lambda rows: rows)
    value = ARRAYS[number]
    for _ in range(3):
        assert same(cached(value), value)


def test_tables_that_only_look_alike_do_not_share_entries(cache: Cache) -> None:
    def describe(rows: Any) -> list[str]:
        kind = f"{type(rows).__name__} {getattr(rows, 'dtype', '')} {getattr(rows, 'ndim', '')}"
        if isinstance(rows, pd.DataFrame):
            kind += f" {rows.columns.tolist()} {rows.dtypes.tolist()}"
        return [kind] * len(rows)

    cached = cache.memoize_rows(version="1", name="describe")(describe)
    alike: list[Any] = [
        np.array([1, 1]),
        np.array([[1], [1]]),
        np.array([1.0, 1.0]),
        np.array([True, True]),
        np.array([1, 1], "i4"),
        np.array([1, 1], object),
        [1, 1],
        (1, 1),
        pd.Series([1, 1]),
        pd.Series([1, 1], dtype="Int64"),
        pd.Series([True, True]),
        pd.DataFrame({"a": [1, 1], "b": [1, 1]}),
        pd.DataFrame({"b": [1, 1], "a": [1, 1]}),
        pd.DataFrame({"a": [1, 1], "b": [True, True]}),
        pd.DataFrame({"a": ["x", "x"]}, dtype="category"),
        pd.DataFrame({"a": pd.Categorical(["x", "x"], categories=["x", "y"])}),
        pd.DataFrame({"a": pd.to_datetime(["2020-01-01"] * 2)}),
        pd.DataFrame({"a": pd.to_datetime(["2020-01-01"] * 2, utc=True)}),
        pl.Series([1, 1]),
    ]
    for _ in range(2):
        for rows in alike:
            assert cached(rows) == describe(rows)


@pytest.mark.parametrize("options", OPTIONS)
def test_each_option_works_with_rows(server: Server, options: str) -> None:
    with Cache(server.url, **OPTIONS[options]) as cache:
        function, sizes = counted(lambda rows: np.asarray(rows) * 0.5)
        cached = cache.memoize_rows(version="1", name="half", batch_equality="ignore")(function)
        rows = np.arange(2500) % 2000
        assert same(cached(rows), rows * 0.5)
        poll(lambda: cached.stats().stored == 2000)
        assert same(cached(rows), rows * 0.5)
        assert sizes == [2000]
        assert same(cached(np.arange(1999, 2003)), np.arange(1999, 2003) * 0.5)
        assert sizes == [2000, 3]
        assert cached.cache_info().hits == 2500 + 500 + 1


@pytest.mark.parametrize("near", [None, 1000])
def test_near_entries_with_a_tag_cost_no_round_trip(server: Server, near: int | None) -> None:
    with Cache(server.url, near_cache=near, integrity=True) as cache:
        cached = cache.memoize_rows(version="1", name="f")(lambda rows: rows * 2)
        cached(np.arange(10))
        assert same(cached(np.arange(10)), np.arange(10) * 2)
        assert cached.stats().near_hits == (10 if near else 0)


def test_bypass_refresh_and_outcomes(cache: Cache) -> None:
    function, sizes = counted(lambda rows: [len(sizes)] * len(rows))
    cached = cache.memoize_rows(version="1", name="count", batch_equality="ignore")(function)
    assert cached([1, 2]) == [1, 1]
    with bypass():
        assert cached([1, 2]) == [2, 2]
    assert cached([1, 2]) == [1, 1]
    outcome = last_outcome()
    assert outcome is not None
    assert (outcome.kind, outcome.rows) == ("hit", 2)
    with refresh():
        assert cached([1, 2]) == [3, 3]
    with record_outcomes() as outcomes:
        assert cached([1, 2, 3]) == [3, 3, 4]
    assert sorted((each.kind, each.rows) for each in outcomes) == [("hit", 2), ("miss", 1)]


@pytest.mark.parametrize("near", [None, 1000])
def test_a_damaged_entry_is_computed_again_and_healed(
    server: Server, client: redis.Redis, near: int | None
) -> None:
    for integrity in (False, True):
        with Cache(server.url, integrity=integrity) as cache:
            function, sizes = counted(lambda rows: [f"<{row}>" for row in rows])
            version = f"{integrity}"
            cached = cache.memoize_rows(version=version, name="f", batch_equality="ignore")(
                function
            )
            rows = list(range(20))
            cached(rows)
            for number, key in enumerate(entries(client, f"*/{version}/*")):
                stored: Any = client.get(key)
                entry = bytearray(stored)
                entry[(7 * number) % 12 if not integrity else number % len(entry)] ^= 0x10
                client.set(key, bytes(entry) if number else b"")
            for _ in range(2):
                assert cached(rows) == [f"<{row}>" for row in rows]
            computed = len(sizes)
            assert cached(rows) == [f"<{row}>" for row in rows]
            assert len(sizes) == computed


def test_another_length_is_an_error_and_nothing_is_stored(
    cache: Cache, client: redis.Redis
) -> None:
    cached = cache.memoize_rows(version="1", name="f")(lambda rows: rows[:-1])
    for rows in ([1, 2, 3], np.arange(3), pd.Series([1, 2, 3])):
        with pytest.raises(Exception, match="expected 3 results for 3 rows, got 2"):
            cached(rows)
    assert entries(client) == []


def test_other_arguments_are_part_of_the_key(cache: Cache) -> None:
    @cache.memoize_rows(version="1", name="f", ignored=["session"])
    def scaled(
        session: object, rows: list[int], /, by: int = 2, *more: int, **kw: Any
    ) -> list[int]:
        return [row * by + sum(more) + len(kw) for row in rows]

    for _ in range(2):
        assert scaled(object(), [1, 2]) == [2, 4]
        assert scaled(object(), [1, 2], 2) == [2, 4]
        assert scaled(object(), [1, 2], by=3) == [3, 6]
        assert scaled(object(), [1, 2], 3, 1) == [4, 7]
        assert scaled(object(), [1, 2], x=1) == [3, 5]
        assert scaled(object(), [1, 2], True) == [1, 2]
    assert scaled.stats().misses == 10
    with pytest.raises(TypeError):
        scaled(object())  # type: ignore[call-arg]


def test_a_decorated_function_gets_rows_and_defaults_as_they_were_passed(cache: Cache) -> None:
    passed: list[Any] = []

    def noting(function: Any) -> Any:
        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            passed.append((args, kwargs))
            return function(*args, **kwargs)

        return inner

    @noting
    def scaled(rows: list[int], by: int = 2) -> list[int]:
        return [row * by for row in rows]

    options: Any = {"version": "1", "revision": "1", "batch_equality": "ignore"}
    cached = cache.memoize_rows(**options)(scaled)
    assert cached(rows=[1, 2]) == [2, 4]
    assert cached(rows=[2, 3]) == cached([2, 3]) == [4, 6]
    assert cached([3, 4], by=2) == [6, 8]
    assert passed[1:] == [((), {"rows": [3]}), (([3, 4],), {"by": 2})]
    assert not cached.explain([1]).compared_to([1], by=2).same


def test_a_result_whose_dtype_depends_on_the_batch_is_computed_for_the_whole(cache: Cache) -> None:
    def numbers(rows: Any) -> Any:
        return np.array([np.nan if row is None else row for row in rows])

    cached = cache.memoize_rows(version="1", name="numbers", batch_equality="ignore")(numbers)
    for rows in ([1, 2], [None], [1, None], [2, 1], [None, 3]):
        assert same(cached(rows), numbers(rows)) or rows == [2, 1]  # what came last
        np.testing.assert_array_equal(cached(rows), numbers(rows))


def test_rows_that_depend_on_their_number(server: Server) -> None:
    def share(rows: Any) -> Any:
        return np.asarray(rows) / len(rows)

    with Cache(server.url) as cache:
        warned = cache.memoize_rows(version="1", name="warned")(share)
        assert warned([7.0])[0] == 7.0  # one row says nothing
        with pytest.warns(UserWarning, match="answers differently"):
            assert same(warned([1.0, 2.0]), np.array([0.5, 1.0]))
        ignored = cache.memoize_rows(version="1", name="ignored", batch_equality="ignore")(share)
        assert same(ignored([1.0, 2.0]), np.array([0.5, 1.0]))
        refused = cache.memoize_rows(version="1", name="refused", batch_equality="refuse")(share)
        with pytest.warns(UserWarning, match="answers differently"):
            assert same(refused([1.0, 2.0]), np.array([1.0, 2.0]))
        assert same(refused([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]))


def test_a_function_that_changes_its_input_is_computed_from_what_the_caller_passed(
    server: Server,
) -> None:
    def doubled(rows: Any) -> Any:
        rows *= 2
        return rows

    for mode in ("warn", "refuse", "ignore"):
        with Cache(server.url, timeout=5.0, batch_equality=mode) as cache:
            cached = cache.memoize_rows(version=mode, name="doubled")(doubled)
            for _ in range(2):
                assert same(cached(np.arange(4)), np.arange(4) * 2)


def test_what_a_hit_returns_is_the_callers_own(cache: Cache) -> None:
    cached = cache.memoize_rows(version="1", name="f")(lambda rows: rows)
    for _ in range(3):
        rows = np.arange(4)
        result = cached(rows)
        result += 1
        assert same(rows, np.arange(4)) or result is rows
        frame = pd.DataFrame({"a": [1, 2]})
        found = cached(frame)
        found.loc[0, "a"] = 9
        assert frame is found or frame["a"].tolist() == [1, 2]


def test_a_hundred_thousand_rows(cache: Cache) -> None:
    count = 100_000
    frame = pd.DataFrame({"a": np.arange(count) % 70_000, "b": ["x", "y"] * (count // 2)})

    def function(rows: pd.DataFrame) -> Any:
        return rows["a"] * 0.5 + rows["b"].str.len()

    cached = cache.memoize_rows(version="1", name="f")(function)
    expected = function(frame)
    for _ in range(2):
        assert same(cached(frame), expected)
    assert cached.cache_info().currsize == len(frame.drop_duplicates())


def test_a_very_wide_result_is_returned(cache: Cache) -> None:
    frame = pd.DataFrame(np.ones((2, 9000)), columns=[f"a long name {n}" for n in range(9000)])
    cached = cache.memoize_rows(version="1", name="f")(lambda rows: rows * 2)
    for _ in range(2):
        assert same(cached(frame), frame * 2)


def test_a_result_that_cant_be_taken_apart_is_not_computed_twice_for_long(cache: Cache) -> None:
    function, sizes = counted(lambda rows: dict.fromkeys(rows) if len(sizes) < 5 else rows)
    cached = cache.memoize_rows(version="1", name="f", batch_equality="ignore")(function)
    for _ in range(3):
        assert cached([1, 1, 2]) == {1: None, 2: None}
    assert sizes == [2, 3, 3, 3]
    for _ in range(2):  # its results become storable, and equal rows help again
        assert cached([3, 4]) == [3, 4]
        assert cached([3, 3, 4]) == [3, 3, 4]
    assert sizes == [2, 3, 3, 3, 2]


def test_a_column_of_objects_stays_one_when_all_are_strings(cache: Cache) -> None:
    cached = cache.memoize_rows(version="1", name="column")(lambda df: df["a"])
    table = cache.memoize_rows(version="1", name="table")(lambda df: df)
    frame = pd.DataFrame({"a": pd.Series([1, "x", None, "y"], dtype=object)})
    for rows in (frame, frame.iloc[[1, 3]], frame.iloc[[3]], frame.iloc[[2]]):
        assert same(cached(rows), rows["a"])
        assert same(table(rows), rows)
    assert cached.stats().hits >= 1


@pytest.mark.parametrize(
    "index",
    [
        pd.date_range("2026-01-01", periods=4, freq="MS"),
        pd.period_range("2026-01", periods=4, freq="M"),
        pd.MultiIndex.from_product([["a", "b"], pd.date_range("2026-01-01", periods=2, freq="MS")]),
    ],
    ids=["dates", "periods", "levels"],
)
def test_a_model_may_look_at_times_in_the_index(cache: Cache, index: Any) -> None:
    def months(frame: Any) -> Any:
        times = frame.index.get_level_values(frame.index.nlevels - 1)
        return frame["x"].to_numpy() * 100 + times.month.to_numpy()

    cached = cache.memoize_rows(version="1", name="months", revision="1")(months)
    frame = pd.DataFrame({"x": [1, 1, 1, 1]}, index=index)
    for _ in range(2):
        assert same(cached(frame), months(frame))
        assert same(cached(frame.iloc[::-1]), months(frame.iloc[::-1]))
    assert cached.stats().misses == len(set(index.get_level_values(index.nlevels - 1)))


DAYS = pd.date_range("2026-01-01", periods=3)


@pytest.mark.parametrize(
    "index",
    [
        pd.Index(DAYS.date, dtype=object),
        pd.Index([*DAYS[:2], "x"], dtype=object),
        pd.Index([dt.timedelta(1), dt.timedelta(2), None], dtype=object),
        pd.CategoricalIndex(DAYS),
        pd.IntervalIndex.from_breaks(pd.date_range("2026-01-01", periods=4)),
        pd.MultiIndex.from_arrays([["a", "a", "b"], pd.Categorical(DAYS)]),
    ],
    ids=["dates", "mixed", "durations", "categories", "intervals", "levels"],
)
def test_a_model_may_look_at_times_of_any_type_in_the_index(cache: Cache, index: Any) -> None:
    def labels(frame: Any) -> list[str]:
        return list(map(str, frame.index))

    cached = cache.memoize_rows(version="1", name="labels", revision="1")(labels)
    frame = pd.DataFrame({"x": [1, 1, 1]}, index=index)
    for _ in range(2):
        assert cached(frame) == labels(frame)
        assert cached(frame.iloc[::-1]) == labels(frame.iloc[::-1])
    assert cached.stats().misses == 3


def test_a_model_finds_times_in_the_index_by_their_name_and_place(cache: Cache) -> None:
    cached = cache.memoize_rows(version="1")(lambda frame: frame.reset_index())
    second = cache.memoize_rows(version="1", name="level")(lambda frame: [frame.index.nlevels])
    for name in (None, "day", "month"):
        frame = pd.DataFrame({"x": [1]}, index=pd.DatetimeIndex(DAYS[:1], name=name))
        assert same(cached(frame), frame.reset_index())
        for levels in ([DAYS[:1]], [DAYS[:1], [1]], [[1], DAYS[:1]]):
            frame.index = pd.MultiIndex.from_arrays(levels, names=[name, None][: len(levels)])
            assert second(frame) == [len(levels)]
    assert second.stats().hits == 0


def test_a_model_may_look_at_arrows_times_in_the_index(cache: Cache) -> None:
    pytest.importorskip("pyarrow")
    cached = cache.memoize_rows(version="1")(lambda frame: list(map(str, frame.index)))
    for dtype in ("timestamp[ns][pyarrow]", "date32[pyarrow]"):
        for day in DAYS:
            frame = pd.DataFrame({"x": [1]}, index=pd.Index(pd.array([day], dtype=dtype)))
            assert cached(frame) == [str(frame.index[0])]


class Lazy:
    """A container that does not know its length, such as an array of dask, or claims nonsense."""

    def __init__(self, length: float = float("nan")) -> None:
        self.shape = (length, 2)


def test_arguments_are_rows_only_if_the_function_says_so(cache: Cache) -> None:
    def doubled(*rows: int) -> list[int]:
        return [2 * row for row in rows]

    cached = cache.memoize_rows(version="1", rows="rows")(doubled)
    assert [cached(1, 2), cached(2, 3), cached(5)] == [[2, 4], [4, 6], [10]]
    assert cached.stats().hits == 1
    with pytest.raises(ConfigurationError, match=r'the first parameter is \*rows.*rows="rows"'):
        cache.memoize_rows(version="1")(doubled)
    with pytest.raises(ConfigurationError, match=r"the first parameter is \*\*rows"):
        cache.memoize_rows(version="1")(lambda **rows: rows)


class Nested:
    """A container without a shape, such as a nested tensor of PyTorch."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


def test_objects_that_can_not_be_read_pass_through(cache: Cache) -> None:
    rows, nested = [1, 2], Nested()
    cached = cache.memoize_rows(version="1", name="nested")(lambda value: value)
    assert cached(nested) is nested
    outcome = last_outcome()
    assert outcome is not None
    assert (outcome.kind, outcome.store_error) == ("uncacheable", None)
    whole = cache.memoize_rows(version="1", name="whole", revision="1")(lambda _: nested)
    assert whole(rows) is nested
    with pytest.raises(ConfigurationError, match="reading it raised RuntimeError"):
        cache.memoize_rows(version="1")(lambda _: nested)

    class Model:
        def predict(self, _: Any) -> Any:
            return [nested, nested]

    model = cache.wrap(Model(), name="model", version="1", revision="1")
    assert model.predict(rows) == [nested, nested]
    assert model.predict(nested) == [nested, nested]


@pytest.mark.parametrize("enabled", [True, False])
def test_a_container_of_unknown_length_gets_its_result(server: Server, enabled: bool) -> None:
    with Cache(server.url, enabled=enabled) as cache:
        cached = cache.memoize_rows(version="1", name="lazy")(lambda rows: rows.shape[1])
        assert cached(Lazy()) == cached(Lazy(-5)) == cached(Lazy(10**400)) == 2
        assert cached.stats().uncacheable == (3 if enabled else 0)

"""`explain` says why two calls share a key, or why they do not."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from sklearn.linear_model import LinearRegression

from model_cache import Cache, Explanation, NotCacheableError
from tests.wrappers.tables_under_test import frames

NOON = datetime(2026, 1, 1, 12)
PEOPLE = pd.DataFrame(
    {"age": [1, 2], "bmi": [1.5, 2.5], "at": pd.to_datetime(["2026-01-01", "2026-01-02"])}
)


@pytest.fixture
def cache() -> Cache:
    return Cache("redis://nowhere:1")


@dataclasses.dataclass
class Login:
    user: str
    token: str = dataclasses.field(default="", repr=False)


# Functions.


def test_the_arguments_that_differ_are_named(cache: Cache) -> None:
    @cache.memoize(version="1", name="risk")
    def risk(age: float, at: datetime, *, tags: tuple[str, ...] = ()) -> float:
        return age

    call = risk.explain(42, NOON)
    assert str(call) == f"Key: {risk.cache_key(42, at=NOON)}"
    assert call.key == risk.cache_key(42, NOON)
    assert repr(call) == f"ExplainedCall(key={call.key!r}, no_key=None)"
    explanation = call.compared_to(42.0, at=NOON.replace(minute=1), tags=("a",))
    assert (explanation.key_a, explanation.same) == (call.key, False)
    assert str(explanation) == (
        "The inputs have different keys.\n"
        "They differ in:\n"
        "  age: 42 and 42.0, their types differ: int and float\n"
        "  at: datetime.datetime(2026, 1, 1, 12, 0) and datetime.datetime(2026, 1, 1, 12, 1)\n"
        "  tags: their lengths differ: 0 and 1"
    )


def test_it_does_not_matter_how_an_argument_is_passed(cache: Cache) -> None:
    @cache.memoize(version="1")
    def risk(age: int, bmi: float = 25.0) -> float:
        return age * bmi

    explanation = risk.explain(42).compared_to(bmi=25.0, age=42)
    assert explanation.same
    assert str(explanation) == "The inputs have the same key."


def test_ignored_arguments_are_named_apart(cache: Cache) -> None:
    @cache.memoize(version="1", ignored=["client", "trace"])
    def risk(client: object, age: int, **more: Any) -> float:
        return age

    explanation = risk.explain(1, 42, trace=1, z=1).compared_to(2, 42, trace=2, z=1)
    assert explanation.same
    assert [str(each) for each in explanation.ignored] == [
        "client: 1 and 2",
        "more['trace']: 1 and 2",
    ]


def test_a_call_without_a_key_names_the_argument(cache: Cache) -> None:
    @cache.memoize(version="1")
    def risk(age: int, more: Any = None) -> float:
        return age

    call = risk.explain(42, more=[object()])
    reason = "more[0]: a value of type builtins.object has no canonical form"
    assert call.key is None
    assert str(call.no_key).startswith(reason)
    assert str(call).startswith(f"The call has no key: {reason}")
    explanation = call.compared_to(42)
    assert (explanation.no_key_a, explanation.no_key_b) == (call.no_key, None)
    with pytest.raises(NotCacheableError, match=r"^more"):
        risk.cache_key(42, [object()])


def test_arguments_that_do_not_fit_are_a_type_error(cache: Cache) -> None:
    @cache.memoize(version="1")
    def risk(age: int) -> float:
        return age

    @cache.memoize_rows(version="1")
    def risks(ages: list[int]) -> list[int]:
        return ages

    for explain in (risk.explain, risks.explain):
        with pytest.raises(TypeError, match=r"missing a required argument: 'ages?'"):
            explain()  # type: ignore[call-arg]


def test_secrets_are_not_shown(cache: Cache) -> None:
    @cache.memoize(version="1")
    def risk(login: Login, password: SecretStr) -> float:
        return 1.0

    explanation = risk.explain(Login("a", "hunter1"), SecretStr("hunter2")).compared_to(
        Login("a", "hunter3"), SecretStr("hunter4")
    )
    assert [each.field for each in explanation.differences] == ["login.token", "password"]
    assert "hunter" not in f"{explanation} {explanation!r}"


def test_with_a_key_secret_no_value_is_shown() -> None:
    cache = Cache("redis://nowhere:1", key_secret="k")

    @cache.memoize(version="1", name="risk")
    def risk(age: float) -> float:
        return age

    @cache.memoize_rows(version="1", name="risks")
    def risks(ages: list[float]) -> list[float]:
        return ages

    for call, other in (
        (risk.explain(11.23), risk.explain(11.23).compared_to(22.34)),
        (risks.explain([11.23]), risks.explain([11.23]).compared_to([22.34])),
    ):
        shown = str(other).replace(str(call.key), "").replace(str(other.key_b), "")
        assert "their values differ" in shown
        assert not any(text in shown for text in ("11.2", "22.3"))
        assert other.hides_values


# Rows.


def rows_explained(cache: Cache, a: Any, b: Any) -> Explanation:
    @cache.memoize_rows(version="1", name="rows", rows="rows")
    def function(rows: Any) -> Any:
        return rows

    call = function.explain(a)
    explanation = call.compared_to(b)
    assert call.key == explanation.key_a == function.cache_keys(a)[0]
    assert explanation.key_b == function.cache_keys(b)[0]
    assert explanation.same == (explanation.key_a == explanation.key_b)
    assert explanation.same == (not explanation.differences)
    return explanation


X = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    ("a", "b", "lines"),
    [
        (["sun", "snow"], ["sun"], []),
        (["sun"], ["snow"], ["rows: 'sun' and 'snow'"]),
        ([{"a": 1}], [{"a": 2}], ["rows['a']: 1 and 2"]),
        (["sun"], ("sun",), ["rows: their types differ: list and tuple"]),
        (X, X[:1], []),
        (X, X + 1, [f"rows[{n}]: {n}.0 and {n + 1}.0" for n in range(3)]),
        (X, X.astype("f4"), ["rows: their dtypes differ: float64 and float32"]),
        (X, X[:, :2], ["rows: their lengths differ: 3 and 2"]),
        (
            X,
            np.asfortranarray(X),
            ["rows: what their rows share differs, such as the layout in memory"],
        ),
        (
            {"x": X[:, 0]},
            {"x": X[:, 1], "y": X},
            ["rows['y']: only b has it", "rows['x']: 0.0 and 1.0"],
        ),
        (PEOPLE, PEOPLE.head(1), []),
        (PEOPLE, PEOPLE.assign(age=2), ["rows.age: 1 and 2"]),
        (
            PEOPLE,
            PEOPLE.assign(age=PEOPLE.age.astype("int32")),
            ["rows.age: their dtypes differ: int64 and int32"],
        ),
        (PEOPLE, PEOPLE[["bmi", "age", "at"]], ["rows: the columns are in another order"]),
        (
            PEOPLE,
            PEOPLE.rename(columns={"at": 3}),
            ["rows.at: only a has it", "rows[3]: only b has it"],
        ),
        (
            PEOPLE,
            PEOPLE.set_axis(["p", "q"]),
            ["rows.index: they differ: the default one and Index"],
        ),
        (PEOPLE.set_axis(["p", "q"]), PEOPLE.set_axis(["r", "q"]), []),
        (
            PEOPLE.set_index("at"),
            PEOPLE.set_axis(pd.DatetimeIndex(["2027-01-01", "2026-01-02"], name="at")).drop(
                columns="at"
            ),
            ["rows.index: Timestamp('2026-01-01 00:00:00') and Timestamp('2027-01-01 00:00:00')"],
        ),
        (
            PEOPLE.set_index("at"),
            PEOPLE.set_index("at").rename_axis("when"),
            ["rows.index[0]: 'at' and 'when', the names of its levels"],
        ),
        (PEOPLE.age, PEOPLE.age.rename("years"), ["rows.name: 'age' and 'years'"]),
        (PEOPLE.age, PEOPLE.age + 1, ["rows: 1 and 2"]),
        (
            pd.DataFrame([[1, 2]], columns=["a", "a"]),
            pd.DataFrame([[1, 3]], columns=["a", "a"]),
            ["rows.a[1]: 2 and 3"],
        ),
        (pl.DataFrame({"a": [1]}), pl.DataFrame({"a": [2]}), ["rows.a: 1 and 2"]),
        (pl.Series("a", [1]), pl.Series("b", [1]), ["rows.name: 'a' and 'b'"]),
        (
            pl.Series("a", [1, 2]),
            pl.Series("a", [None, 2]),
            ["rows: 1 and None, their types differ: int and NoneType"],
        ),
        (PEOPLE, X, ["rows: their types differ: pandas.DataFrame and numpy.ndarray"]),
    ],
)
def test_the_first_rows_are_compared(cache: Cache, a: Any, b: Any, lines: list[str]) -> None:
    explanation = rows_explained(cache, a, b)
    assert [str(each) for each in explanation.differences] == lines


@pytest.mark.parametrize(
    ("a", "b", "lines"),
    [
        (
            pd.DataFrame({"age": [42], "Ann B.": [1], 7: [2]}),
            pd.DataFrame({"age": [43], "Ann B.": [2], "Bob": [2]}),
            [
                "[...]: only a has it",
                ".Bob: only b has it",
                *[f"{each}: their values differ" for each in (".age", "[...]")],
            ],
        ),
        (
            {"age": np.zeros(1), "Ann B.": np.zeros(1)},
            {"age": np.ones(1), "Ann B.": np.ones(1)},
            [f"{each}: their values differ" for each in ("['age']", "[...]")],
        ),
        (
            pl.DataFrame(
                {"who": ["Ann"], "Ann B.": [1]}, schema_overrides={"who": pl.Enum(["Ann"])}
            ),
            pl.DataFrame({"who": ["Ann"], "Ann B.": [2]}),
            [".who: their dtypes differ: ... and String", "[...]: their values differ"],
        ),
        (
            pd.Series([1], name="Ann B."),
            pd.Series([2], name="Bob"),
            [".name: their values differ", ": their values differ"],
        ),
    ],
)
def test_a_key_secret_hides_column_names_that_may_be_data(a: Any, b: Any, lines: list[str]) -> None:
    explanation = rows_explained(Cache("redis://nowhere:1", key_secret="k"), a, b)
    assert [str(each) for each in explanation.differences] == [f"rows{line}" for line in lines]


def test_the_reason_why_a_column_has_no_key_hides_the_values_in_its_type(cache: Cache) -> None:
    @cache.memoize_rows(version="1")
    def embed(rows: Any) -> Any:
        return rows

    inner = pl.Struct({"Ann B.": pl.Enum(["Bob"]), "at": pl.Datetime})
    of_polars = pl.DataFrame({"a": [None]}, schema={"a": inner})
    assert embed.explain(of_polars).no_key == (
        "rows['a']: a polars column of Struct is not cached by row; cast it"
    )
    of_arrow = of_polars.to_pandas(use_pyarrow_extension_array=True)
    assert embed.explain(of_arrow).no_key == (
        "rows['a']: a pandas column of Arrow's type struct is not cached by row"
    )


@given(st.data())
def test_rows_have_differences_if_and_only_if_their_keys_differ(data: st.DataObject) -> None:
    a, b = (data.draw(frames().filter(len)) for _ in range(2))
    rows_explained(Cache("redis://nowhere:1"), a, b)


def test_further_arguments_of_rows_are_compared(cache: Cache) -> None:
    @cache.memoize_rows(version="1", ignored=["trace"])
    def embed(texts: list[str], scale: Any = 1.0, trace: int = 0) -> list[float]:
        return [len(text) * scale for text in texts]

    explanation = embed.explain(["sun"], 1.0, 1).compared_to(["sun"], 2.0, 2)
    assert [str(each) for each in explanation.differences] == ["scale: 1.0 and 2.0"]
    assert [str(each) for each in explanation.ignored] == ["trace: 1 and 2"]
    no_value = "a value of type builtins.object has no canonical form"
    for call, reason in (
        (embed.explain(["sun"], object()), f"scale: {no_value}"),
        (embed.explain(["sun"], [[object()]]), f"scale[0][0]: {no_value}"),
        (embed.explain(["sun", object()]), f"texts[1]: {no_value}"),  # type: ignore[list-item]
        (embed.explain({"sun"}), "texts: a value of type builtins.set is not a table"),  # type: ignore[arg-type]
        (embed.explain([]), "it has no rows"),
    ):
        assert str(call.no_key).startswith(reason)
        assert call.compared_to(["sun"]).no_key_a == call.no_key


def test_a_method_of_an_estimator_explains_its_calls(cache: Cache) -> None:
    inputs = PEOPLE[["age", "bmi"]]
    fast: Any = cache.wrap(LinearRegression().fit(inputs, [1, 2]), name="linear", version="1")
    explanation = fast.predict.explain(inputs).compared_to(inputs.assign(bmi=2.0))
    assert [str(each) for each in explanation.differences] == ["X.bmi: 1.5 and 2.0"]
    key = fast.predict.explain(inputs).key
    fast.fit(inputs, [3, 4])
    assert fast.predict.explain(inputs).key == fast.predict.cache_keys(inputs)[0] != key


def test_the_error_for_explain_of_an_estimator_names_a_method(cache: Cache) -> None:
    class Own(LinearRegression):  # type: ignore[misc]
        def explain(self) -> str:
            return "its own"

    inputs = PEOPLE[["age", "bmi"]]
    fast: Any = cache.wrap(LinearRegression().fit(inputs, [1, 2]), name="linear", version="1")
    own: Any = cache.wrap(Own().fit(inputs, [1, 2]), name="own", version="1")
    for name in ("explain", "cache_keys", "forget", "aforget"):
        with pytest.raises(AttributeError, match=rf"each cached method; use predict\.{name}$"):
            getattr(fast, name)
        assert callable(getattr(fast.predict, name))
    assert own.explain() == "its own"
    with pytest.raises(AttributeError, match="no attribute 'explained'"):
        fast.explained  # noqa: B018 - it raises

"""A wrapped estimator is used like the estimator, and answers like it."""

from __future__ import annotations

import copy
import inspect
import pickle
import threading
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.utils.validation import check_is_fitted

from model_cache import Cache, ConfigurationError
from tests.servers import Server
from tests.wrappers.tables_under_test import same

RANDOM = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "age": RANDOM.integers(18, 60, 80),
        "bmi": RANDOM.normal(30, 5, 80).round(1),
        "sex": RANDOM.choice(["m", "f"], 80),
    },
    index=RANDOM.permutation(80),
)
LABELS = np.where(FRAME["bmi"] > 30, "high", "low")
NUMBERS = FRAME[["age", "bmi"]].to_numpy()


def pipeline() -> Pipeline:
    columns = ColumnTransformer(
        [("words", OneHotEncoder(), ["sex"])], remainder="passthrough", sparse_threshold=0
    )
    return make_pipeline(columns, LogisticRegression(max_iter=500)).fit(FRAME, LABELS)


METHODS = ["predict", "predict_proba", "predict_log_proba", "decision_function"]


@pytest.mark.parametrize("method", METHODS)
def test_a_pipeline_answers_as_it_does_alone(cache: Cache, method: str) -> None:
    model = pipeline()
    fast = cache.wrap(model, name="charges", version="1", batch_equality="ignore")
    for rows in (FRAME.iloc[:5], FRAME, FRAME.iloc[[3, 3, 1]], FRAME.iloc[:1], FRAME):
        before = rows.copy()
        found, expected = getattr(fast, method)(rows), getattr(model, method)(rows)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        if found.dtype.kind == "f":
            np.testing.assert_allclose(found, expected, rtol=1e-12)
        else:
            assert same(found, expected)
        pd.testing.assert_frame_equal(rows, before)
    with pytest.raises(ValueError, match="0 sample"):
        getattr(fast, method)(FRAME.iloc[:0])


def test_it_is_used_like_the_estimator(cache: Cache) -> None:
    model = pipeline()
    fast: Any = cache.wrap(model, name="charges", version="1")
    assert isinstance(fast, Pipeline)
    check_is_fitted(fast)
    assert fast.classes_.tolist() == ["high", "low"]
    assert fast.n_features_in_ == 3
    assert fast.score(FRAME, LABELS) == model.score(FRAME, LABELS)
    assert fast[-1] is model[-1]
    assert len(fast) == 2
    assert set(fast.get_params()) == set(model.get_params())
    assert "predict" in dir(fast)
    scores = cross_val_score(fast, FRAME, LABELS, cv=3)
    assert scores.tolist() == cross_val_score(model, FRAME, LABELS, cv=3).tolist()
    assert not hasattr(clone(fast)[-1], "coef_")
    with pytest.raises(AttributeError):
        fast.transform(FRAME)
    with pytest.raises(ConfigurationError, match="has no method 'predictt'"):
        cache.wrap(model, name="charges", version="1", methods=["predictt"])


def test_inside_a_pipeline(cache: Cache) -> None:
    fast = cache.wrap(StandardScaler(), name="scaler", version="1")
    outer = Pipeline([("scaler", fast), ("model", LogisticRegression())]).fit(NUMBERS, LABELS)
    alone = make_pipeline(StandardScaler(), LogisticRegression()).fit(NUMBERS, LABELS)
    for _ in range(2):
        assert same(outer.predict(NUMBERS), alone.predict(NUMBERS))
    assert fast.stats().hits >= len(NUMBERS)


COPIES: dict[str, Any] = {
    "pickle": lambda fast, _: pickle.loads(pickle.dumps(fast)),
    "deepcopy": lambda fast, _: copy.deepcopy(fast),
    "copy": lambda fast, _: copy.copy(fast),
    "joblib": lambda fast, folder: joblib.load(joblib.dump(fast, folder / "fast.joblib")[0]),
}


class _Unpicklable:
    """A hook with a lock, like those of the integrations."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, event: object) -> None: ...


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("revision", [None, "weights 1"])
def test_a_copy_has_the_same_entries(
    cache: Cache, tmp_path: Path, way: str, revision: str | None
) -> None:
    first = LogisticRegression().fit(NUMBERS, LABELS)
    fast: Any = cache.wrap(first, name="m", version="1", revision=revision)
    fast.predict(NUMBERS)
    again = COPIES[way](fast, tmp_path)
    assert same(again.predict(NUMBERS), first.predict(NUMBERS))
    assert again.stats().misses == 0
    others = np.where(LABELS == "high", "low", "high")
    fast.fit(NUMBERS, others)
    expected = clone(first).fit(NUMBERS, others).predict(NUMBERS)
    for each in (COPIES[way](fast, tmp_path), fast, COPIES[way](fast, tmp_path)):
        assert same(each.predict(NUMBERS), expected)


def test_a_method_can_be_sent_to_another_process(cache: Cache) -> None:
    model = LogisticRegression().fit(NUMBERS, LABELS)
    fast: Any = cache.wrap(model, name="m", version="1")
    made = joblib.Parallel(n_jobs=2)(joblib.delayed(fast.predict)(NUMBERS) for _ in range(2))
    assert all(same(each, model.predict(NUMBERS)) for each in made)
    assert fast.predict.forget(NUMBERS) == len(np.unique(NUMBERS, axis=0))
    others = np.where(LABELS == "high", "low", "high")
    fitted = pickle.loads(pickle.dumps(fast.fit))(NUMBERS, others)
    assert same(fitted.predict(NUMBERS), clone(model).fit(NUMBERS, others).predict(NUMBERS))
    assert same(fast.predict(NUMBERS), model.predict(NUMBERS))
    assert inspect.signature(fast.predict) == inspect.signature(model.predict)
    assert repr(fast.predict) == f"<method 'predict' of {fast!r}>"


def test_a_copy_shares_hooks_that_cant_be_copied(server: Server) -> None:
    with Cache(server.url, hooks=[_Unpicklable()]) as cache:
        fast = cache.wrap(LinearRegression().fit(NUMBERS, FRAME["bmi"]), name="m", version="1")
        assert same(copy.deepcopy(fast).predict(NUMBERS), fast.predict(NUMBERS))


def test_two_estimators_methods_parameters_and_versions_never_meet(cache: Cache) -> None:
    models = [
        RandomForestClassifier(
            n_estimators=3, max_depth=2, min_samples_leaf=20, random_state=seed
        ).fit(NUMBERS, LABELS)
        for seed in range(3)
    ]
    wrapped = [cache.wrap(model, name="forest", version="1") for model in models]
    for _ in range(2):
        for model, fast in zip(models, wrapped, strict=True):
            assert same(fast.predict(NUMBERS), model.predict(NUMBERS))
            assert same(fast.predict_proba(NUMBERS), model.predict_proba(NUMBERS))
            assert same(fast.predict_log_proba(NUMBERS), model.predict_log_proba(NUMBERS))
    linear = GaussianProcess()
    fast = cache.wrap(linear, name="forest", version="1")
    for _ in range(2):
        assert same(fast.predict(NUMBERS), linear.predict(NUMBERS))
        assert same(fast.predict(NUMBERS, scale=3), linear.predict(NUMBERS, scale=3))


class GaussianProcess:
    """An estimator whose method has a parameter."""

    def predict(self, X: Any, scale: float = 1.0) -> Any:
        return X.sum(axis=1) * scale


def test_the_container_of_a_transformer_follows_the_configuration(cache: Cache) -> None:
    model = StandardScaler().fit(FRAME[["age", "bmi"]])
    fast = cache.wrap(model, name="scaler", version="1")
    for _ in range(2):
        assert same(fast.transform(FRAME[["age", "bmi"]]), model.transform(FRAME[["age", "bmi"]]))
        with sklearn.config_context(transform_output="pandas"):
            found = fast.transform(FRAME[["age", "bmi"]])
            assert same(found, model.transform(FRAME[["age", "bmi"]]))
            assert isinstance(found, pd.DataFrame)
    assert fast.set_output(transform="pandas") is fast
    for _ in range(2):
        assert same(fast.transform(FRAME[["age", "bmi"]]), model.transform(FRAME[["age", "bmi"]]))


def test_an_unchecked_answer_is_not_served_where_rows_are_checked(cache: Cache) -> None:
    model = LinearRegression().fit(NUMBERS, FRAME["bmi"])
    fast = cache.wrap(model, name="m", version="1")
    rows = np.full((1, 2), np.nan)
    with sklearn.config_context(assume_finite=True):
        assert np.isnan(fast.predict(rows)).all()
        assert np.isnan(fast.predict(rows)).all()
    with pytest.raises(ValueError, match="NaN"):
        fast.predict(rows)
    assert fast.stats().hits == 1


def test_sparse_matrices_are_computed_and_logged_once(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    model = LogisticRegression().fit(NUMBERS, LABELS)
    fast: Any = cache.wrap(model, name="m", version="1")
    for _ in range(3):
        rows = sparse.csr_matrix(NUMBERS)
        assert same(fast.predict(rows), model.predict(rows))
    assert fast.stats().uncacheable == 3 * len(NUMBERS)
    assert len(caplog.records) == 1


def test_purge_deletes_what_earlier_processes_have_stored(cache: Cache, server: Server) -> None:
    model = LogisticRegression().fit(NUMBERS, LABELS)
    cache.wrap(model, name="m", version="1").predict(NUMBERS)
    with Cache(server.url) as other:
        fast: Any = other.wrap(model, name="m", version="1")
        assert fast.purge() == len(np.unique(NUMBERS, axis=0))
        cache.wrap(model, name="m", version="1").predict(NUMBERS)
        assert other.purge() == len(np.unique(NUMBERS, axis=0))


class Scale(BaseEstimator):  # type: ignore[misc]
    """Multiplies rows by a factor."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def fit(self, factor: float) -> Scale:
        self.factor = factor
        return self

    def predict(self, rows: Any) -> Any:
        return np.asarray(rows) * self.factor


def test_a_method_that_passes_its_arguments_on_takes_the_rows_first(cache: Cache) -> None:
    class Proxy(Scale):
        def predict(self, *args: Any, **kwargs: Any) -> Any:
            return self.answer(*args, **kwargs)

        def transform(self, **kwargs: Any) -> Any:
            return self.answer(**kwargs)

        def answer(self, rows: Any, offset: Any = 0.0) -> Any:
            return np.asarray(rows)[:, 0] + offset

    fast: Any = cache.wrap(Proxy(), name="proxy", version="1", batch_equality="ignore")
    rows = np.array([[1.0], [2.0]])
    for _ in range(2):
        assert fast.predict(rows, 5.0).tolist() == [6.0, 7.0]
        assert fast.predict(rows).tolist() == [1.0, 2.0]
        assert fast.predict(rows, 6.0).tolist() == [7.0, 8.0]
        assert fast.predict(rows=rows).tolist() == [1.0, 2.0]
        assert fast.transform(rows=rows, offset=np.ones(2)).tolist() == [2.0, 3.0]
        assert fast.transform(rows=rows[::-1], offset=np.ones(2)).tolist() == [3.0, 2.0]
    assert fast.stats().hits == 6


def test_callable_values_that_it_holds_are_its_own(cache: Cache) -> None:
    model = GaussianProcessRegressor(RBF()).fit(NUMBERS[:9], range(9))
    fast = cache.wrap(model, name="process", version="1")
    assert fast.kernel_ is model.kernel_
    words = FunctionTransformer(np.negative)
    assert cache.wrap(words, name="words", version="1").func is np.negative


class _Strange:
    """A function that can't be compared, and is equal to all others."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, rows: Any) -> Any:
        return self.factor * rows[:, 0]

    def __eq__(self, other: object) -> Any:
        return np.array([True, True])

    __hash__ = None  # type: ignore[assignment]


def test_a_method_that_is_replaced_need_not_be_comparable(cache: Cache) -> None:
    model = Scale()
    fast = cache.wrap(model, name="scale", version="1", batch_equality="ignore")
    for factor in (2.0, 3.0):
        model.predict = _Strange(factor)  # type: ignore[method-assign]
        for _ in range(2):
            assert (fast.predict(NUMBERS) == factor * NUMBERS[:, 0]).all()


def test_a_shallow_copy_changes_alone(cache: Cache) -> None:
    fast: Any = cache.wrap(Scale(), name="m", version="1")
    again = copy.copy(fast)
    again.factor = 5.0
    assert (fast.factor, again.factor) == (1.0, 5.0)
    assert again.predict([3.0]).tolist() == [15.0]
    assert fast.predict([3.0]).tolist() == [3.0]

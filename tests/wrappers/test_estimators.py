"""A wrapped estimator is used like the estimator, and answers like it."""

from __future__ import annotations

import copy
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
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier
from sklearn.model_selection import cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
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


def test_a_copy_shares_hooks_that_cant_be_copied(server: Server) -> None:
    with Cache(server.url, timeout=5.0, hooks=[_Unpicklable()]) as cache:
        fast = cache.wrap(LinearRegression().fit(NUMBERS, FRAME["bmi"]), name="m", version="1")
        assert same(copy.deepcopy(fast).predict(NUMBERS), fast.predict(NUMBERS))


CHANGES: dict[str, Any] = {
    "fit": lambda fast, model: fast.fit(NUMBERS[:30], LABELS[:30]),
    "fit outside": lambda fast, model: model.fit(NUMBERS[:30], LABELS[:30]),
    "partial_fit": lambda fast, model: fast.partial_fit(NUMBERS[:9], LABELS[::-1][:9]),
    "partial_fit outside": lambda fast, model: model.partial_fit(NUMBERS[:9], LABELS[::-1][:9]),
    "set_params": lambda fast, model: fast.set_params(**_other_parameter(model)),
    "set_params outside": lambda fast, model: model.set_params(**_other_parameter(model)),
    "an attribute": lambda fast, model: setattr(fast, "classes_", model.classes_[::-1].copy()),
    "an attribute outside": lambda _, model: setattr(
        model, "classes_", model.classes_[::-1].copy()
    ),
}


def _other_parameter(model: BaseEstimator) -> dict[str, Any]:
    return {"var_smoothing": 0.5} if isinstance(model, GaussianNB) else {"warm_start": True}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", [SGDClassifier, GaussianNB, MLPClassifier])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_changed_estimator_never_answers_with_old_entries(
    cache: Cache, change: str, kind: Any
) -> None:
    options = {"random_state": 0, "max_iter": 20} if kind is not GaussianNB else {}
    model = kind(**options).fit(NUMBERS, LABELS)
    fast = cache.wrap(model, name="m", version="1", batch_equality="ignore")
    for _ in range(2):
        before = fast.predict_proba(NUMBERS) if kind is not SGDClassifier else fast.predict(NUMBERS)
    assert len(before) == len(NUMBERS)
    CHANGES[change](fast, model)
    stored = fast.stats().hits
    found, expected = fast.predict(NUMBERS), model.predict(NUMBERS)
    assert same(found, expected)
    assert fast.stats().hits == stored


def test_a_refit_by_another_thread_is_not_stored_under_the_old_state(cache: Cache) -> None:
    class Slow(BaseEstimator):  # type: ignore[misc]
        def __init__(self) -> None:
            self.weight = 1.0

        def fit(self, weight: float) -> Slow:
            self.weight = weight
            return self

        def predict(self, rows: Any) -> Any:
            started.set()
            assert go.wait(10)
            return np.asarray(rows) * self.weight

    started, go = threading.Event(), threading.Event()
    model = Slow()
    fast = cache.wrap(model, name="slow", version="1", batch_equality="ignore")
    predicting = threading.Thread(target=fast.predict, args=([1.0, 2.0],))
    predicting.start()
    assert started.wait(10)
    fast.fit(5.0)
    go.set()
    predicting.join()
    fast.fit(1.0)
    assert fast.predict([1.0, 2.0]).tolist() == [1.0, 2.0]


def test_a_refit_without_a_fingerprint_computes_without_the_cache(cache: Cache) -> None:
    class Odd(BaseEstimator):  # type: ignore[misc]
        def fit(self, weight: float) -> Odd:
            self.weight, self.lock = weight, threading.Lock()
            return self

        def predict(self, rows: Any) -> Any:
            return np.asarray(rows) * getattr(self, "weight", 1.0)

    fast: Any = cache.wrap(Odd(), name="odd", version="1", methods=["predict"])
    assert fast.predict([1.0]).tolist() == [1.0]
    fast.fit(5.0)
    for _ in range(2):
        assert fast.predict([1.0]).tolist() == [5.0]
    with pytest.raises(ConfigurationError, match="revision"):
        cache.wrap(Odd().fit(2.0), name="odd", version="1")


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
    with Cache(server.url, timeout=5.0) as other:
        fast: Any = other.wrap(model, name="m", version="1")
        assert fast.purge() == len(np.unique(NUMBERS, axis=0))
        cache.wrap(model, name="m", version="1").predict(NUMBERS)
        assert other.purge() == len(np.unique(NUMBERS, axis=0))


class _Scale(BaseEstimator):  # type: ignore[misc]
    """Multiplies rows by a factor."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def fit(self, factor: float) -> _Scale:
        self.factor = factor
        return self

    def predict(self, rows: Any) -> Any:
        return np.asarray(rows) * self.factor


def test_no_thread_uses_the_old_state_while_another_takes_the_fingerprint(cache: Cache) -> None:
    looking, looked = threading.Event(), threading.Event()

    class Large(_Scale):
        def __getstate__(self) -> dict[str, Any]:
            if self.factor == 5.0:
                looking.set()
                assert looked.wait(10)
            return {"factor": self.factor}

    fast = cache.wrap(Large(), name="large", version="1", batch_equality="ignore")
    assert fast.predict([1.0, 2.0]).tolist() == [1.0, 2.0]
    fast.fit(5.0)
    answers: list[Any] = []

    def predict() -> None:
        answers.append(fast.predict([1.0, 2.0, 3.0]).tolist())

    first, second = threading.Thread(target=predict), threading.Thread(target=predict)
    first.start()
    assert looking.wait(10)
    second.start()
    second.join(0.5)  # it waits for the fingerprint; answers of the old state come at once
    looked.set()
    first.join()
    second.join()
    assert answers == [[5.0, 10.0, 15.0]] * 2
    old = cache.wrap(Large(), name="large", version="1", batch_equality="ignore")
    assert old.predict([3.0]).tolist() == [3.0]


def test_a_state_that_returns_does_not_take_what_was_computed_in_between(cache: Cache) -> None:
    class Slow(_Scale):
        def predict(self, rows: Any) -> Any:
            if asked:
                return super().predict(rows)
            asked.append(True)
            fast.fit(5.0)
            answer = super().predict(rows)
            fast.fit(1.0)
            other = threading.Thread(target=fast.predict, args=([8.0],))
            other.start()  # takes the fingerprint, which is the first one again
            other.join()
            return answer

    asked: list[bool] = []
    fast = cache.wrap(Slow(), name="slow", version="1", batch_equality="ignore")
    assert fast.predict([3.0]).tolist() == [15.0]
    assert fast.predict([3.0]).tolist() == [3.0]


def test_a_method_that_passes_its_arguments_on_takes_the_rows_first(cache: Cache) -> None:
    class Proxy(_Scale):
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


def test_a_shallow_copy_changes_alone(cache: Cache) -> None:
    fast: Any = cache.wrap(_Scale(), name="m", version="1")
    again = copy.copy(fast)
    again.factor = 5.0
    assert (fast.factor, again.factor) == (1.0, 5.0)
    assert again.predict([3.0]).tolist() == [15.0]
    assert fast.predict([3.0]).tolist() == [3.0]


def test_keys_are_those_of_the_state_at_the_time_of_the_call(cache: Cache) -> None:
    fast: Any = cache.wrap(_Scale(), name="m", version="1")
    before = fast.predict.cache_keys([1.0])
    fast.fit(5.0)
    assert fast.predict.cache_keys([1.0]) != before

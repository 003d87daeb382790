"""Wrapped boosters, ONNX sessions and MLflow models answer as they do alone, first and again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_cache import Cache, ConfigurationError
from tests.servers import Server

pandas: Any = pytest.importorskip("pandas")

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.gamma(2.0, size=(120, 4))
SINGLE = ROWS.astype(np.float32)
NAMES = ["age", "bmi", "children", "income"]
FRAME = pandas.DataFrame(ROWS, columns=NAMES).assign(
    region=pandas.Categorical(RANDOM.choice(["north", "south", "west"], len(ROWS)))
)
CLASSES = np.digitize(ROWS[:, 0], [1.0, 2.0])
NUMBERS = ROWS @ [3.0, 1.0, -2.0, 0.5]


def lightgbm(kind: str) -> Any:
    module = pytest.importorskip("lightgbm")
    return getattr(module, f"LGBM{kind}")(n_estimators=10, verbose=-1)


def xgboost(kind: str) -> Any:
    module = pytest.importorskip("xgboost")
    return getattr(module, f"XGB{kind}")(n_estimators=10)


def catboost(kind: str) -> Any:
    module = pytest.importorskip("catboost")
    quiet: dict[str, Any] = {"verbose": False, "allow_writing_files": False}
    return getattr(module, f"CatBoost{kind}")(iterations=10, cat_features=["region"], **quiet)


LIBRARIES = pytest.mark.parametrize("library", [lightgbm, xgboost, catboost])


@pytest.fixture
def cache(server: Server) -> Any:
    with Cache(server.url, timeout=5.0) as cache:
        yield cache


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, pandas.Series):
        pandas.testing.assert_series_equal(one, other)
    elif isinstance(one, pandas.DataFrame):
        pandas.testing.assert_frame_equal(one, other)
    else:
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)


def turned(rows: Any) -> Any:
    """Return the rows in the opposite order, and otherwise alike."""
    if isinstance(rows, np.ndarray):
        return rows[::-1].copy()
    return rows[::-1].reset_index(drop=True)


def assert_answers_as_alone(
    wrapped: Any, estimator: Any, call: Callable[[Any, Any], Any], rows: Any
) -> None:
    """Assert equal answers for all rows, again, for some, and for one; only the first computes."""
    count = len(rows)
    assert_same(call(wrapped, rows), call(estimator, rows))
    before = wrapped.stats()
    assert (before.misses, before.stored) == (count, count)
    for part in (rows, rows[: count // 2], rows[:1], turned(rows)):
        assert_same(call(wrapped, part), call(estimator, part))
    after = wrapped.stats()
    assert after.misses == before.misses
    assert after.hits - before.hits == 2 * count + count // 2 + 1


@LIBRARIES
@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_a_booster_that_classifies(library: Any, method: str, cache: Cache) -> None:
    estimator = library("Classifier")
    if library is xgboost:
        estimator.set_params(enable_categorical=True)
    estimator.fit(FRAME, CLASSES)
    wrapped = cache.wrap(estimator, name="classes", version="1.0.0")
    assert_answers_as_alone(wrapped, estimator, lambda e, rows: getattr(e, method)(rows), FRAME)
    assert list(wrapped.classes_) == [0, 1, 2]


@LIBRARIES
def test_a_booster_that_estimates_numbers(library: Any, cache: Cache) -> None:
    estimator = library("Regressor")
    if library is catboost:
        estimator.set_params(cat_features=None)
    estimator.fit(ROWS, NUMBERS)
    wrapped = cache.wrap(estimator, name="numbers", version="1.0.0")
    assert_answers_as_alone(wrapped, estimator, lambda e, rows: e.predict(rows), ROWS)


@LIBRARIES
def test_a_booster_that_is_fitted_again_answers_anew(library: Any, cache: Cache) -> None:
    estimator = library("Regressor").fit(*((ROWS, NUMBERS) if library is not catboost else _pool()))
    rows = ROWS if library is not catboost else _pool()[0]
    wrapped = cache.wrap(estimator, name="numbers", version="1.0.0")
    before = wrapped.predict(rows)
    wrapped.fit(rows, -NUMBERS)
    assert_same(wrapped.predict(rows), estimator.predict(rows))
    assert not np.array_equal(wrapped.predict(rows), before)


def _pool() -> tuple[Any, Any]:
    frame = FRAME.astype({"region": str})
    return frame, NUMBERS


def test_arguments_of_a_booster_are_part_of_the_key(cache: Cache) -> None:
    estimator = lightgbm("Classifier").fit(FRAME, CLASSES)
    wrapped = cache.wrap(estimator, name="classes", version="1.0.0")
    for options in ({}, {"raw_score": True}, {"num_iteration": 3}):
        for _ in range(2):
            answer = wrapped.predict_proba(FRAME, **options)
            assert_same(answer, estimator.predict_proba(FRAME, **options))
    assert wrapped.stats().hits == wrapped.stats().misses == 3 * len(FRAME)


def onnx_file(folder: Path, model: Any) -> Path:
    to_onnx: Any = pytest.importorskip("skl2onnx").to_onnx
    path = folder / "classes.onnx"
    converted = to_onnx(model.fit(ROWS, CLASSES), SINGLE[:1], options={"zipmap": False})
    path.write_bytes(converted.SerializeToString())
    return path


def session(path: Path) -> Any:
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("outputs", [None, ["probabilities"], ["label", "probabilities"]])
def test_a_session_of_onnx_runtime(outputs: list[str] | None, tmp_path: Path, cache: Cache) -> None:
    tree = pytest.importorskip("sklearn.tree").DecisionTreeClassifier(max_depth=4)
    file = onnx_file(tmp_path, tree)
    estimator = session(file)
    wrapped = cache.wrap(estimator, name="classes", version="1.0.0", revision=[file])
    assert_answers_as_alone(wrapped, estimator, lambda e, part: e.run(outputs, {"X": part}), SINGLE)
    assert wrapped.get_inputs()[0].name == "X"


def test_a_session_whose_digits_depend_on_the_number_of_rows(tmp_path: Path, cache: Cache) -> None:
    linear = pytest.importorskip("sklearn.linear_model").LogisticRegression(max_iter=1000)
    file = onnx_file(tmp_path, linear)
    estimator = session(file)
    alone = [estimator.run(None, {"X": row[None]}) for row in SINGLE]
    expected = [np.concatenate(output) for output in zip(*alone, strict=True)]
    options: dict[str, Any] = {"revision": [file], "batch_equality": "refuse"}
    wrapped = cache.wrap(estimator, name="classes", version="1.0.0", **options)
    for _ in range(2):
        assert_same(wrapped.run(None, {"X": SINGLE}), expected)
    assert (wrapped.stats().hits, wrapped.stats().misses) == (len(SINGLE), len(SINGLE))


def test_a_session_of_onnx_runtime_needs_a_revision(tmp_path: Path, cache: Cache) -> None:
    file = onnx_file(tmp_path, pytest.importorskip("sklearn.tree").DecisionTreeClassifier())
    with pytest.raises(
        ConfigurationError, match=r"revision: .* \(a session does not reveal its model\)"
    ):
        cache.wrap(session(file), name="classes", version="1.0.0")


def predicted(params: Any, model: Any, rows: Any) -> Any:
    return model.predict(rows, params=params)


@pytest.mark.filterwarnings("ignore::UserWarning")  # what MLflow advises
def test_an_mlflow_model_with_its_params(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow.pyfunc")
    import joblib

    from examples.frameworks.charges import MODEL_FILE, table, train
    from tests.frameworks.pyfunc import save_model

    monkeypatch.chdir(tmp_path)
    joblib.dump(train(), MODEL_FILE)
    save_model(tmp_path / "model")
    estimator = mlflow.load_model(str(tmp_path / "model"))
    person = {"bmi": 24.5, "children": 2, "smoker": False, "region": "northwest"}
    people = table({"age": age, **person} for age in range(20, 60))
    for params in (None, {"factor": 2.0}, {"factor": 3.0}):
        wrapped = cache.wrap(estimator, name="charges", version="1.0.0")
        assert_answers_as_alone(wrapped, estimator, partial(predicted, params), people)
    wrapped = cache.wrap(estimator, name="charges", version="1.0.0")
    wrapped.predict(people, {"factor": 2.0})  # by position, in another wrapper
    assert (wrapped.stats().hits, wrapped.stats().misses) == (len(people), 0)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_two_mlflow_models_never_meet(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow.pyfunc")
    import joblib

    from examples.frameworks.charges import MODEL_FILE, table, train
    from tests.frameworks.pyfunc import save_model

    monkeypatch.chdir(tmp_path)
    joblib.dump(train(), MODEL_FILE)
    people = table(
        [{"age": 42, "bmi": 24.5, "children": 2, "smoker": False, "region": "northwest"}]
    )
    for folder in ("one", "other"):
        save_model(tmp_path / folder)
        estimator = mlflow.load_model(str(tmp_path / folder))
        wrapped = cache.wrap(estimator, name="charges", version="1.0.0")
        wrapped.predict(people)
        assert (wrapped.stats().hits, wrapped.stats().misses) == (0, 1)

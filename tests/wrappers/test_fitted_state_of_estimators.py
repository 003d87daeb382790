"""scikit-learn's estimators: one fingerprint everywhere, and another for each change."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import metrics
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from model_cache.wrappers.fitted import fitted_state
from tests.wrappers.fitted import in_fresh_processes, use

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.gamma(2.0, size=(80, 4))
CLASSES = (ROWS[:, 0] + ROWS[:, 1] > 3.5).astype(int)
NUMBERS = ROWS @ [1.0, 2.0, -1.0, 0.5]
TEXTS = [" ".join(RANDOM.choice(["bad", "good", "great", "the", "film"], 6)) for _ in range(80)]
MIXED = np.empty((80, 2), dtype=object)
MIXED[:, 0] = RANDOM.choice(["north", "south", "west"], 80)
MIXED[:, 1] = ROWS[:, 1]


def columns() -> ColumnTransformer:
    return ColumnTransformer(
        [("region", OneHotEncoder(), [0]), ("bmi", StandardScaler(), slice(1, 2))]
    )


MODELS: dict[str, tuple[Any, Any, Any]] = {
    "boosting": (HistGradientBoostingRegressor(max_iter=5), ROWS, NUMBERS),
    "calibrated": (CalibratedClassifierCV(GaussianNB(), cv=2), ROWS, CLASSES),
    "clusters": (KMeans(3, n_init=1, random_state=0), ROWS, None),
    "columns": (make_pipeline(columns(), Ridge()), MIXED, NUMBERS),
    "forest": (RandomForestClassifier(5, random_state=0), ROWS, CLASSES),
    "function": (make_pipeline(FunctionTransformer(np.log1p), Ridge()), ROWS, NUMBERS),
    "grid": (GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=2), ROWS, NUMBERS),
    "isolation": (IsolationForest(n_estimators=5, random_state=0), ROWS, None),
    "neighbors": (KNeighborsClassifier(algorithm="kd_tree"), ROWS, CLASSES),
    "network": (MLPClassifier([4], max_iter=400, tol=0.1, random_state=0), ROWS, CLASSES),
    "ridge": (Ridge(), ROWS, NUMBERS),
    "stop_words": (
        make_pipeline(TfidfVectorizer(stop_words=["the"]), LogisticRegression()),
        TEXTS,
        CLASSES,
    ),
    "support": (SVC(), ROWS, CLASSES),
    "texts": (make_pipeline(TfidfVectorizer(), LogisticRegression()), TEXTS, CLASSES),
    "voting": (
        VotingClassifier([("bayes", GaussianNB()), ("linear", LogisticRegression())]),
        ROWS,
        CLASSES,
    ),
}


@pytest.fixture(scope="module")
def fitted() -> dict[str, tuple[Any, Any]]:
    return {name: (model.fit(rows, y), rows) for name, (model, rows, y) in MODELS.items()}


@pytest.fixture(scope="module")
def elsewhere(
    fitted: dict[str, tuple[Any, Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, set[str]]:
    return in_fresh_processes(fitted, tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_one_fingerprint_in_every_process(
    name: str, fitted: dict[str, tuple[Any, Any]], elsewhere: dict[str, set[str]]
) -> None:
    assert elsewhere[name] == {fitted_state(fitted[name][0])}


@pytest.mark.parametrize("name", MODELS)
def test_neither_copying_nor_predicting_changes_the_fingerprint(
    name: str, fitted: dict[str, tuple[Any, Any]]
) -> None:
    model, rows = fitted[name]
    expected = fitted_state(model)
    assert fitted_state(copy.deepcopy(model)) == expected
    loaded = pickle.loads(pickle.dumps(model))
    assert fitted_state(loaded) == expected
    use(loaded, rows)
    assert fitted_state(loaded) == expected
    use(model, rows)
    assert fitted_state(model) == expected


def test_each_model_has_a_fingerprint_of_its_own(fitted: dict[str, tuple[Any, Any]]) -> None:
    assert len({fitted_state(model) for model, _ in fitted.values()}) == len(MODELS)


def test_an_unfitted_estimator_has_a_fingerprint() -> None:
    assert fitted_state(Ridge()) == fitted_state(Ridge())
    assert fitted_state(Ridge()) != fitted_state(Ridge(alpha=2.0))


def _next(array: Any, place: Any) -> None:
    array[place] = np.nextafter(array[place], np.inf)


def _other_vocabulary(model: Any) -> None:
    vocabulary = model[0].vocabulary_
    vocabulary["bad"], vocabulary["good"] = vocabulary["good"], vocabulary["bad"]


def _other_category(model: Any) -> None:
    model[0].named_transformers_["region"].categories_[0][0] = "east"


def _other_function(model: Any) -> None:
    model[0].func = np.log10


def _other_tree(model: Any) -> None:
    """Set another threshold, in the state that pickle saves: the attribute is read-only."""
    tree = model.estimators_[2].tree_
    state = tree.__getstate__()
    state["nodes"] = state["nodes"].copy()
    _next(state["nodes"]["threshold"], 0)
    tree.__setstate__(state)


CHANGES: list[tuple[str, Callable[[Any], None]]] = [
    ("boosting", lambda model: _next(model._predictors[3][0].nodes["num_threshold"], 0)),
    ("boosting", lambda model: _next(model._predictors[3][0].nodes["value"], 1)),
    ("calibrated", lambda model: _next(model.calibrated_classifiers_[0].estimator.var_, (0, 0))),
    ("clusters", lambda model: _next(model.cluster_centers_, (0, 0))),
    ("columns", _other_category),
    ("forest", _other_tree),
    ("forest", lambda model: model.estimators_.reverse()),
    ("function", _other_function),
    ("grid", lambda model: _next(model.best_estimator_.coef_, 0)),
    ("isolation", lambda model: setattr(model, "offset_", np.nextafter(model.offset_, 0))),
    ("neighbors", lambda model: _next(model._fit_X, (0, 0))),
    ("network", lambda model: _next(model.coefs_[1], (0, 0))),
    ("ridge", lambda model: _next(model.coef_, 0)),
    ("support", lambda model: _next(model._dual_coef_, (0, 0))),
    ("texts", _other_vocabulary),
    ("voting", lambda model: model.set_params(weights=[1, 2])),
]


@pytest.mark.parametrize(("name", "change"), CHANGES)
def test_one_changed_number_is_another_fingerprint(
    name: str, change: Callable[[Any], None], fitted: dict[str, tuple[Any, Any]]
) -> None:
    model = fitted[name][0]
    changed = copy.deepcopy(model)
    assert fitted_state(changed) == fitted_state(model)
    change(changed)
    assert fitted_state(changed) != fitted_state(model)


def test_another_version_of_a_package_is_another_fingerprint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = fitted_state(Ridge())
    monkeypatch.setattr("sklearn.__version__", "99.0")
    assert fitted_state(Ridge()) != before


def test_a_function_of_scikit_learn_is_known_by_its_name() -> None:
    scorer = metrics.make_scorer(metrics.mean_squared_error, greater_is_better=False)
    assert fitted_state(scorer) == fitted_state(pickle.loads(pickle.dumps(scorer)))
    other = metrics.make_scorer(metrics.mean_absolute_error, greater_is_better=False)
    assert fitted_state(scorer) != fitted_state(other)

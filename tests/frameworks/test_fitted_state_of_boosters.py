"""LightGBM, XGBoost and CatBoost: one fingerprint everywhere, and another for each change."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_cache.wrappers.fitted import fitted_state
from tests.wrappers.fitted import in_fresh_processes, use

# LightGBM renames the arguments of its early stop; the older ones are those of all versions.
pytestmark = pytest.mark.filterwarnings("ignore:.*eval_set:FutureWarning")

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.gamma(2.0, size=(200, 4))
CLASSES = (ROWS[:, 0] > 2.0).astype(int)


def with_categories() -> Any:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS, columns=["age", "bmi", "children", "income"])
    regions = np.random.default_rng(1).choice(["north", "south", "west"], len(ROWS))
    return frame.assign(region=pandas.Categorical(regions))


def lightgbm_models() -> dict[str, tuple[Any, Any]]:
    lightgbm = pytest.importorskip("lightgbm")
    frame, stop = with_categories(), lightgbm.early_stopping(2, verbose=False)
    held_out = (frame[:50], 1 - CLASSES[:50])  # which gets worse with each tree
    quiet: dict[str, Any] = {"n_estimators": 20, "verbose": -1}
    classifier, regressor, stopped = (
        lightgbm.LGBMClassifier(**quiet),
        lightgbm.LGBMRegressor(**quiet),
        lightgbm.LGBMRegressor(**quiet),
    )
    booster = lightgbm.train({"verbose": -1}, lightgbm.Dataset(ROWS, CLASSES), 3)
    return {
        "booster": (booster, ROWS),
        "categories": (regressor.fit(frame, CLASSES), frame),
        "classifier": (classifier.fit(frame, CLASSES), frame),
        "stopped": (
            stopped.fit(frame, CLASSES, eval_set=[held_out], callbacks=[stop]),
            frame,
        ),
    }


def xgboost_models() -> dict[str, tuple[Any, Any]]:
    xgboost = pytest.importorskip("xgboost")
    frame = with_categories()
    classifier = xgboost.XGBClassifier(n_estimators=5)
    categories = xgboost.XGBRegressor(n_estimators=5, enable_categorical=True)
    stopped = xgboost.XGBClassifier(n_estimators=20, early_stopping_rounds=2)
    return {
        "categories": (categories.fit(frame, CLASSES), frame),
        "classifier": (classifier.fit(ROWS, CLASSES), ROWS),
        "dart": (xgboost.XGBRegressor(n_estimators=5, booster="dart").fit(ROWS, CLASSES), ROWS),
        "linear": (
            xgboost.XGBRegressor(n_estimators=5, booster="gblinear").fit(ROWS, CLASSES),
            ROWS,
        ),
        "stopped": (
            stopped.fit(ROWS, CLASSES, eval_set=[(ROWS, CLASSES)], verbose=False),
            ROWS,
        ),
    }


def catboost_models() -> dict[str, tuple[Any, Any]]:
    catboost = pytest.importorskip("catboost")
    frame = with_categories()
    quiet: dict[str, Any] = {"iterations": 5, "verbose": False, "allow_writing_files": False}
    categories = catboost.CatBoostRegressor(**quiet, cat_features=["region"])
    stopped = catboost.CatBoostRegressor(**quiet)
    return {
        "categories": (categories.fit(frame, CLASSES), frame),
        "classifier": (catboost.CatBoostClassifier(**quiet).fit(ROWS, CLASSES), ROWS),
        "stopped": (stopped.fit(ROWS, CLASSES, eval_set=(ROWS, CLASSES)), ROWS),
    }


@pytest.fixture(scope="module", params=[lightgbm_models, xgboost_models, catboost_models])
def models(request: pytest.FixtureRequest) -> dict[str, tuple[Any, Any]]:
    made: dict[str, tuple[Any, Any]] = request.param()
    return made


def test_a_booster_has_one_fingerprint_everywhere(
    models: dict[str, tuple[Any, Any]], tmp_path: Path
) -> None:
    found = in_fresh_processes(models, tmp_path)
    for name, (model, rows) in models.items():
        found[name].add(fitted_state(model))
        loaded = pickle.loads(pickle.dumps(model))
        found[name].add(fitted_state(loaded))
        for each in (loaded, model):
            use(each, rows)
            getattr(each, "feature_importances_", None)  # which CatBoost then keeps
            found[name].add(fitted_state(each))
    assert {name: len(fingerprints) for name, fingerprints in found.items()} == dict.fromkeys(
        models, 1
    )


def test_a_copy_of_a_booster_has_its_fingerprint(models: dict[str, tuple[Any, Any]]) -> None:
    for name, (model, _) in models.items():
        if name != "stopped":  # LightGBM's copy forgets the best iteration
            assert fitted_state(copy.deepcopy(model)) == fitted_state(model), name


def test_boosters_differ(models: dict[str, tuple[Any, Any]]) -> None:
    assert len({fitted_state(model) for model, _ in models.values()}) == len(models)


def test_another_leaf_of_lightgbm_is_another_fingerprint() -> None:
    lightgbm = pytest.importorskip("lightgbm")
    booster = lightgbm.train({"verbose": -1}, lightgbm.Dataset(ROWS, CLASSES), 3)
    before = fitted_state(booster)
    booster.set_leaf_output(1, 0, np.nextafter(booster.get_leaf_output(1, 0), 1.0))
    assert fitted_state(booster) != before


def test_more_trees_are_another_fingerprint() -> None:
    xgboost = pytest.importorskip("xgboost")
    data = xgboost.DMatrix(ROWS, CLASSES)
    five, six = (xgboost.train({}, data, rounds) for rounds in (5, 6))
    assert fitted_state(five) != fitted_state(six)
    assert fitted_state(five) == fitted_state(six[:5])


def test_another_scale_of_catboost_is_another_fingerprint() -> None:
    catboost = pytest.importorskip("catboost")
    quiet: dict[str, Any] = {"iterations": 5, "verbose": False, "allow_writing_files": False}
    model = catboost.CatBoostRegressor(**quiet).fit(ROWS, CLASSES)
    before = fitted_state(model)
    model.set_scale_and_bias(1.0, 0.5)
    assert fitted_state(model) != before

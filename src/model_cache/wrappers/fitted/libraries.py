"""What a fingerprint needs to know about particular libraries: the only module that does."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from model_cache.wrappers.fitted.parts import Child, Parts, UnstableError, attributes, named

# Their objects do not hold the weights in a form that can be read here, or not in this process.
_UNREADABLE = {
    "h2o": "the model lives in the H2O cluster",
    "keras": "its weights depend on a backend",
    "onnxruntime": "a session does not reveal its model",
    "openvino": "a compiled model does not reveal its weights",
    "py4j": "the model lives in the Java process",
    "pyspark": "the model lives in the Java process",
    "ray": "the model lives in another process",
    "tensorflow": "its weights live in the runtime",
    "tensorrt": "an engine does not reveal its weights",
    "torch": "a module's code and weights are separate",
}

# Attributes that predicting or inspecting a model sets: by library, since subclasses inherit them.
_DERIVED = {
    "mlflow": {"input_schema", "params_schema"},  # read anew by each prediction
    "scipy": {"_has_canonical_format", "_has_sorted_indices", "maxprint"},  # of sparse matrices
    # An address, and what Bunch loses when it is saved.
    "sklearn": {"_stop_words_id", "_deprecated_key_to_warnings"},
}
_CATBOOST = {"CatBoost", "CatBoostClassifier", "CatBoostRanker", "CatBoostRegressor"}
# Importances, filled when they are read; predictions for the sets of an early stop.
_NOT_THE_MODEL = {"_loss_value_change", "_prediction_values_change", "_test_evals"}
# scikit-learn's trees of neighbors count trims, leaves, splits and calls at these places.
_COUNTING = {"BallTree", "BallTree32", "BallTree64", "KDTree", "KDTree32", "KDTree64"}
_COUNTERS = slice(7, 11)
_PLACES = 13


def _catboost(model: Any) -> Parts:
    state = model.__getstate__()
    trained = state.pop("__model", None)
    yield from attributes({name: state[name] for name in state.keys() - _NOT_THE_MODEL})
    if trained is not None:
        # Loaded and saved again: only then are the bytes those of a model from a file.
        loaded = type(model)().load_model(blob=trained)
        yield Child(loaded.__getstate__()["__model"])


def _xgboost(booster: Any) -> Parts:
    # Its pickle holds the settings of threads and devices too, which predicting fills in.
    yield memoryview(booster.save_raw("ubj"))


def _lightgbm(booster: Any) -> Parts:
    yield Child(booster.model_to_string(num_iteration=-1))
    yield Child(max(booster.best_iteration, 0))  # neither 0 nor -1 limits the trees
    yield Child(booster.pandas_categorical)


def _neighbors_tree(tree: Any) -> Parts:
    state = tree.__getstate__()
    if len(state) != _PLACES:
        raise UnstableError("its state is not the one that is known")
    yield Child(state[: _COUNTERS.start])
    yield Child(state[_COUNTERS.stop :])


def _mlflow(model: Any) -> Parts:
    if not model.metadata.model_uuid:
        raise UnstableError("it has no model_uuid")
    yield Child(model.metadata.model_uuid)


_KNOWN: dict[tuple[str, str], Callable[[Any], Parts]] = {
    **dict.fromkeys((("catboost", name) for name in _CATBOOST), _catboost),
    ("lightgbm", "Booster"): _lightgbm,
    ("mlflow", "PyFuncModel"): _mlflow,
    ("xgboost", "Booster"): _xgboost,
    **dict.fromkeys((("sklearn", name) for name in _COUNTING), _neighbors_tree),
}


def library_parts(value: Any) -> Parts | None:
    """Return the parts of an object that its library can describe best; None for any other.

    Raises:
        UnstableError: its library does not reveal the weights.
    """
    cls = type(value)
    for root in _roots(cls):
        if root in _UNREADABLE:
            raise UnstableError(_UNREADABLE[root])
    known = _KNOWN.get((_roots(cls)[0], cls.__qualname__))
    return None if known is None else _described(value, known)


def _described(value: Any, known: Callable[[Any], Parts]) -> Parts:
    yield b"library:"
    yield named(type(value))
    yield from known(value)


def without_derived(cls: type, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object's attributes without those that change by predicting."""
    derived = _derived_of(cls)
    return {name: value for name, value in state.items() if name not in derived}


@functools.lru_cache(1024)
def _derived_of(cls: type) -> frozenset[str]:
    return frozenset().union(*(_DERIVED.get(root, ()) for root in _roots(cls)))


def _roots(cls: type) -> list[str]:
    return [str(base.__module__).partition(".")[0] for base in cls.__mro__]

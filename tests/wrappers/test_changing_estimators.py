"""A wrapped estimator that changes never answers with what it would have answered before."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.ensemble import StackingClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier

from model_cache import Cache, ConfigurationError
from tests.wrappers.tables_under_test import same
from tests.wrappers.test_estimators import LABELS, NUMBERS, Scale

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


def test_a_change_of_a_slot_outside_is_seen(cache: Cache) -> None:
    class Slotted:
        __slots__ = ("empty", "weight")
        weight: float

        def predict(self, rows: Any) -> Any:
            return rows[:, 0] * self.weight

    class Inherits(Slotted):
        pass

    for model in Slotted(), Inherits():
        model.weight = 2.0
        fast = cache.wrap(model, name="m", version="1")
        assert same(fast.predict(NUMBERS), model.predict(NUMBERS))
        model.weight = 3.0
        assert same(fast.predict(NUMBERS), model.predict(NUMBERS))


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


def test_no_thread_uses_the_old_state_while_another_takes_the_fingerprint(cache: Cache) -> None:
    looking, looked = threading.Event(), threading.Event()

    class Large(Scale):
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
    class Slow(Scale):
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


def test_an_estimator_may_replace_a_list_by_an_equal_one_when_it_predicts(cache: Cache) -> None:
    stack = StackingClassifier([("one", LogisticRegression()), ("two", GaussianNB())])
    fast = cache.wrap(stack.fit(NUMBERS, LABELS), name="stack", version="1")
    for _ in range(2):
        assert same(fast.predict(NUMBERS), stack.predict(NUMBERS))
    assert fast.stats().hits == len(NUMBERS)
    stack.classes_ = stack.classes_[::-1]
    assert same(fast.predict(NUMBERS), stack.predict(NUMBERS))
    assert fast.stats().hits == len(NUMBERS)

"""Estimators whose methods return several arrays, or something that is not for each row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.gaussian_process import GaussianProcessRegressor

from model_cache import Cache
from tests.servers import Server

ROWS = np.array([[1.0], [2.0], [3.0], [4.0]])
TARGETS = np.array([[0, 1], [1, 1], [0, 0], [1, 0]])
PARTS = [ROWS, ROWS[:2], ROWS[1::-1], ROWS[1:2], ROWS[:3], ROWS]


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and all(map(np.array_equal, one, other))


@pytest.mark.filterwarnings("ignore:.*answers differently")
def test_return_std_is_what_the_estimator_returns(server: Server) -> None:
    cache = Cache(server.url)
    estimator: Any = GaussianProcessRegressor().fit(ROWS, [1.0, 2.0, 3.0, 5.0])
    fast = cache.wrap(estimator, name="deviations", version="1")
    for rows in PARTS:
        found = fast.predict(rows, return_std=True)
        assert type(found) is tuple
        for mine, own in zip(found, estimator.predict(rows, return_std=True), strict=True):
            np.testing.assert_allclose(mine, own, atol=1e-6)
    assert cache.stats().hits > 0


def test_probabilities_for_several_targets_are_those_of_the_estimator(server: Server) -> None:
    cache = Cache(server.url)
    estimator: Any = RandomForestClassifier(n_estimators=5).fit(ROWS, TARGETS)
    fast = cache.wrap(estimator, name="targets", version="1")
    for rows in PARTS:
        assert same(fast.predict_proba(rows), estimator.predict_proba(rows))
    assert cache.stats().hits > 0


class Forecast:
    """Returns as many values as it wants."""

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return np.arange(7.0)

    def encode(self, rows: np.ndarray) -> list[np.ndarray]:
        return [np.full(2, row[0]) for row in rows]


def test_a_result_that_is_not_for_each_row_is_returned_and_not_stored(server: Server) -> None:
    cache = Cache(server.url)
    fast = cache.wrap(Forecast(), name="forecast", version="1")
    for rows in PARTS:
        assert np.array_equal(fast.predict(rows), np.arange(7.0))
    assert cache.stats().stored == 0


def test_a_list_with_an_array_for_each_row_is_never_taken_for_outputs(server: Server) -> None:
    fast = Cache(server.url).wrap(Forecast(), name="encoder", version="1")
    for rows in PARTS:
        assert same(fast.encode(rows), Forecast().encode(rows))

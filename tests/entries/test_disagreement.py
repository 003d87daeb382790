"""Where two predictions differ, and by which share of their size their floats do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from model_cache.entries.disagreement import (
    differing_fields,
    largest_difference,
    relative_difference,
)
from tests.models import Charges, person


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (1.0, 1.0, 0.0),
        (math.nan, math.nan, 0.0),
        (100.0, 101.0, 1 / 101),
        (-1.0, 1.0, 2.0),
        ([1.0, 1e-9], [1.0, 2e-9], 1e-9),  # rounded like the largest
        ([math.inf, 1.0], [math.inf, 1.5], math.inf),
        (np.array([1.0, 2.0]), np.array([1.0, 2.5]), 0.2),
        (np.ones(2, np.float32), np.ones(2, np.float64), math.inf),
        (pd.Series([1.0, 2.0]), pd.Series([1.0, 2.5]), 0.2),
        ({"a": 1.0, "b": "x"}, {"a": 2.0, "b": "x"}, 0.5),
        (Charges(charges=4.0), Charges(charges=5.0), 0.2),
        (1, 2, math.inf),
        (True, False, math.inf),
        (1, 1.0, math.inf),
        ("a", "b", math.inf),
        (None, 1.0, math.inf),
        ([1.0], [1.0, 2.0], math.inf),
        ({"a": 1.0}, {"b": 1.0}, math.inf),
        (math.nan, 1.0, math.inf),
        ([1.0, "a"], [1.5, "b"], math.inf),
    ],
)
def test_the_relative_difference(one: Any, other: Any, expected: float) -> None:
    assert relative_difference(one, other) == pytest.approx(expected)
    assert relative_difference(other, one) == pytest.approx(expected)


def test_the_fields_that_differ_are_named_without_values() -> None:
    assert differing_fields(person(age=1, bmi=2.0), person(age=2, bmi=3.0)) == ("age", "bmi")
    assert differing_fields([1, 2, 3], [1, 5]) == ("[1]", "[2]")
    assert differing_fields({"secret": 1}, {"secret": 2}) == ("values()[0]",)
    assert differing_fields(1.0, 2.0) == ()
    assert len(differing_fields(list(range(50)), list(range(1, 51)))) == 10


NUMBERS = [[1.0, 2.0], [3.0, 4.0]]
MOVED = [[1.0, 2.0], [3.5, 3.75]]


@pytest.mark.parametrize(
    "container",
    [
        list,
        np.array,
        lambda rows: np.array(rows, "f4"),
        lambda rows: [np.array(rows), np.array(["a"])],
        lambda rows: {"scores": np.array(rows)},
        pd.DataFrame,
        lambda rows: pl.DataFrame(rows, orient="row"),
    ],
)
def test_the_numbers_of_any_container_are_compared(container: Any) -> None:
    assert largest_difference(container(NUMBERS), container(MOVED)) == 0.5
    assert largest_difference(container(NUMBERS), container(NUMBERS)) == 0.0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.array(["a"]), np.array(["b"])),
        (np.longdouble(1), "a"),
        (np.zeros(2, "M8[s]"), np.ones(2, "M8[s]")),
        (np.array([np.nan]), np.array([1.0])),
        (pd.Series(["a"]), pd.Series([1.0])),
    ],
)
def test_values_that_are_not_numbers_do_not_count(one: Any, other: Any) -> None:
    assert largest_difference(one, other) == 0.0

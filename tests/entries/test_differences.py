"""How far two predictions are apart, for the warning about batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from model_cache.entries.differences import largest_difference

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
def test_what_is_no_number_does_not_count(one: Any, other: Any) -> None:
    assert largest_difference(one, other) == 0.0

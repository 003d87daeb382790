"""Times are found by the names of columns, and read in every usual form."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from model_cache.advisor.times import seconds_of, time_column


@pytest.mark.parametrize(
    "value",
    [
        1_767_225_600,
        "1767225600.0",
        1_767_225_600_000,
        1_767_225_600_000_000,
        1_767_225_600_000_000_000,
        "2026-01-01T00:00:00Z",
        "2026-01-01 01:00:00+01:00",
        "2026-01-01",
        dt.datetime(2026, 1, 1),
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        dt.date(2026, 1, 1),
    ],
)
def test_a_time_is_read(value: Any) -> None:
    assert seconds_of(value) == 1_767_225_600


@pytest.mark.parametrize("value", [None, True, "soon", float("nan"), "inf", [1], 10**400])
def test_what_is_no_time_is_none(value: Any) -> None:
    assert seconds_of(value) is None


def test_a_field_of_the_model_is_not_taken_for_the_time_of_the_request() -> None:
    assert time_column(["Timestamp", "date"], ["date"]) == "Timestamp"
    assert time_column(["date"], ["date"]) is None

"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from model_cache.words import break_even, count, duration, entry_count, number, percent, size


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (count(1, "hit"), "1 hit"),
        (count(1000, "hit"), "1,000 hits"),
        (count(0, "miss", "misses"), "0 misses"),
        (entry_count(2), "2 entries"),
        (percent(0.0), "0%"),
        (percent(0.0004), "0.0%"),
        (percent(0.5), "50.0%"),
        (percent(1.0), "100%"),
        (break_even(None), "?"),
        (break_even(math.inf), "never"),
        (break_even(0.25), "25.0%"),
        (number(0.12345), "0.123"),
        (number(999.4), "999"),
        (number(999.5), "1,000"),
        (number(-1234.5), "-1,234"),
        (number(math.nan), "?"),
        (duration(3e-6), "3 µs"),
        (duration(0.005), "5 ms"),
        (duration(0.9996), "1,000 ms"),
        (duration(0), "0 s"),
        (duration(-1.5), "-1.5 s"),
        (duration(1, 90), "0.0167 / 1.5 min"),
        (duration(5400), "1.5 h"),
        (duration(43_200, 86_400, 129_600), "0.5 / 1 / 1.5 d"),
        (duration(1e9), "11,574 d"),
        (size(None), "?"),
        (size(0), "0 bytes"),
        (size(1), "1 byte"),
        (size(96.4), "96 bytes"),
        (size(999), "999 bytes"),
        (size(999.7), "1 kB"),
        (size(1500), "1.5 kB"),
        (size(155_700), "156 kB"),
        (size(2.5e12), "2.5 TB"),
    ],
)
def test_numbers_have_the_digits_and_the_unit_that_fit(shown: str, expected: str) -> None:
    assert shown == expected

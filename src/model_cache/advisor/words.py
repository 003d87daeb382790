"""Numbers in words."""

from __future__ import annotations

import math

from model_cache.advisor.findings import Estimate

NO_LIMIT = "no limit"
"""Stands for a change that can't be measured, such as an error in place of an answer."""

_UNITS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "us"))
_SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def count(number: int, one: str, many: str = "") -> str:
    """Return a number and its noun: `1 entry`, `1,000 entries`; `many` is for irregular ones."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def entry_count(number: int) -> str:
    """Return a number of entries."""
    return count(number, "entry", "entries")


def percent(value: float) -> str:
    """Return a ratio as a percentage."""
    digits = 0 if value in (0.0, 1.0) else 1
    return f"{100 * value:.{digits}f}%"


def number(value: float) -> str:
    """Return a number with three digits or more."""
    if not math.isfinite(value):
        return "?"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return a time with the unit that fits."""
    size = abs(seconds)
    length, unit = next((each for each in _UNITS if size >= each[0]), _UNITS[-1])
    return f"{number(seconds / length)} {unit}"


def size(count: float) -> str:
    """Return a number of bytes with the unit that fits."""
    length, unit = next((each for each in _SIZES if count >= each[0]), (1.0, "bytes"))
    return f"{count / length:.3g} {unit}"


def ratio(estimate: Estimate) -> str:
    """Return a ratio with its margin, if it has one."""
    margin = max(estimate.high - estimate.value, estimate.value - estimate.low)
    return percent(estimate.value) + (f" ± {100 * margin:.1f}" if margin >= 0.0005 else "")


def mean(estimate: Estimate) -> str:
    """Return a mean with its margin."""
    margin = estimate.high - estimate.value
    return number(estimate.value) + (f" ± {margin:.2g}" if margin > 0 else "")


def change(estimate: Estimate) -> str:
    """Return a change with its interval."""
    if not math.isfinite(estimate.value):
        return NO_LIMIT
    if estimate.low == estimate.high:
        return number(estimate.value)
    return f"{number(estimate.value)} ({number(estimate.low)} to {number(estimate.high)})"

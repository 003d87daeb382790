"""Estimates in words."""

from __future__ import annotations

import math

from model_cache.advisor.findings import Estimate
from model_cache.words import number, percent

NO_LIMIT = "no limit"
"""Stands for a change that can't be measured, such as an error in place of an answer."""


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

"""Intervals of estimates, with 99% confidence."""

from __future__ import annotations

import math

import numpy as np

from model_cache.advisor.columns import Array
from model_cache.advisor.findings import Estimate

Z = 2.5758
"""The normal quantile of 99% confidence, two-sided."""


def share(count: int, of: int) -> Estimate:
    """Return a share, with Wilson's interval (1927)."""
    if not of:
        return Estimate(0.0, 0.0, 1.0)
    value = count / of
    weight = Z * Z / of
    centre = (value + weight / 2) / (1 + weight)
    margin = Z * math.sqrt(value * (1 - value) / of + weight / (4 * of)) / (1 + weight)
    low = 0.0 if count == 0 else max(0.0, centre - margin)
    high = 1.0 if count == of else min(1.0, centre + margin)
    return Estimate(value, low, high)


def mean(values: Array, largest: float) -> Estimate:
    """Return the mean of values from 0.

    Args:
        values: a random sample.
        largest: a value that could have been missed: what the rare ones may be.
    """
    count = len(values)
    value = float(values.mean()) if count else 0.0
    if not math.isfinite(value):
        return Estimate(value, 0.0, math.inf)
    spread = float(values.std(ddof=1)) if count > 1 else 0.0
    margin = Z * spread / math.sqrt(count) if count else math.inf
    if not values.any():
        margin = beyond(count) * largest
    return Estimate(value, max(0.0, value - margin), value + margin)


def quantile(values: Array, level: float) -> Estimate:
    """Return a quantile, with the interval from order statistics."""
    found = np.sort(values)
    count = len(found)
    if not count:
        return Estimate(0.0, 0.0, math.inf)
    place = min(count - 1, math.ceil(level * count) - 1)
    margin = Z * math.sqrt(count * level * (1 - level))
    low = max(0, math.floor(level * count - margin) - 1)
    high = math.ceil(level * count + margin)
    top = float(found[high]) if high < count else math.inf
    return Estimate(float(found[place]), float(found[low]), top)


def beyond(count: int) -> float:
    """Return the largest share of a population of which a sample may have had nothing."""
    return 1.0 - (1.0 - 0.99) ** (1.0 / count) if count else 1.0

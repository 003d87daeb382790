"""How much answers change: from pairs of answers to statistics with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from model_cache.advisor import estimates
from model_cache.advisor.answers import Answer
from model_cache.advisor.findings import Changes


def changes(own: Sequence[Answer], served: Sequence[Answer], spread: float) -> Changes:
    """Return how answers change.

    Args:
        own: the model's answers to requests.
        served: the answers that the cache would give.
        spread: the range of the answers, which a change seldom exceeds.
    """
    count = len(own)
    changed = sum(not _same(one, other) for one, other in zip(own, served, strict=True))
    flips = sum(not _same_labels(one, other) for one, other in zip(own, served, strict=True))
    numbers = any(answer.numbers for answer in own)
    labels = any(answer.labels for answer in own)
    distances = np.array([_distance(*pair) for pair in zip(own, served, strict=True)])
    return Changes(
        sampled=count,
        share=estimates.share(changed, count),
        mean=estimates.mean(distances, spread) if numbers else None,
        p99=estimates.quantile(distances, 0.99) if numbers else None,
        maximum=float(distances.max(initial=0.0)) if numbers else None,
        beyond=estimates.beyond(count),
        flipped=estimates.share(flips, count) if labels else None,
    )


def spread_of(answers: Sequence[Answer]) -> float:
    """Return the range of the answers' numbers, without the outermost."""
    widths = [0.0]
    numbers = [answer.numbers for answer in answers if answer.numbers]
    for column in zip(*numbers, strict=False):
        low, high = np.nanquantile(column, [0.005, 0.995])
        widths.append(float(high - low))
    return max(width for width in widths if math.isfinite(width))


def _same(one: Answer, other: Answer) -> bool:
    return _distance(one, other) == 0.0 and _same_labels(one, other)


def _same_labels(one: Answer, other: Answer) -> bool:
    return one.labels == other.labels


def _distance(one: Answer, other: Answer) -> float:
    """Return the largest difference of two answers' numbers; infinite if they have no others."""
    if one.numbers == other.numbers:
        return 0.0
    if len(one.numbers) != len(other.numbers):
        return math.inf
    return max(map(_gap, one.numbers, other.numbers))


def _gap(one: float, other: float) -> float:
    if one == other or (math.isnan(one) and math.isnan(other)):
        return 0.0
    gap = abs(one - other)
    return math.inf if math.isnan(gap) else gap

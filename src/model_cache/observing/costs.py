"""What hits and misses cost, what the model costs, and from which hit ratio on a cache pays.

A row of a batch takes a model less time than a single prediction, often by far, so that the two
are never taken for each other: a hit in a batch saves the time of a row in a batch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from model_cache.observing.counters import Stats


class ModelTimes(NamedTuple):
    """The mean times of a model's misses, in seconds; None if there was no such miss.

    Attributes:
        single: the model's time for a single prediction.
        batch: the model's time for a row of a batch.
        overhead: the time of a miss beyond that of the model: lookup and write.
    """

    single: float | None = None
    batch: float | None = None
    overhead: float | None = None

    def or_else(self, other: ModelTimes) -> ModelTimes:
        """Return these times, and another's where these are None."""
        return ModelTimes(
            *(mine if mine is not None else its for mine, its in zip(self, other, strict=True))
        )


UNKNOWN_TIMES = ModelTimes()


def model_times(stats: Stats) -> ModelTimes:
    """Return the mean times of the misses."""
    single_seconds = stats.model_seconds - stats.batch_model_seconds
    return ModelTimes(
        single=_mean(single_seconds, stats.misses - stats.batch_misses),
        batch=_mean(stats.batch_model_seconds, stats.batch_misses),
        overhead=_mean(max(0.0, stats.miss_seconds - stats.model_seconds), stats.misses),
    )


def _mean(seconds: float, count: int) -> float | None:
    return seconds / count if count > 0 else None


def seconds_saved(stats: Stats, times: ModelTimes) -> float:
    """Return the model time that the hits saved, less the time that they took."""
    saved = _model_seconds(stats.hits - stats.batch_hits, stats.batch_hits, times)
    return 0.0 if saved is None else saved - stats.hit_seconds


def _model_seconds(singles: int, rows: int, times: ModelTimes) -> float | None:
    """Return how long the model would take, at least; None if that is not known."""
    # A row of a batch at most as long as a single prediction: a lower limit for the other.
    single = times.single if times.single is not None else times.batch
    if single is None:
        return None
    return singles * single + rows * (times.batch or 0.0)


def break_even(stats: Stats, times: ModelTimes) -> float | None:
    """Return the share of hits among hits and misses above which the cache pays.

    Returns:
        The share; infinity if hits take longer than the model; None if it is not known.
    """
    singles = stats.hits + stats.misses - stats.batch_hits - stats.batch_misses
    rows = stats.batch_hits + stats.batch_misses
    without = _model_seconds(singles, rows, times)
    if without is None or times.overhead is None or not singles + rows:
        return None
    hit = _mean(stats.hit_seconds, stats.hits)
    return break_even_ratio(without / (singles + rows), times.overhead, hit)


def break_even_ratio(model: float, overhead: float, hit: float | None) -> float:
    """Return the share of hits above which a cache pays; infinity if it never does.

    With the cache, a lookup takes the time of a hit, or the model's plus the overhead of a miss;
    without it, the model's. Both are equal where `ratio * (model + overhead - hit) == overhead`.

    Args:
        model: the mean time of the model.
        overhead: the mean time of a miss beyond the model's: a lookup and a write.
        hit: the mean time of a hit; None before the first, for half of the overhead.
    """
    hit = overhead / 2 if hit is None else hit
    return overhead / (model + overhead - hit) if hit < model else math.inf

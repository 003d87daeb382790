"""What hits and misses cost, what the model costs, and from which hit ratio on a cache pays.

A row of a batch takes a model less time than a single prediction, often by far, so that the two
are never taken for each other: a hit in a batch saves the time of a row in a batch.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol


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


class Counted(Protocol):
    """The counts that costs are made of; `Stats` describes them."""

    @property
    def hits(self) -> int: ...
    @property
    def misses(self) -> int: ...
    @property
    def batch_hits(self) -> int: ...
    @property
    def batch_misses(self) -> int: ...
    @property
    def hit_seconds(self) -> float: ...
    @property
    def miss_seconds(self) -> float: ...
    @property
    def model_seconds(self) -> float: ...
    @property
    def batch_model_seconds(self) -> float: ...


def model_times(counted: Counted) -> ModelTimes:
    """Return the mean times of the misses."""
    single_seconds = counted.model_seconds - counted.batch_model_seconds
    return ModelTimes(
        single=_mean(single_seconds, counted.misses - counted.batch_misses),
        batch=_mean(counted.batch_model_seconds, counted.batch_misses),
        overhead=_mean(max(0.0, counted.miss_seconds - counted.model_seconds), counted.misses),
    )


def _mean(seconds: float, count: int) -> float | None:
    return seconds / count if count > 0 else None


def seconds_saved(counted: Counted, times: ModelTimes) -> float:
    """Return the model time that the hits saved, less the time that they took."""
    saved = _model_seconds(counted.hits - counted.batch_hits, counted.batch_hits, times)
    return 0.0 if saved is None else saved - counted.hit_seconds


def _model_seconds(singles: int, rows: int, times: ModelTimes) -> float | None:
    """Return how long the model would take, at least; None if that is not known."""
    # A row of a batch at most as long as a single prediction: a lower limit for the other.
    single = times.single if times.single is not None else times.batch
    if single is None:
        return None
    return singles * single + rows * (times.batch or 0.0)


def break_even(counted: Counted, times: ModelTimes) -> float | None:
    """Return the share of hits among hits and misses above which the cache pays.

    Returns:
        The share; infinity if hits take longer than the model; None if it is not known.
    """
    singles = counted.hits + counted.misses - counted.batch_hits - counted.batch_misses
    rows = counted.batch_hits + counted.batch_misses
    without = _model_seconds(singles, rows, times)
    if without is None or times.overhead is None or not singles + rows:
        return None
    hit = _mean(counted.hit_seconds, counted.hits)
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

"""Scales: where a value is on an axis, and which values have a tick."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from model_cache.words import duration, number

_DAY = 86_400.0
_DURATIONS = (
    1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0,
    3 * 3600.0, 6 * 3600.0, 12 * 3600.0, _DAY, 2 * _DAY, 5 * _DAY, 10 * _DAY, 15 * _DAY, 30 * _DAY,
    60 * _DAY, 90 * _DAY, 180 * _DAY, 365 * _DAY,
)  # fmt: skip
_LOG_DURATIONS = (1.0, 10.0, 60.0, 600.0, 3600.0, 6 * 3600.0, _DAY, 5 * _DAY, 30 * _DAY, 365 * _DAY)
# The default for the most ticks of an axis.
_MOST = 5
# The room for the value 0, which has no logarithm.
_GUTTER = 0.08


@dataclass(frozen=True)
class Scale:
    """A scale.

    Attributes:
        low: the value at the beginning.
        high: the value at the end.
        ticks: the values with a tick, and their labels.
        logarithmic: whether equal ratios have equal lengths.
        zero: whether a logarithmic scale has a place for 0 before its beginning.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool = False
    zero: bool = False

    def place(self, value: float) -> float:
        """Return the place of a value, from 0 to 1."""
        if not self.logarithmic:
            return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))
        start = _GUTTER if self.zero else 0.0
        if value <= 0:
            return 0.0
        part = math.log(value / self.low) / math.log(self.high / self.low)
        return start + (1.0 - start) * min(1.0, max(0.0, part))


def linear(values: Iterable[float], form: Callable[[float], str], most: int = _MOST) -> Scale:
    """Return a scale from 0, or from a negative value, to the largest value."""
    low, high = _ends(values)
    steps = (factor * 10.0**power for power in range(-12, 16) for factor in (1.0, 2.0, 5.0))
    return _stepped(low, high, next(each for each in steps if (high - low) / each <= most), form)


def durations(values: Iterable[float]) -> Scale:
    """Return a linear scale of times, with ticks at whole minutes, hours or days."""
    low, high = _ends(values)
    if high - low < 1.0:
        return linear((low, high), as_duration)
    steps = (
        *_DURATIONS,
        *(factor * 10.0**power * _DAY for power in range(3, 9) for factor in (1, 2, 5)),
    )
    step = next((each for each in steps if (high - low) / each <= _MOST), high - low)
    return _stepped(low, high, step, as_duration, whole=low < 0)


def _ends(values: Iterable[float]) -> tuple[float, float]:
    found = [0.0, *values]
    low, high = min(found), max(found)
    return (low, high) if high > low else (low, low + 1.0)


def _stepped(
    low: float, high: float, step: float, form: Callable[[float], str], *, whole: bool = True
) -> Scale:
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    end = last * step if whole else high
    ticks = [each * step for each in range(first, last + 1) if each * step <= end * (1 + 1e-9)]
    return Scale(first * step, end, tuple((each, form(each)) for each in ticks))


def logarithmic(values: Iterable[float], form: Callable[[float], str]) -> Scale:
    """Return a logarithmic scale over the positive values; with a place for 0 if one is there."""
    found = [*values]
    positive = [each for each in found if each > 0] or [1.0]
    low, high = min(positive), max(positive)
    if high < 2 * low:
        low, high = low / 1.5, high * 1.5
    zero = any(each <= 0 for each in found)
    ticks = _thinned(_decimal(low, high))
    labelled = [(each, form(each)) for each in ticks]
    return Scale(low, high, ((0.0, "0"), *labelled) if zero else (*labelled,), True, zero)


def log_durations(values: Iterable[float]) -> Scale:
    """Return a logarithmic scale of times."""
    found = logarithmic(values, as_duration)
    inside = [each for each in _LOG_DURATIONS if found.low <= each <= found.high]
    if len(inside) < 2:
        return found
    ticks = tuple((each, as_duration(each)) for each in _thinned(inside))
    return Scale(found.low, found.high, ticks, True)


def _decimal(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0)):
        ticks = [factor * 10.0**power for power in powers for factor in factors]
        ticks = [each for each in ticks if low * 0.999 <= each <= high * 1.001]
        if len(ticks) >= 3:
            return ticks
    return ticks or [low]


def _thinned(ticks: Sequence[float]) -> list[float]:
    return [*ticks[:: max(1, -(-len(ticks) // _MOST))]]


def as_percentage(ratio: float) -> str:
    """Return the label of a ratio."""
    return f"{number(100 * ratio)}%"


def as_duration(seconds: float) -> str:
    """Return the label of a time."""
    return duration(seconds) if seconds else "0"

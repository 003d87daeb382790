"""Numbers in words: counts, ratios, times and sizes, as people read them."""

from __future__ import annotations

import math

_TIMES = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "bytes"))


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


def break_even(ratio: float | None) -> str:
    """Return the hit ratio from which a cache pays: `?` if unknown, `never` if infinite."""
    if ratio is None:
        return "?"
    return "never" if math.isinf(ratio) else percent(ratio)


def number(value: float) -> str:
    """Return a number with three digits or more."""
    if not math.isfinite(value):
        return "?"
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def duration(*seconds: float) -> str:
    """Return times in one unit, the one that fits the last: `1.5 h`, `0.5 / 2 / 3.1 h`."""
    length, unit = _fitting(_TIMES, abs(seconds[-1]) or 1.0)
    return f"{' / '.join(number(each / length) for each in seconds)} {unit}"


def size(count: float | None) -> str:
    """Return a number of bytes with the unit that fits: `1.5 kB`; `?` if it is unknown."""
    if count is None:
        return "?"
    whole = round(count)
    length, unit = _fitting(_SIZES, whole)
    return "1 byte" if whole == 1 else f"{number(whole / length)} {unit}"


def _fitting(units: tuple[tuple[float, str], ...], size: float) -> tuple[float, str]:
    return next((each for each in units if size >= each[0]), units[-1])

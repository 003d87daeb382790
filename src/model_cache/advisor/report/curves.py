"""The charts of reuse: over time, and against memory and the TTL."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from model_cache.advisor.advice import Advice
from model_cache.advisor.findings import Capacity, CapacityPoint, Estimate, Reuse
from model_cache.advisor.report.chart import Axis, Chart, Kind, Point, Series
from model_cache.advisor.report.scales import (
    as_percentage,
    durations,
    linear,
    log_durations,
    logarithmic,
)
from model_cache.advisor.words import ratio
from model_cache.words import count, duration, entry_count, percent, size

_KINDS: tuple[Kind, ...] = ("first", "second", "third")
_ENOUGH = 0.9
_FEW = 0.05
_APART = 1.2


def reuse_chart(advice: Advice) -> Chart:
    """Return the hit ratio over time in a cache that never evicts."""
    reuse = advice.reuse
    timed = all(point.seconds is not None for point in reuse.points)
    at = [point.seconds or 0.0 if timed else float(point.requests) for point in reuse.points]
    scale = durations(at) if timed else linear(at, _count)
    parts, whole = "in this part of the log", "since its beginning"
    here = [_at(x, each.window, parts, timed) for x, each in zip(at, reuse.points, strict=True)]
    so_far = [_at(x, each.so_far, whole, timed) for x, each in zip(at, reuse.points, strict=True)]
    return Chart(
        title="How soon do requests repeat?",
        sentence=_reuse_sentence(reuse),
        x=Axis("Time since the first request" if timed else "Requests", scale),
        y=_hits(advice, [each.y for each in (*here, *so_far)]),
        series=(Series(parts, (*here,), _KINDS[0]), Series(whole, (*so_far,), _KINDS[1])),
        rule=_rule(advice),
    )


def _at(x: float, y: float, name: str, timed: bool) -> Point:
    when = f"after {duration(x) if timed else count(round(x), 'request')}"
    return Point(x, y, f"{when}: {percent(y)} hits {name}")


def _reuse_sentence(reuse: Reuse) -> str:
    if reuse.hit_ratio.value <= 0:
        return "As it is, the traffic repeats no request."
    steady = (
        f"As it is, the traffic has {ratio(reuse.steady)} hits in its last quarter, if "
        "nothing is evicted"
    )
    if reuse.reached_requests is None:
        return f"{steady}."
    after = count(reuse.reached_requests, "request")
    if reuse.reached_seconds is not None:
        after += f" ({duration(reuse.reached_seconds)})"
    return f"{steady}; nine tenths of that are reached after {after}."


def memory_chart(advice: Advice, capacity: Capacity, title: str) -> Chart:
    """Return the hit ratio against the memory, or the entries if no memory was measured."""
    points = capacity.by_entries
    series, label = _by_memory(points), "Memory"
    form: Callable[[float], str] = size
    if not _is_wide(series):  # an empty server takes most of it
        entries = [(each.entries, each.hit_ratio) for each in points]
        series = [_curve("Redis", _KINDS[0], entries, lambda number: entry_count(round(number)))]
        label, form = "Entries", _count
    every = _points_of(series)
    return Chart(
        title=title,
        sentence=_memory_sentence(capacity),
        x=Axis(label, logarithmic([each.x for each in every], form)),
        y=_hits(advice, [each.y for each in every]),
        series=(*series,),
        rule=_rule(advice),
    )


def _by_memory(points: tuple[CapacityPoint, ...]) -> list[Series]:
    """Return the measured curves; that of a near cache only if it has enough hits."""
    near = [
        (each.near_bytes, Estimate(each.near, each.near, each.near))
        for each in points
        if each.near is not None
    ]
    curves = {
        "Redis, plain": [(each.plain, each.hit_ratio) for each in points],
        "Redis, packed": [(each.packed, each.hit_ratio) for each in points],
        "near cache": near if _most_near(points) > _FEW * points[-1].hit_ratio.value else [],
    }
    found = [
        _curve(name, kind, [(x, hits) for x, hits in pairs if x], size)
        for kind, (name, pairs) in zip(_KINDS, curves.items(), strict=True)
    ]
    return [series for series in found if series.points]


def _curve(
    name: str, kind: Kind, points: Sequence[tuple[int, Estimate]], form: Callable[[float], str]
) -> Series:
    found = [
        Point(
            x,
            hits.value,
            f"{name}: {form(x)}, {ratio(hits)} hits",
            along=(hits.low, hits.high) if hits.low < hits.high else None,
        )
        for x, hits in points
    ]
    return Series(name, tuple(found), kind)


def _points_of(series: Sequence[Series]) -> list[Point]:
    return [point for line in series for point in line.points]


def _is_wide(series: Sequence[Series]) -> bool:
    """Return whether the values on the x axis are far enough apart for a chart."""
    places = [point.x for point in _points_of(series)]
    return bool(places) and max(places) >= _APART * min(places)


def _most_near(points: tuple[CapacityPoint, ...]) -> float:
    return max((point.near or 0.0 for point in points), default=0.0)


def _memory_sentence(capacity: Capacity) -> str:
    points = capacity.by_entries
    most = points[-1].hit_ratio.value
    enough = next(each for each in points if each.hit_ratio.value >= _ENOUGH * most)
    if most <= 0:
        return "No size has hits."
    layouts = (("plain", enough.plain), ("packed", enough.packed))
    sizes = [f"{size(count)} {layout}" for layout, count in layouts if count is not None]
    takes = f" ({', '.join(sizes)})" if sizes else ""
    near = "" if points[-1].near is None else f" A near cache has {percent(_most_near(points))}."
    return (
        f"With {entry_count(enough.entries)}{takes}, there are {percent(enough.hit_ratio.value)} "
        f"hits; with all {points[-1].entries:,}, {percent(most)} ({capacity.choice}).{near}"
    )


def ttl_chart(advice: Advice) -> Chart | None:
    """Return the hit ratio against the TTL; None without times."""
    series = [
        Series(
            capacity.choice,
            tuple(
                Point(
                    each.ttl,
                    each.hit_ratio.value,
                    f"{capacity.choice}, TTL {duration(each.ttl)}: {ratio(each.hit_ratio)} hits, "
                    f"{entry_count(each.entries)}",
                    along=(each.hit_ratio.low, each.hit_ratio.high),
                )
                for each in capacity.by_ttl
            ),
            kind,
        )
        for capacity, kind in zip(advice.capacity, _KINDS, strict=False)
        if capacity.by_ttl
    ]
    if not _is_wide(series):  # a single point
        return None
    every = _points_of(series)
    return Chart(
        title="How long should entries live?",
        sentence=_ttl_sentence(advice.capacity[-1]),
        x=Axis("TTL", log_durations([each.x for each in every])),
        y=_hits(advice, [each.y for each in every]),
        series=(*series,),
        rule=_rule(advice),
    )


def _ttl_sentence(capacity: Capacity) -> str:
    points = capacity.by_ttl
    if not points or points[-1].hit_ratio.value <= 0:
        return "No TTL has hits."
    last = points[-1]
    enough = next(each for each in points if each.hit_ratio.value >= _ENOUGH * last.hit_ratio.value)
    return (
        f"A TTL of {duration(enough.ttl)} has {percent(enough.hit_ratio.value)} hits, one of "
        f"{duration(last.ttl)} has {percent(last.hit_ratio.value)} ({capacity.choice})."
    )


def _hits(advice: Advice, values: list[float]) -> Axis:
    limit = advice.economics.break_even if advice.economics else None
    shown = [0.05, *values, *([] if limit is None else [limit])]
    return Axis("Hit ratio", linear(shown, as_percentage))


def _rule(advice: Advice) -> tuple[float, str] | None:
    limit = advice.economics.break_even if advice.economics else None
    return None if limit is None else (limit, f"pays from {percent(limit)}")


def _count(value: float) -> str:
    return f"{value:,.0f}"

"""What a hit ratio takes: entries, bytes, and a TTL."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from model_cache.advisor.columns import Array, Hashes
from model_cache.advisor.distances import misses_with_ttl, previous_uses, stack_distances
from model_cache.advisor.estimates import Z
from model_cache.advisor.findings import (
    Capacity,
    CapacityPoint,
    EntrySizes,
    Estimate,
    Reuse,
    ReusePoint,
    TtlPoint,
)
from model_cache.advisor.hashing import ratio_of_misses
from model_cache.advisor.sample import Sample
from model_cache.options.config import DEFAULT_NEAR_TTL

_SAMPLED = 200_000
_POINTS = 24
_WINDOWS = 40
_DAY = 86_400.0
# From a day on, no whole weeks: much traffic repeats weekly, and would be a matter of seconds.
_TTLS = (
    1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 12 * 3600.0,
    _DAY, 2 * _DAY, 4 * _DAY, 8 * _DAY, 16 * _DAY, 32 * _DAY, 92 * _DAY,
)  # fmt: skip


def reuse_of(keys: Hashes, times: Array | None, sample: Sample) -> Reuse:
    """Return the reuse over time of a cache that never evicts."""
    places, rate = sample.taken(keys, 4 * _SAMPLED)
    previous = previous_uses(keys[places])
    misses = places[previous < 0]
    total = len(misses)
    count = len(keys)
    edges = np.unique(np.linspace(0, count, _WINDOWS + 1).astype(np.int64))
    each = sample.requests / max(1, count)  # what one request of the log stands for
    new = np.histogram(misses, edges)[0] / rate / each
    windows = np.clip(1.0 - new / np.diff(edges), 0.0, 1.0)
    so_far = np.clip(1.0 - np.cumsum(new) / edges[1:], 0.0, 1.0)
    points = tuple(
        ReusePoint(round(int(end) * each), _since(times, int(end)), float(ratio), float(window))
        for end, ratio, window in zip(edges[1:], so_far, windows, strict=True)
    )
    last = windows[-max(1, len(windows) // 4) :]
    steady, spread = float(last.mean()), float(last.std()) / max(1, len(last) - 1) ** 0.5
    enough = (each for each in points if each.window >= 0.9 * steady > 0)
    reached = next(enough, None)
    distinct = total / rate
    margin = Z * (total * (1 - rate)) ** 0.5 / rate
    return Reuse(
        ratio_of_misses(total, total, rate, sample.requests),
        Estimate(steady, max(0.0, steady - 3 * spread), min(1.0, steady + 3 * spread)),
        Estimate(distinct, distinct - margin, distinct + margin),
        points,
        None if reached is None else reached.requests,
        None if reached is None else reached.seconds,
    )


def _since(times: Array | None, count: int) -> float | None:
    return None if times is None else float(times[count - 1] - times[0])


def capacity_of(
    label: str, keys: Hashes, times: Array | None, sample: Sample, sizes: EntrySizes | None = None
) -> Capacity:
    """Return the curves of a choice.

    Args:
        label: the choice, in words.
        keys: the key of each request.
        times: the times; None without times.
        sample: how the requests were chosen.
        sizes: the memory of entries; None if it was not measured.
    """
    places, rate = sample.taken(keys, _SAMPLED)
    found = keys[places]
    at = None if times is None else times[places]
    distances = stack_distances(previous_uses(found))
    distinct = int(np.count_nonzero(distances < 0))
    near = None if at is None else ~misses_with_ttl(found, at, DEFAULT_NEAR_TTL)

    def ratio(misses: Array) -> Estimate:
        return ratio_of_misses(int(np.count_nonzero(misses)), distinct, rate, sample.requests)

    def point(entries: int) -> CapacityPoint:
        hits = (distances >= 0) & (distances < entries * rate)
        near_hits = None if near is None else ratio(~(hits & near)).value
        return CapacityPoint(entries, ratio(~hits), near_hits, *_bytes(sizes, entries))

    by_ttl = () if at is None else _ttl_curve(found, at, rate, ratio)
    return Capacity(label, len(places), rate, tuple(map(point, _sizes(distinct / rate))), by_ttl)


def _sizes(distinct: float) -> list[int]:
    least = min(10.0, max(1.0, distinct))
    sizes = np.geomspace(least, max(least, distinct), _POINTS)
    # Most of the curve happens in the last factor of ten.
    more = np.linspace(0.1, 1.0, 10) * distinct
    return sorted({max(1, round(each)) for each in (*sizes.tolist(), *more.tolist())})


def _bytes(sizes: EntrySizes | None, entries: int) -> tuple[int | None, int | None, int | None]:
    """Return the memory of entries in the plain layout, the packed layout and a near cache."""
    if sizes is None:
        return None, None, None
    packed = None if sizes.packed is None else round(sizes.empty + sizes.packed * entries)
    return round(sizes.empty + sizes.plain * entries), packed, round(sizes.near * entries)


def _ttl_curve(
    keys: Hashes, times: Array, rate: float, ratio: Callable[[Array], Estimate]
) -> tuple[TtlPoint, ...]:
    duration = float(times[-1] - times[0]) if len(times) else 0.0
    points = []
    for ttl in (each for each in _TTLS if each < duration):
        misses = misses_with_ttl(keys, times, ttl)
        alive = int(misses[times > times[-1] - ttl].sum() / rate)
        points.append(TtlPoint(ttl, ratio(misses), alive))
    return tuple(points)

"""Reuse distances: from one pass over a sample of keys to the hit ratio at every size and TTL."""

from __future__ import annotations

import numpy as np

from model_cache.advisor.columns import Array, Hashes


def previous_uses(keys: Hashes) -> Array:
    """Return for each request the place of the one before with the same key; -1 for the first."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    found = np.full(len(keys), -1, np.int64)
    again = ordered[1:] == ordered[:-1]
    found[order[1:][again]] = order[:-1][again]
    return found


def stack_distances(previous: Array) -> Array:
    """Return how many other keys were used since the key's previous use; -1 for its first use.

    An LRU cache has a hit exactly if this is less than the number of entries that it holds
    (Mattson et al., 1970).

    Args:
        previous: see `previous_uses`.
    """
    count = len(previous)
    found = np.full(count, -1, np.int64)
    at = np.flatnonzero(previous >= 0)
    if not len(at):
        return found
    # Between the previous use p and now, i, a key counts once, at its first use after p: the j < i
    # with previous[j] < p, less those up to p, which all fulfil it.
    found[at] = _count_below(previous, at, previous[at]) - (previous[at] + 1)
    return found


def _count_below(values: Array, ends: Array, limits: Array) -> Array:
    """Return how many of `values[:end]` are below the limit, for each end and limit.

    [0, end) is a union of aligned blocks whose lengths are powers of two. The blocks of one length
    are sorted together, and searched together.
    """
    size = 1 << max(1, len(values).bit_length())
    padded = np.full(size, size, np.int64)
    padded[: len(values)] = values
    wide = np.int64(2 * size)
    counts = np.zeros(len(ends), np.int64)
    length = 1
    while length <= size // 2:
        blocks = padded.reshape(-1, length)
        if length > 1:
            blocks.sort(axis=1, kind="stable")
        has = np.flatnonzero(ends & length)
        block = (ends[has] & ~(2 * length - 1)) // length
        line = (blocks + (np.arange(len(blocks), dtype=np.int64) * wide)[:, None]).reshape(-1)
        place = np.searchsorted(line, block * wide + limits[has], side="left")
        counts[has] += place - block * length
        length *= 2
    return counts


def misses_with_ttl(keys: Hashes, times: Array, ttl: float) -> Array:
    """Return which requests miss in a cache that never evicts, when entries end after a TTL.

    An entry ends so long after it was written; a hit does not prolong it.

    Args:
        keys: the key of each request.
        times: the times, in order.
        ttl: the time to live, in seconds.
    """
    order = np.argsort(keys, kind="stable")
    ordered, at = keys[order], times[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    group = np.cumsum(np.r_[True, ordered[1:] != ordered[:-1]]) - 1
    ends = np.r_[starts[1:], len(keys)][group]
    # Keys one after the other on one line of time, too far apart to meet.
    span = float(times[-1] - times[0]) + ttl + 1.0 if len(times) else 1.0
    line = group * span + (at - at.min(initial=0.0))
    following = np.minimum(np.searchsorted(line, line + ttl, side="left"), ends)
    misses = np.zeros(len(keys), np.bool_)
    misses[order[_reached(starts, ends[starts], following)]] = True
    return misses


def _reached(starts: Array, ends: Array, following: Array) -> Array:
    """Return the places that are reached from the starts, each before its end."""
    now, found = starts, [starts]
    limits = ends
    while len(now):
        now = following[now]
        inside = now < limits
        now, limits = now[inside], limits[inside]
        found.append(now)
        if len(now) < 64:  # a few popular keys with many entries one after the other
            found.append(_walked(now, limits, following))
            break
    return np.concatenate(found)


def _walked(starts: Array, ends: Array, following: Array) -> Array:
    steps: list[int] = []
    jump = following.tolist() if len(starts) else []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        place = jump[start]
        while place < end:
            steps.append(place)
            place = jump[place]
    return np.array(steps, np.int64)

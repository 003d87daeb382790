"""Reuse distances give the same hits as caches that are simulated."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_cache.advisor.distances import misses_with_ttl, previous_uses, stack_distances


def lru_hits(keys: list[int], size: int) -> int:
    cache: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for key in keys:
        hits += key in cache
        cache[key] = None
        cache.move_to_end(key)
        if len(cache) > size:
            cache.popitem(last=False)
    return hits


def ttl_misses(keys: list[int], times: list[float], ttl: float) -> list[bool]:
    written: dict[int, float] = {}
    misses = []
    for key, time in zip(keys, times, strict=True):
        misses.append(key not in written or time >= written[key] + ttl)
        if misses[-1]:
            written[key] = time
    return misses


@given(st.lists(st.integers(0, 12), max_size=80), st.integers(1, 14))
def test_distances_tell_the_hits_of_an_lru_cache_of_any_size(keys: list[int], size: int) -> None:
    distances = stack_distances(previous_uses(np.array(keys, np.uint64)))
    assert int(((distances >= 0) & (distances < size)).sum()) == lru_hits(keys, size)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 50)), min_size=1, max_size=80),
    st.integers(1, 60),
)
def test_an_entry_ends_so_long_after_it_was_written(
    requests: list[tuple[int, int]], ttl: int
) -> None:
    times = sorted(float(time) for _, time in requests)
    keys = [key for key, _ in requests]
    found = misses_with_ttl(np.array(keys, np.uint64), np.array(times), float(ttl))
    assert found.tolist() == ttl_misses(keys, times, ttl)


@pytest.mark.parametrize("ttl", [0.5, 40.0])
def test_a_few_popular_keys_with_many_entries_are_followed_to_the_end(ttl: float) -> None:
    keys = [0, 1] * 500
    times = [float(number) for number in range(1000)]
    found = misses_with_ttl(np.array(keys, np.uint64), np.array(times), ttl)
    assert found.tolist() == ttl_misses(keys, times, ttl)

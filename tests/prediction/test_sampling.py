"""Which hits are verified: as many as asked for, spread at random over all."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from model_cache.observing.intervals import highest_share
from model_cache.prediction.sampling import Sample

HITS = 200_000


def taken(share: float, first: int = 0, hits: int = HITS, seed: int = 1) -> list[int]:
    sample = Sample(share, first, random.Random(seed).random)
    return [number for number in range(hits) if sample.takes()]


@pytest.mark.parametrize("share", [0.001, 0.01, 0.3, 0.99])
def test_the_share_of_hits_is_taken(share: float) -> None:
    found = len(taken(share))
    deviation = math.sqrt(HITS * share * (1 - share))
    assert abs(found - HITS * share) < 6 * deviation


def test_every_hit_is_as_likely_as_any_other() -> None:
    """The gaps are geometric: after a hit that was taken, the next one may be, too."""
    numbers = taken(0.5)
    pairs = sum(after == before + 1 for before, after in itertools.pairwise(numbers))
    assert abs(pairs / len(numbers) - 0.5) < 0.02


def test_all_or_none() -> None:
    assert taken(1.0, hits=50) == list(range(50))
    assert taken(0.0) == []


def test_the_first_hits_are_taken_and_then_the_share() -> None:
    assert taken(0.0, first=20) == list(range(20))
    numbers = taken(0.01, first=20)
    assert numbers[:20] == list(range(20))
    assert 0.8 * HITS / 100 < len(numbers) < 1.2 * HITS / 100


@pytest.mark.parametrize(("share", "first"), [(0.01, 0), (0.3, 5), (1.0, 0), (0.0, 7)])
def test_many_hits_at_once_are_taken_like_single_ones(share: float, first: int) -> None:
    sizes = random.Random(2)
    sample, found, seen = Sample(share, first, random.Random(1).random), [], 0
    while seen < 20_000:
        size = sizes.randrange(50)
        found += [seen + number for number in sample.among(size)]
        seen += size
    assert found == taken(share, first, seen)


def test_the_upper_bound_of_a_share() -> None:
    assert highest_share(0, 300) == pytest.approx(0.00994, abs=1e-5)  # at most 1 %
    assert highest_share(0, 0) == highest_share(5, 5) == 1.0
    assert highest_share(0, 1) == pytest.approx(0.95)
    # From R: binom.test(k, n, alternative = "less")$conf.int[2]
    assert highest_share(1, 100) == pytest.approx(0.04655981, abs=1e-7)
    assert highest_share(10, 100) == pytest.approx(0.1637200, abs=1e-3)
    assert highest_share(5_000, 1_000_000) == pytest.approx(0.00512, abs=1e-5)


def test_the_bound_holds_for_95_of_100_samples() -> None:
    draw, trials, share, size = random.Random(3), 2_000, 0.02, 200
    held = sum(
        highest_share(sum(draw.random() < share for _ in range(size)), size) >= share
        for _ in range(trials)
    )
    assert held / trials >= 0.95 - 6 * math.sqrt(0.95 * 0.05 / trials)

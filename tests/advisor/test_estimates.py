"""Intervals contain the truth about as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from model_cache.advisor import estimates
from model_cache.advisor.hashing import hit_ratio, ratio_of_misses
from model_cache.advisor.sample import Sample

RUNS = 400


def test_shares_means_and_quantiles_are_inside_their_intervals_in_99_of_100_samples() -> None:
    chance = np.random.default_rng(0)
    everything = np.where(chance.random(100_000) < 0.2, chance.exponential(3.0, 100_000), 0.0)
    truth = float((everything > 0).mean()), everything.mean(), np.quantile(everything, 0.99)
    inside = np.zeros(3)
    for _ in range(RUNS):
        sample = chance.choice(everything, 2_000, replace=False)
        found = (
            estimates.share(int((sample > 0).sum()), 2_000),
            estimates.mean(sample, 10.0),
            estimates.quantile(sample, 0.99),
        )
        inside += [each.low <= true <= each.high for each, true in zip(found, truth, strict=True)]
    assert (inside >= 0.97 * RUNS).all(), inside


def test_hit_ratios_of_a_sample_of_keys_are_inside_their_intervals() -> None:
    chance = np.random.default_rng(0)
    inside = 0
    for _ in range(60):
        names = chance.integers(0, 2**64, 20_000, np.uint64)
        keys = names[np.minimum(chance.zipf(1.2, 50_000), len(names)) - 1]
        exact = 1 - len(np.unique(keys)) / len(keys)
        found = hit_ratio(keys, 5_000, Sample(1.0, len(keys), None))
        inside += found.low <= exact <= found.high
        assert found.value == pytest.approx(exact, abs=0.05)
        assert hit_ratio(keys, 50_000, Sample(1.0, len(keys), None)).value == pytest.approx(exact)
    assert inside >= 57


def test_small_samples_say_that_they_can_not_tell() -> None:
    assert estimates.share(0, 0).high == 1.0
    assert estimates.share(0, 10).low == 0.0
    assert estimates.share(0, 10).high == pytest.approx(0.4, abs=0.1)
    assert estimates.quantile(np.zeros(100), 0.99).high == math.inf
    assert estimates.quantile(np.zeros(0), 0.99).high == math.inf
    assert estimates.mean(np.zeros(100), 50.0).high == pytest.approx(50 * (1 - 0.01**0.01))
    assert estimates.mean(np.array([1.0, math.inf]), 1.0).high == math.inf
    assert estimates.beyond(0) == 1.0


def test_everything_sampled_leaves_no_doubt() -> None:
    found = ratio_of_misses(25, 25, 1.0, 100)
    assert (found.low, found.value, found.high) == (0.75, 0.75, 0.75)

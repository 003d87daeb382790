"""What the cache has saved, and from which hit ratio on it pays."""

from __future__ import annotations

import math

import pytest

from model_cache.observing.costs import ModelTimes
from model_cache.observing.counters import Counters, Stats, StatsByModel, added_up
from model_cache.observing.outcome import Kind, Outcome


def counted(*outcomes: Outcome) -> Stats:
    counters = Counters()
    for outcome in outcomes:
        counters.count(outcome)
    return counters.snapshot("closed")


def outcome(
    kind: Kind,
    seconds: float,
    model_seconds: float = 0.0,
    name: str = "model",
    *,
    rows: int = 1,
    batch_size: int = 1,
) -> Outcome:
    made = Outcome(kind, name, "1", seconds, model_seconds=model_seconds)
    return made._replace(rows=rows, batch_size=batch_size)


def test_a_hit_saves_what_a_miss_takes_the_model() -> None:
    stats = counted(outcome("miss", 3.0, 2.0), outcome("hit", 0.5), outcome("hit", 0.25))
    assert stats.seconds_saved == 2 * 2.0 - 0.75


def test_a_row_of_a_batch_is_not_taken_for_a_single_prediction() -> None:
    single = outcome("miss", 2.5, 2.0)
    rows = [outcome("miss", 0.002, 0.001, batch_size=100)] * 100
    hits = [outcome("hit", 0.0, batch_size=100)] * 100
    assert counted(single, *rows, *hits).seconds_saved == pytest.approx(100 * 0.001)
    assert counted(single, *rows, outcome("hit", 0.0)).seconds_saved == pytest.approx(2.0)


def test_hits_in_batches_save_nothing_until_a_batch_was_measured() -> None:
    stats = counted(outcome("miss", 2.5, 2.0), outcome("hit", 0.0, batch_size=100))
    assert stats.seconds_saved == 0.0


def test_single_hits_are_worth_a_row_of_a_batch_at_least() -> None:
    stats = counted(outcome("miss", 0.2, 0.1, batch_size=10), outcome("hit", 0.0))
    assert stats.seconds_saved == pytest.approx(0.1)


def test_the_hits_of_a_table_count_as_many() -> None:
    miss = outcome("miss", 0.2, 0.1, batch_size=1000)
    stats = counted(miss, outcome("hit", 0.01, rows=999, batch_size=1000))
    assert (stats.hits, stats.batch_hits, stats.batch_misses) == (999, 999, 1)
    assert stats.seconds_saved == pytest.approx(999 * (0.1 - 0.01))


def test_a_process_on_a_full_cache_goes_by_the_fleet() -> None:
    fleet = ModelTimes(single=2.0, batch=0.1, overhead=0.5)
    stats = Stats(hits=10, batch_hits=4, hit_seconds=1.0, fleet=fleet)
    assert stats.seconds_saved == pytest.approx(6 * 2.0 + 4 * 0.1 - 1.0)
    assert stats.break_even is not None
    own = Stats(hits=10, misses=1, model_seconds=3.0, miss_seconds=3.0, fleet=fleet)
    assert own.seconds_saved == 30.0


def test_models_are_added_up_each_at_its_own_time() -> None:
    fast = counted(outcome("miss", 0.1, 0.1), *[outcome("hit", 0.0)] * 100)
    slow = counted(*[outcome("miss", 10.0, 10.0, "slow")] * 9, outcome("hit", 0.0, 0.0, "slow"))
    both = added_up([fast, slow], "closed")
    assert (both.hits, both.misses) == (101, 10)
    assert both.seconds_saved == pytest.approx(10.0 + 10.0)


def test_the_break_even_ratio_makes_both_ways_take_as_long() -> None:
    hit, model, overhead = 0.25, 2.0, 1.0
    stats = counted(*[outcome("hit", hit)] * 3, *[outcome("miss", model + overhead, model)] * 2)
    ratio = stats.break_even
    assert ratio is not None
    assert ratio == pytest.approx(1.0 / 2.75)
    with_cache = ratio * hit + (1 - ratio) * (model + overhead)
    assert with_cache == pytest.approx(model)
    assert stats.pays


def test_a_cache_slower_than_its_model_never_pays() -> None:
    stats = counted(outcome("hit", 2.0), outcome("miss", 2.0, 1.0))
    assert stats.break_even == math.inf
    assert stats.pays is False


def test_before_the_first_hit_a_hit_is_taken_for_half_the_overhead_of_a_miss() -> None:
    stats = counted(outcome("miss", 3.0, 2.0))
    assert stats.break_even == 0.4
    assert stats.pays is False


def test_nothing_is_known_before_the_first_miss() -> None:
    stats = counted(outcome("hit", 1.0))
    assert (stats.break_even, stats.pays, stats.seconds_saved) == (None, None, 0.0)
    assert counted().break_even is None


def test_bypassed_predictions_do_not_count_as_look_ups() -> None:
    direct = [outcome("direct", 1.0, 1.0)] * 98
    stats = counted(outcome("hit", 0.5), outcome("miss", 1.0, 0.5), *direct)
    assert (stats.hit_ratio, stats.lookup_hit_ratio, stats.direct) == (0.01, 0.5, 98)


def test_stats_show_themselves_as_a_table() -> None:
    html = counted(outcome("miss", 3.0, 2.0), outcome("hit", 0.5))._repr_html_()
    for cell in ("<th>hit ratio</th>", "<td>50.0%</td>", "<td>1.5 s</td>", "<td>closed</td>"):
        assert cell in html


def test_stats_by_model_show_a_row_for_each() -> None:
    html = StatsByModel({"fast/1": counted(), "<slow>/1": counted()})._repr_html_()
    assert "<th>fast/1</th>" in html
    assert "<th>&lt;slow&gt;/1</th>" in html

"""Time and money are simple arithmetic, and the options are valid YAML."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from model_cache import RedisCachingDecorator, embedded
from model_cache.advisor import Advice, advise
from model_cache.advisor.economics import break_even, economics_of
from model_cache.advisor.findings import Changes, Choice, Costs, Estimate, Reuse
from model_cache.advisor.options import as_yaml
from model_cache.advisor.search import is_lossless, is_tolerated
from model_cache.advisor.trials import Option, Trial
from model_cache.advisor.verdict import verdict_of
from tests.advisor.logs import Visit, VisitModel, visits
from tests.models import FunctionModel

COSTS = Costs(
    model=100e-6, model_cpu=80e-6, model_batch=None, hit=20e-6, hit_cpu=10e-6, miss=40e-6,
    miss_cpu=30e-6, near_hit=None, sampled=300,
)  # fmt: skip


def exactly(value: float) -> Estimate:
    return Estimate(value, value, value)


def test_the_break_even_is_where_hits_pay_for_misses() -> None:
    limit = break_even(COSTS)
    assert limit == pytest.approx(1 / 3)
    found = economics_of(COSTS, 1 / 3, 0.9, per_second=10.0, price=0.5)
    assert found.exact.seconds == pytest.approx(0.0)
    assert found.recommended.seconds == pytest.approx(0.9 * 80e-6 - 0.1 * 40e-6)
    hours = (0.9 * 70e-6 - 0.1 * 30e-6) * 10 * 30 * 24
    assert found.recommended.cpu_hours == pytest.approx(hours)
    assert found.recommended.money == pytest.approx(hours / 2)
    assert [found.curve[0].hit_ratio, found.curve[-1].hit_ratio] == [0.0, 1.0]


def test_a_model_that_is_quicker_than_a_hit_never_pays() -> None:
    quick = dataclasses.replace(COSTS, model=10e-6)
    assert break_even(quick) is None
    found = economics_of(quick, 0.9, 0.9, per_second=None, price=1.0)
    assert found.exact.seconds < 0
    assert found.exact.cpu_hours is None
    assert found.exact.money is None


def changes(
    p99: float, high: float, flipped: Estimate | None = None, sampled: int = 5_000
) -> Changes:
    nothing = exactly(0.0)
    return Changes(sampled, nothing, nothing, Estimate(p99, p99, high), p99, 0.0, flipped, nothing)


def trial(rows: int, sampled: int) -> Trial:
    return Trial(Option(), exactly(0.5), changes(0.0, 0.0, sampled=sampled), rows)


def test_a_tolerance_holds_for_the_upper_end_of_the_interval() -> None:
    assert is_tolerated(changes(4.0, 6.0), 5.0, sure=False)
    assert not is_tolerated(changes(4.0, 6.0), 5.0, sure=True)
    assert not is_tolerated(changes(0.0, 0.0), None, sure=True)
    many_flips = Estimate(0.2, 0.1, 0.3)
    assert not is_tolerated(changes(0.0, 0.0, many_flips), 5.0, sure=True)


def test_a_small_sample_proves_nothing() -> None:
    assert is_lossless(trial(rows=1_000, sampled=1_000))
    assert not is_lossless(trial(rows=100, sampled=100))


def test_requests_that_the_model_refuses_are_part_of_the_sample() -> None:
    assert is_lossless(trial(rows=1_000, sampled=950))
    assert not is_lossless(trial(rows=1_000, sampled=10))


@pytest.fixture(scope="module")
def advice() -> Advice:
    return advise(VisitModel(), list(visits(300)), budget=1.0)


@pytest.mark.parametrize("name", ["plain", "no", "a: b", "Größe", "customer.income", "it's", '"'])
def test_any_name_of_a_field_is_valid_yaml(advice: Advice, name: str) -> None:
    choice = Choice({name: -1}, (name + "2",), exactly(0.5), changes(0.0, 0.0))
    found = dataclasses.replace(advice, choices=(choice,), recommended=0, verdict="cache reduced")
    options = yaml.safe_load(as_yaml(found))
    assert options["reduced_precision_fields"] == [name]
    assert options["number_of_places"] == {name: -1}
    assert options["ignored_fields"] == [name + "2"]


def test_the_options_are_those_of_the_decorator(advice: Advice) -> None:
    choice = Choice({"amount": 0}, ("request_id",), exactly(0.5), changes(0.0, 0.0))
    big = dataclasses.replace(advice.capacity[0].by_entries[-1], entries=250_000, near=0.4)
    found = dataclasses.replace(
        advice,
        choices=(choice,),
        recommended=0,
        verdict="cache reduced",
        capacity=(dataclasses.replace(advice.capacity[0], by_entries=(big,)),),
    )
    options = found.options()
    assert options["layout"] == "packed"
    assert options["expected_entries"] == 300_000
    assert options["near_cache"] == 250_000
    RedisCachingDecorator(**options).set_model(VisitModel()).close()


def test_the_verdict_says_which_choice_pays() -> None:
    best = Choice({}, ("request_id",), exactly(0.9), changes(0.0, 0.0))
    low = economics_of(COSTS, 0.1, 0.9, None, None)
    verdict, sentence = verdict_of(REUSE, best, low, [best], None)
    assert verdict == "cache reduced"
    assert sentence.startswith("Cache without request_id: 90.0% hits")
    never = economics_of(COSTS, 0.1, 0.2, None, None)
    assert verdict_of(REUSE, best, never, [], None)[0] == "do not cache"
    assert verdict_of(REUSE, None, None, [], None)[0] == "unknown"


def costly(
    hits: float,
    p99: float,
    *,
    share: float = 0.25,
    flipped: float | None = None,
    errors: float = 0.0,
) -> Choice:
    """Return a choice that changes a quarter of the answers."""
    numbers = flipped is None
    found = Changes(
        sampled=4_000,
        share=exactly(share),
        mean=exactly(p99 / 2) if numbers else None,
        p99=exactly(p99) if numbers else None,
        maximum=p99 if numbers else None,
        beyond=0.001,
        flipped=None if flipped is None else exactly(flipped),
        errors=exactly(errors),
    )
    return Choice({"amount": -round(hits * 4)}, (), exactly(hits), found)


REUSE = Reuse(exactly(0.0), exactly(0.0), exactly(300.0), (), None, None)
EXACT = Choice({}, (), exactly(0.0), changes(0.0, 0.0))


def verdict_on(*choices: Choice, tolerance: float | None = None) -> tuple[str, str]:
    low = economics_of(COSTS, 0.0, 0.0, None, None)
    return verdict_of(REUSE, EXACT, low, [EXACT, *choices], tolerance)


def test_a_verdict_against_the_traffic_as_it_is_names_the_cheapest_choice_that_pays() -> None:
    verdict, sentence = verdict_on(costly(0.2, 1.0), costly(0.9, 3.0), costly(0.5, 2.0))
    assert verdict == "do not cache"
    assert sentence == (
        "Do not cache: this traffic allows 0% hits, and a cache pays from 33.3%; it would pay with "
        "amount to -2 places (50.0% hits), which changes 25.0% of the answers, 99% by at most 2."
    )
    assert verdict_on(costly(0.2, 1.0))[1].endswith("and a cache pays from 33.3%.")


def test_a_verdict_says_what_the_choice_that_pays_costs() -> None:
    labels = verdict_on(costly(0.5, 2.0, share=0.1, flipped=0.1))[1]
    assert labels.endswith("(50.0% hits), which changes 10.0% of the answers.")
    none = verdict_on(costly(0.5, 0.0, share=0.0))[1]
    assert none.endswith(
        "(50.0% hits), which changes none of the 4,000 answers that were compared."
    )
    errors = verdict_on(costly(0.5, math.inf, share=0.5, errors=0.2))[1]
    assert errors.endswith("which changes 50.0% of the answers, 20.0% by errors.")


def test_a_verdict_names_no_choice_beyond_the_tolerance() -> None:
    assert "it would pay" not in verdict_on(costly(0.5, 2.0), tolerance=1.0)[1]
    within = costly(0.5, 2.0)
    unsure = dataclasses.replace(within.changes, p99=Estimate(2.0, 1.0, math.inf))
    sentence = verdict_on(dataclasses.replace(within, changes=unsure), tolerance=3.0)[1]
    assert "it would pay with amount to -2 places" in sentence


def test_one_input_is_timed_often_enough() -> None:
    found = advise(VisitModel(), list(visits(1)), budget=5.0)
    assert found.economics is not None
    assert found.economics.costs.sampled >= 100
    assert found.economics.costs.hit < found.economics.costs.miss


class Secretive(BaseModel):
    """A prediction that can't be stored: it changes when it is dumped."""

    value: Any = None


def test_predictions_that_can_not_be_stored_leave_the_verdict_open() -> None:
    def answer(data: Visit) -> Secretive:
        return Secretive(value=object())

    found = advise(FunctionModel(Visit, Secretive, answer), list(visits(50)), budget=1.0)
    assert found.verdict == "unknown"
    assert any("can't be cached" in note for note in found.notes)


def test_without_a_server_there_is_advice_without_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_candidates", lambda: iter([Path("/no/such/server")]))
    found = advise(VisitModel(), list(visits(50)), budget=1.0)
    assert found.economics is None
    assert found.sizes is None
    assert found.choices
    assert any("no server binary" in note for note in found.notes)

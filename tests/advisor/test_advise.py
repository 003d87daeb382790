"""The advice is right: what it predicts is what a replay through a real server counts."""

from __future__ import annotations

import dataclasses
import json
import math
import pkgutil
import random
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import BaseModel, ConfigDict

from model_cache import ConfigurationError, RedisCachingDecorator
from model_cache.advisor import Advice, Progress, advise, columns, missing_extra, rebuilding
from model_cache.advisor.findings import Choice
from tests.advisor.logs import Score, Verdict, Visit, VisitModel, label, score, visits
from tests.models import FunctionModel
from tests.servers import Server

COUNT = 3_000


def advised(model: Any = None, log: Any = None, **options: Any) -> Advice:
    model = VisitModel() if model is None else model
    return advise(model, list(visits(COUNT)) if log is None else log, **{"budget": 60.0, **options})


@pytest.fixture(scope="module")
def advice() -> Advice:
    return advised(log=list(visits(COUNT, ids=True)), tolerance=1.0, price_per_hour=2.0)


def choice(advice: Advice, name: str) -> Choice:
    return next(each for each in advice.choices if each.label == name)


def replayed(server: Server, log: list[dict[str, Any]], **options: Any) -> tuple[float, list[Any]]:
    """Return the hit ratio of a real cache, and its answers."""
    with server.client() as client:
        client.flushall()
    with RedisCachingDecorator(url=server.url, **options) as cache:
        cache.set_model(VisitModel())
        inputs = [Visit.model_validate(row) for row in log]
        answers = [answer.score for answer in cache.predict_many(inputs)]
        stats = cache.stats()
    return (stats.hits + stats.shared) / len(answers), answers


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("as it is", {}),
        ("without request_id", {"ignored_fields": ["request_id"]}),
        ("amount to 0 places", {"reduced_precision_fields": ["amount"], "number_of_places": 0}),
        ("without amount", {"ignored_fields": ["amount"]}),
    ],
)
def test_hit_ratios_and_changes_are_those_of_a_replay(
    advice: Advice, server: Server, name: str, options: dict[str, Any]
) -> None:
    log = list(visits(COUNT, ids=True))
    found = choice(advice, name)
    counted, answers = replayed(server, log, **options)
    assert found.hit_ratio.value == pytest.approx(counted)
    distances = np.abs(
        [
            score(Visit.model_validate(row)).score - answer
            for row, answer in zip(log, answers, strict=True)
        ]
    )
    assert found.changes.mean is not None
    assert found.changes.p99 is not None
    assert found.changes.share.value == pytest.approx((distances > 0).mean())
    assert found.changes.mean.low <= distances.mean() <= found.changes.mean.high
    assert found.changes.p99.low <= np.quantile(distances, 0.99) <= found.changes.p99.high
    assert found.changes.maximum == pytest.approx(distances.max())


def test_a_field_that_the_model_ignores_is_left_out_without_a_tolerance(server: Server) -> None:
    log = list(visits(COUNT, ids=True))
    found = advised(log=log)
    assert found.choice is not None
    assert found.choice.ignored == ("request_id",)
    text = advised(slow(), log).to_yaml()
    assert re.search(r"entries take .* in Redis, packed .*; an empty Redis takes [\d.]+ MB\.", text)
    options = yaml.safe_load(text)
    assert options["ignored_fields"] == ["request_id"]
    assert replayed(server, log, **options)[0] == pytest.approx(found.choice.hit_ratio.value)


def slow() -> VisitModel:
    """A model whose predictions take longer than a hit."""

    def work(data: Visit) -> Score:
        sum(range(100_000))
        return score(data)

    return VisitModel(work)


def test_the_best_choice_within_the_tolerance_is_recommended(advice: Advice) -> None:
    best = advice.choice
    assert best is not None
    assert best.changes.p99 is not None
    assert best.changes.p99.high <= 1.0
    assert best.ignored == ("request_id",)
    assert dict(best.places) == {"amount": 0}
    allowed = [each for each in advice.choices if each.changes.p99 and each.changes.p99.high <= 1.0]
    assert best.hit_ratio.value >= max(each.hit_ratio.value for each in allowed) - 0.005


def test_nothing_on_the_frontier_is_beaten(advice: Advice) -> None:
    frontier = advice.frontier
    costs = [each.changes.cost.value for each in frontier]
    assert len(frontier) > 3
    assert costs == sorted(costs)
    for other in advice.choices:
        for each in frontier:
            more = other.hit_ratio.value > each.hit_ratio.value + 1e-6
            assert not (more and other.changes.cost.value < each.changes.cost.value - 1e-9), (
                other,
                each,
            )


def test_the_greedy_path_gains_hits_to_the_best(advice: Advice) -> None:
    path = sorted((each.step, each.hit_ratio.value) for each in advice.choices if each.step)
    assert [step for step, _ in path] == list(range(1, len(path) + 1))
    assert path[-1][1] > 0.99


def test_labels_are_compared_as_labels() -> None:
    found = advised(VisitModel(label, Verdict), tolerance=0.05)
    assert found.unit_fields == ()
    assert found.label_fields == ("label",)
    worst = choice(found, "without amount").changes
    assert worst.mean is None
    assert worst.flipped is not None
    assert 0.3 < worst.flipped.low < worst.flipped.value < worst.flipped.high < 0.7
    assert found.choice is not None
    assert found.choice.changes.share.value == 0.0
    assert found.choice.hit_ratio.value > found.choices[0].hit_ratio.value


def test_everything_is_in_the_dict(advice: Advice) -> None:
    found = json.loads(json.dumps(advice.to_dict(), allow_nan=False))
    assert found["verdict"] == advice.verdict
    assert found["choices"][0]["label"] == "as it is"
    assert len(found["reuse"]["points"]) == 40
    assert found["capacity"][0]["by_entries"][-1]["plain"] > 0
    assert found["capacity"][0]["by_entries"][-1]["packed"] > 0
    assert [each["ttl"] for each in found["capacity"][0]["by_ttl"]][:2] == [1.0, 10.0]
    assert found["economics"]["requests_per_month"] == pytest.approx(43_200, rel=0.01)
    assert found["economics"]["recommended"]["money"] is not None
    assert found["options"] == advice.options()
    assert yaml.safe_load(found["yaml"]) == advice.options()
    assert found["log"]["fields"] == {"customer": 8, "amount": 5, "count": 3, "request_id": COUNT}


def test_a_slow_model_is_to_be_cached_and_a_quick_one_is_not() -> None:
    found = advised(slow())
    assert found.verdict == "cache"
    assert found.economics is not None
    assert found.economics.exact.seconds > 0
    assert found.options() == {}
    quick = advised(log=[{"customer": f"c{number}", "amount": 1.0} for number in range(500)])
    assert quick.verdict == "do not cache"
    assert quick.options() == {"enabled": False}


def test_a_cache_around_the_model_is_taken_off(server: Server) -> None:
    with RedisCachingDecorator(url=server.url).set_model(VisitModel()) as cache:
        found = advised(cache)
        assert cache.stats().hits == cache.stats().misses == 0
    assert found.model == "test_model"


def test_a_choice_that_too_few_requests_prove_is_in_a_note() -> None:
    requests = list(visits(300, ids=True))
    found = advise(FunctionModel(Visit, Score, score), requests, budget=5.0)
    assert found.choice is not None
    assert found.choice.is_exact
    assert found.reuse.hit_ratio.value == 0.0
    assert found.reuse.reached_requests is None
    note = next(note for note in found.notes if note.startswith("Not recommended yet"))
    assert "without request_id" in note
    assert note.endswith("of 300 answers, but 1,000 requests must be compared: use a longer log.")


def test_a_log_without_times_has_no_rate() -> None:
    log = [{"customer": "a", "amount": float(number % 7)} for number in range(700)]
    found = advised(log=log)
    assert found.log.per_second is None
    assert found.capacity[0].by_ttl == ()
    assert found.economics is not None
    assert found.economics.exact.cpu_hours is None
    assert any("no times" in note for note in found.notes)


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow")
    customer: str


def test_inputs_with_a_hidden_state_are_not_compared() -> None:
    model = FunctionModel(Extra, Score, lambda data: Score(score=data.more))
    found = advised(model, log=[{"customer": "a", "more": number % 9} for number in range(90)])
    assert found.choices == ()
    assert found.reuse.hit_ratio.value == pytest.approx(0.9)
    assert any("choices were not compared" in note for note in found.notes)


def test_a_log_of_one_request_is_enough() -> None:
    found = advised(log=[{"customer": "a", "amount": 1.0}])
    assert found.reuse.hit_ratio.value == 0.0
    text = str(found)
    assert re.search(r"^log       1 request$", text, re.M)
    assert "; 1 different input\n" in text
    assert re.search(r"^ +1 entry  ", text, re.M)
    assert "\n# 1 entry takes " in advised(slow(), [{"customer": "a", "amount": 1.0}] * 2).to_yaml()


def test_requests_that_can_not_be_built_again_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MOST_KEPT", 100)
    found = advised(log=list(visits(300, ids=True)))
    assert any("200 sampled requests could not be built again" in note for note in found.notes)
    changes = choice(found, "without request_id").changes
    assert changes is not None
    assert (changes.sampled, changes.share.value) == (100, 0.0)


def test_a_field_with_one_value_is_in_no_choice() -> None:
    found = advised(log=[{**row, "request_id": "same"} for row in visits(300)])
    assert len(found.choices) > 3
    assert not any("request_id" in each.ignored for each in found.choices)


def test_of_equally_simple_choices_the_one_with_more_hits_is_recommended() -> None:
    def constant(data: Visit) -> Score:
        return Score(score=1.0)

    chance = random.Random(1)
    log = [
        {"customer": "a", "amount": chance.uniform(18, 35), "count": chance.randrange(20, 40)}
        for _ in range(1_500)
    ]
    found = advised(FunctionModel(Visit, Score, constant), log)
    assert found.choice is not None
    assert found.choice.hit_ratio.value == max(
        each.hit_ratio.value
        for each in found.choices
        if len(each.places) + len(each.ignored)
        == len(found.choice.places) + len(found.choice.ignored)
    )


def interrupt_at(stage: str, times: int = 1) -> Callable[[Progress], None]:
    left = [times]

    def tell(progress: Progress, /) -> None:
        if progress.stage == stage:
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt

    return tell


def many(count: int) -> Iterator[dict[str, Any]]:
    yield from visits(count)


@pytest.mark.parametrize("stage", ["reading", "measuring", "comparing"])
def test_an_interruption_ends_it_with_the_advice_so_far(stage: str) -> None:
    found = advised(log=many(30_000), tell=interrupt_at(stage, 5 if stage == "comparing" else 1))
    assert not found.complete
    assert found.reuse.hit_ratio.value > 0.9
    assert found.log.requests == (20_000 if stage == "reading" else 30_000)
    assert len(found.choices) == (5 if stage == "comparing" else 0)
    assert str(found).startswith("INTERRUPTED")
    assert "interrupted" in found.to_yaml()


@pytest.mark.parametrize("where", ["model_cache.advisor.run.reuse_of", "numpy.unique"])
def test_an_interruption_after_the_last_request_gives_the_advice(
    monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    function = pkgutil.resolve_name(where)
    calls = []

    def interrupted(*args: Any, **how: Any) -> Any:
        calls.append(args)
        if len(calls) == 2 - (function is not np.unique):
            raise KeyboardInterrupt
        return function(*args, **how)

    monkeypatch.setattr(where, interrupted)
    found = advised(log=many(300))
    assert (found.complete, found.log.requests) == (False, 300)


def test_an_interruption_before_the_first_request_is_one() -> None:
    def nothing() -> Iterator[dict[str, Any]]:
        raise KeyboardInterrupt
        yield {}

    with pytest.raises(KeyboardInterrupt):
        advised(log=nothing())


def test_the_same_seed_gives_the_same_sample() -> None:
    one, other = (advised(budget=20.0, log=visits(500, ids=True), seed=7).choices for _ in range(2))
    assert one == other


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("budget", 0),
        ("budget", math.inf),
        ("budget", "1"),
        ("tolerance", -1),
        ("tolerance", math.nan),
        ("price_per_hour", True),
        ("log_format", "xml"),
    ],
)
def test_an_option_that_is_wrong_is_an_error(option: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"^{option}: expected "):
        advised(**{option: value})


def test_a_missing_extra_is_named() -> None:
    error = missing_extra(ModuleNotFoundError("no", name="pyarrow.parquet"))
    assert 'pip install "ml-model-cache[advisor]"' in str(error)
    other = ModuleNotFoundError("no", name="something")
    assert missing_extra(other) is other


def test_only_a_model_can_be_advised_about(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not an ml-base MLModel"):
        advise(object(), tmp_path / "log.jsonl")
    with pytest.raises(ConfigurationError, match="pass an instance of it"):
        advise(VisitModel, tmp_path / "log.jsonl")


class Basket(BaseModel):
    price: Decimal
    sizes: list[float]
    by_name: dict[str, Decimal]
    count: tuple[int, ...] = ()
    label: str = ""


def test_decimals_and_lists_of_numbers_are_rounded_too(server: Server) -> None:
    chance = random.Random(0)
    log = [
        {
            "price": f"{chance.randrange(1_000) / 100:.2f}",
            "sizes": [chance.randrange(30) / 10, 1.0],
            "by_name": {"a": f"{chance.randrange(20) / 10:.1f}"},
            "count": [chance.randrange(100), 5],
        }
        for _ in range(1_500)
    ]
    model = FunctionModel(
        Basket, Score, lambda data: Score(score=float(data.price) + data.sizes[0])
    )
    advice = advise(model, log, budget=20)
    tried = {name for each in advice.choices for name in each.places}
    assert tried == {"price", "sizes", "by_name", "count"}
    assert all(each.places.get("count", -1) < 0 for each in advice.choices)
    for field in ("price", "sizes"):
        rounding: dict[str, Any] = {"reduced_precision_fields": [field], "number_of_places": 0}
        with RedisCachingDecorator(url=server.url, timeout=5.0, prefix=field, **rounding) as cache:
            cache.set_model(model)
            cache.purge()
            cache.predict_many([Basket.model_validate(row) for row in log])
            stats = cache.stats()
        counted = (stats.hits + stats.shared) / len(log)
        found = choice(advice, f"{field} to 0 places")
        assert found.hit_ratio.value == pytest.approx(counted)
        assert found.changes.share.value > 0.5


def test_a_field_with_too_many_values_to_round_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "MOST_ROUNDED", 10)
    log = [
        {"price": str(number / 10), "sizes": [1.0], "by_name": {}, "label": str(number)}
        for number in range(100)
    ]
    model = FunctionModel(Basket, Score, lambda data: Score(score=float(data.price)))
    advice = advise(model, log, budget=2)
    assert any("Rounding price was not tried" in note for note in advice.notes)
    assert not any("label" in note or "sizes" in note for note in advice.notes)


def test_without_a_cache_that_pays_no_choice_is_called_recommended(advice: Advice) -> None:
    for verdict, name in (
        ("do not cache", "(* best choice)"),
        ("unknown", "(* best choice)"),
        ("cache", "(* recommended)"),
        ("cache reduced", "(* recommended)"),
    ):
        text = str(dataclasses.replace(advice, verdict=verdict))  # type: ignore[arg-type]
        assert f"Choices worth having {name}" in text

"""Advice about models that raise: an error in place of an answer is a change."""

from __future__ import annotations

import math
import time
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from model_cache import RedisCachingDecorator
from model_cache.advisor import Advice, advise
from model_cache.advisor.answers import Answer, Answers
from model_cache.advisor.changes import changes
from model_cache.advisor.findings import Changes
from tests.advisor.logs import Score, Verdict, Visit, label, score, visits
from tests.models import FunctionModel
from tests.servers import Server

LOG = list(visits(1_500))
OPTIONS: dict[str, Any] = {
    "amount to 0 places": {"reduced_precision_fields": ["amount"], "number_of_places": 0},
    "without amount": {"ignored_fields": ["amount"]},
    "without count": {"ignored_fields": ["count"]},
}


def fails(data: Visit) -> Score:
    """Raise for 10.0, which 10.1 is rounded to, and for 60.1, which is rounded to 60.0."""
    if data.amount in (10.0, 60.1):
        raise ValueError("unlucky")
    return score(data)


def model(function: Any = fails, output: Any = Score) -> FunctionModel:
    return FunctionModel(Visit, output, function)


@pytest.fixture(scope="module")
def advice() -> Advice:
    return advise(model(), LOG, budget=30.0)


def found(advice: Advice, name: str) -> Changes:
    return next(each.changes for each in advice.choices if each.label == name)


def answers(of: Any) -> list[float | None]:
    """Return the answer to each request of the log; None for an error."""
    given: list[float | None] = []
    for row in LOG:
        try:
            given.append(of.predict(Visit.model_validate(row)).score)
        except ValueError:
            given.append(None)
    return given


@pytest.mark.parametrize("name", [*OPTIONS])
def test_errors_are_changes_as_a_replay_counts_them(
    advice: Advice, server: Server, name: str
) -> None:
    with server.client() as client:
        client.flushall()
    with RedisCachingDecorator(url=server.url, timeout=5.0, **OPTIONS[name]) as cache:
        served = answers(cache.set_model(model()))
    pairs = [pair for pair in zip(answers(model()), served, strict=True) if pair != (None, None)]
    changed = np.mean([one != other for one, other in pairs])
    errors = np.mean([None in pair for pair in pairs])
    assert changed > 0
    assert found(advice, name).sampled == len(pairs)
    assert found(advice, name).share.value == pytest.approx(changed)
    assert found(advice, name).errors.value == pytest.approx(errors)


def test_a_request_without_an_answer_in_both_cases_has_not_changed(advice: Advice) -> None:
    failing = answers(model()).count(None)
    exact = found(advice, "as it is")
    assert (exact.sampled, exact.share.value, exact.errors.value) == (len(LOG) - failing, 0.0, 0.0)


def test_a_choice_with_errors_is_within_no_tolerance() -> None:
    found = advise(model(), LOG, budget=20.0, tolerance=1e6)
    assert found.choice is not None
    assert found.choice.changes.errors.value < 0.01
    errors = [each.changes.errors.value for each in found.choices]
    assert max(errors) > 0.1


def test_errors_count_as_flipped_labels() -> None:
    def labelled(data: Visit) -> Verdict:
        fails(data)
        return label(data)

    advice = advise(model(labelled, Verdict), LOG, budget=20.0)
    changes = found(advice, "amount to 0 places")
    assert changes.flipped == changes.share == changes.errors
    assert changes.errors.value > 0.1


def test_changes_that_can_not_be_measured_are_told_apart_from_those_that_can() -> None:
    one, other, none = Answer((1.0,), ()), Answer((3.0,), ()), Answer((math.nan,), ())
    found = changes([one, one, one, None], [one, other, None, None], spread=10.0)
    assert found.sampled == 3
    assert found.share.value == pytest.approx(2 / 3)
    assert found.errors.value == pytest.approx(1 / 3)
    assert found.mean is not None
    assert found.mean.value == pytest.approx((0 + 2 + 10) / 3)
    assert found.maximum == math.inf
    assert found.p99 is not None
    assert found.p99.value == math.inf
    for unlike in (none, Answer((1.0, 2.0), ())):
        odd = changes([one], [unlike], spread=10.0)
        assert (odd.share.value, odd.errors.value, odd.maximum) == (1.0, 0.0, math.inf)


def test_errors_are_shown_with_their_share(advice: Advice) -> None:
    text = str(advice)
    assert (
        f"the model raised in {advice.log.failed:,} of {advice.log.sampled:,} predictions" in text
    )
    heading, *rows = text[text.index("Choices worth having") :].splitlines()[1:]
    assert heading.split()[:3] == ["hits", "changed", "errors"]
    assert any("no limit" in row for row in rows)
    [note] = [note for note in advice.notes if "Errors are not cached" in note]
    share = answers(model()).count(None) / len(LOG)
    assert f"{100 * share:.1f}%" in note
    assert "errors" in advice.to_html()
    assert "errors" not in str(advise(model(score), LOG[:300], budget=2.0))


def test_failures_of_the_model_are_counted_and_shown() -> None:
    def refuses(data: Visit) -> Score:
        if data.customer == "a":
            raise LookupError("no such customer")
        return score(data)

    found = advise(model(refuses), LOG, budget=10.0)
    assert found.log.failed > 0
    assert found.log.failures == {"LookupError": found.log.failed}
    assert "the model raised in " in str(found)
    assert found.choice is not None


def test_a_model_that_sometimes_fails_has_a_choice_recommended() -> None:
    def refuses(data: Visit) -> Score:
        if data.customer == "a":
            raise LookupError("no such customer")
        return score(data.model_copy(update={"amount": 0.0}))

    found = advise(model(refuses), list(visits(1_000, ids=True)), budget=20.0)
    assert found.log.failed > 0
    assert found.choice is not None
    assert "request_id" in found.choice.ignored


def test_a_model_that_always_fails_leaves_the_verdict_open() -> None:
    def refuses(data: Visit) -> Score:
        raise LookupError("out of order")

    found = advise(model(refuses), LOG, budget=10.0)
    assert found.verdict == "unknown"
    assert any("LookupError: out of order" in note for note in found.notes)


def test_inputs_without_a_key_are_never_confused() -> None:
    class Opaque(BaseModel):
        handle: Any

    def read(data: Any) -> Score:
        return Score(score=next(data.handle))

    opaque = FunctionModel(Opaque, Score, read)
    answers = Answers(opaque, Score, time.perf_counter)
    for number in range(300):
        assert answers.of([Opaque(handle=iter([number]))]) == [Answer((number,), ())]
        opaque.calls.clear()  # the next one may have its place in memory


def test_an_answer_that_no_float_can_hold_is_a_label_and_no_failure() -> None:
    class Huge(BaseModel):
        whole: int
        price: Decimal

    def huge(data: Visit) -> Huge:
        return Huge.model_construct(whole=10**400 + data.count, price=Decimal("sNaN"))

    advice = advise(model(huge, Huge), LOG, budget=5.0)
    assert advice.log.failed == 0
    changed = found(advice, "without count").flipped
    assert changed is not None
    assert changed.value > 0.0

"""What the advice says as text: each figure with what it is about."""

from __future__ import annotations

import dataclasses
import random
import re
from typing import Any

import pytest
from pydantic import BaseModel

from model_cache.advisor import Advice, advise
from model_cache.words import size
from tests.advisor.logs import Score, Visit, VisitModel, score, visits
from tests.models import FunctionModel

LOG = list(visits(300, ids=True))


class Maybe(BaseModel):
    value: float | None


def advised(model: Any = None, log: Any = None) -> Advice:
    return advise(model or VisitModel(), LOG if log is None else log, budget=5.0)


@pytest.fixture(scope="module")
def advice() -> Advice:
    return advised()


def test_the_text_says_what_the_advice_says(advice: Advice) -> None:
    text = str(advice)
    assert advice.sentence in text
    assert "300 requests" in text
    assert "amount to 0 places" in text
    assert "hits by TTL" in text


def test_a_log_with_one_time_has_no_rate() -> None:
    found = advised(log=[{**row, "time": 1.7e9} for row in visits(50)])
    assert found.log.per_second is None
    assert "log       50 requests\n" in str(found)
    assert any("only one time" in note for note in found.notes)


def test_numbers_that_may_be_absent_are_numbers() -> None:
    def answer(data: Visit) -> Maybe:
        return Maybe(value=None if data.customer == "a" else data.amount)

    found = advised(FunctionModel(Visit, Maybe, answer), [{"customer": "a", "amount": 1.0}, *LOG])
    assert found.unit_fields == ("value",)
    assert "mean change" in str(found)


def test_a_model_that_answers_differently_again_is_named() -> None:
    chance = random.Random(1)

    def guess(data: Visit) -> Score:
        return Score(score=chance.random())

    [note] = [note for note in advised(VisitModel(guess)).notes if "asked again" in note]
    assert re.match(r"The model answered (\d+) of \1 requests differently", note)
    assert not any("asked again" in note for note in advised().notes)


def test_rounding_is_no_other_answer() -> None:
    def rounded(data: Visit) -> Score:
        return Score(score=score(data).score + chance.random() * 1e-7)

    chance = random.Random(1)
    assert not any("asked again" in note for note in advised(VisitModel(rounded)).notes)


def test_a_short_log_is_not_called_reliable() -> None:
    def notes(number: int) -> list[str]:
        found = advised(log=LOG[:number]).notes
        return [note for note in found if "not reliable" in note]

    assert notes(1) == ["The log has only 1 request, so the advice is not reliable."]
    assert notes(100) == []


def test_one_place_is_in_the_singular(advice: Advice) -> None:
    choice = dataclasses.replace(advice.choices[0], places={"a": 1, "b": -1, "c": 2})
    assert choice.label == "a to 1 place, b to -1 places, c to 2 places"


def test_what_describes_the_traffic_as_it_is_says_so(advice: Advice) -> None:
    assert "\nreuse     as it is: at most 0" in str(advice)
    assert "As it is, the traffic repeats no request." in advice.to_html()


def test_the_memory_says_how_much_of_it_an_empty_server_takes(advice: Advice) -> None:
    assert advice.sizes is not None
    title = f"Memory (as it is), of which an empty Redis takes {size(advice.sizes.empty)}"
    assert title in str(advice)
    assert title in advice.to_html()

"""The article's experiment with reduced precision, and what the article did not count.

It counts wrong answers: those that are not the model's to the input that it receives, which is the
rounded one. And it counts what rounding itself changes: how far the cache's answers are from the
model's to the requests as they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from examples.demo.answers import Answers, KnownModel, batch_answers, check, facts
from examples.demo.article import article_key
from examples.demo.experiments import ARTICLE, Sizes, Track
from examples.demo.server import Cache, Server
from examples.insurance_charges.generator import random_inputs
from examples.insurance_charges.model import InsuranceChargesModel
from examples.insurance_charges.schemas import InsuranceChargesModelInput

Inputs: TypeAlias = Sequence[InsuranceChargesModelInput]

_ARTICLES_PLACES = 0
_PLACES = (None, 1, _ARTICLES_PLACES)
SEED = 2
"""Chooses the requests."""


@dataclass(frozen=True)
class WrongAnswer:
    """An answer that is not the model's, in dollars."""

    request: InsuranceChargesModelInput
    served: float
    correct: float

    @property
    def error(self) -> float:
        """The absolute error in dollars."""
        return abs(self.served - self.correct)


@dataclass(frozen=True)
class Counted:
    """One cache in the rounding experiment."""

    entries: int
    wrong: Sequence[WrongAnswer]


@dataclass(frozen=True)
class Cost:
    """What rounding gains, and what it changes in the answers of this library's cache.

    Attributes:
        places: how many decimal places bmi was rounded to; None if it was not.
        hit_ratio: the share of requests that were hits.
        changed: the share of requests with another answer than the model gives without rounding.
        mean: the mean of the absolute changes over all requests, in dollars.
        p99: the change that 99% of the requests do not exceed.
        maximum: the largest change.
    """

    places: int | None
    hit_ratio: float
    changed: float
    mean: float
    p99: float
    maximum: float


@dataclass(frozen=True)
class Rounding:
    """The results of the rounding experiment.

    Attributes:
        requests: the number of requests.
        distinct: the number of different inputs after rounding.
        checks: how many answers of the batch were compared with the model itself.
        collision: two of these inputs that share the article's key, if any.
        ours: this library's cache.
        article: the article's.
        costs: what rounding gains and changes, for each number of places.
    """

    requests: int
    distinct: int
    checks: int
    collision: tuple[InsuranceChargesModelInput, InsuranceChargesModelInput] | None
    ours: Counted
    article: Counted
    costs: Sequence[Cost]


def count_rounding(
    server: Server, model: InsuranceChargesModel, sizes: Sizes, track: Track
) -> Rounding:
    """Run the article's last experiment, with bmi rounded; count wrong and changed predictions.

    With reduced precision, the model receives the rounded input. So the model's answer to the
    rounded request is correct, and any other answer is wrong.
    """
    requests = random_inputs(sizes.requests, SEED)
    seen = {places: [_rounded(data, places) for data in requests] for places in _PLACES}
    answers = batch_answers(data for inputs in seen.values() for data in inputs)
    sample = [data for inputs in seen.values() for data in inputs[: sizes.checks]]
    check(answers, model, track("the batch checked against the model", sample))

    known = KnownModel(model, answers)
    costs = []
    for places in _PLACES:
        ours = server.our_cache(known, **_options(places))
        served = _serve(ours, track(f"model_cache, {described(places)}", requests))
        changes = _changes(served, requests, answers)
        costs.append(Cost(places, ours.stats().hit_ratio, **changes))
    # The last number of places is the article's.
    article = server.article_cache(known, **_options(_ARTICLES_PLACES))
    theirs = _serve(article, track(f"{ARTICLE}, {described(_ARTICLES_PLACES)}", requests))
    rounded = seen[_ARTICLES_PLACES]
    counted = [
        Counted(server.usage(cache).entries, _wrong(answered, rounded, answers))
        for cache, answered in ((ours, served), (article, theirs))
    ]
    if suspects := [wrong.request for cache in counted for wrong in cache.wrong]:
        check(answers, model, track("wrong answers, the model asked again", suspects))
    distinct = len({facts(data) for data in rounded})
    return Rounding(
        len(requests), distinct, len(sample), _collision(rounded), counted[0], counted[1], costs
    )


def described(places: int | None) -> str:
    """Return a precision as text."""
    return "as it is" if places is None else f"bmi to {places} place{'s' * (places != 1)}"


def _rounded(data: InsuranceChargesModelInput, places: int | None) -> InsuranceChargesModelInput:
    return data if places is None else data.model_copy(update={"bmi": round(data.bmi, places)})


def _options(places: int | None) -> Mapping[str, Any]:
    if places is None:
        return {}
    return {"reduced_precision_fields": ["bmi"], "number_of_places": places}


def _serve(cache: Cache, requests: Iterable[InsuranceChargesModelInput]) -> list[Any]:
    return [cache.predict(data) for data in requests]


def _changes(served: Sequence[Any], requests: Inputs, answers: Answers) -> Mapping[str, float]:
    """Compare what was served with the model's answers to the requests without rounding."""
    changes = np.array(
        [
            abs(answer.charges - answers[facts(data)].charges)
            for answer, data in zip(served, requests, strict=True)
        ]
    )
    return {
        "changed": float((changes > 0).mean()),
        "mean": float(changes.mean()),
        "p99": float(np.quantile(changes, 0.99)),
        "maximum": float(changes.max()),
    }


def _wrong(served: Sequence[Any], rounded: Inputs, answers: Answers) -> list[WrongAnswer]:
    """Compare what was served with the model's answers to the rounded requests."""
    return [
        WrongAnswer(data, answer.charges, correct.charges)
        for answer, data in zip(served, rounded, strict=True)
        if answer != (correct := answers[facts(data)])
    ]


def _collision(
    inputs: Inputs,
) -> tuple[InsuranceChargesModelInput, InsuranceChargesModelInput] | None:
    owners: dict[int, InsuranceChargesModelInput] = {}
    for data in inputs:
        owner = owners.setdefault(article_key(data), data)
        if owner != data:
            return owner, data
    return None

"""What the model says, found out quickly enough to check 10,000 answers.

One prediction of the example model takes some 10 ms, since it is built for one row at a time.
The pipeline in its file answers thousands of rows in one call, in a fraction of a second, and
to the cent as the model does: that is checked on a sample, each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import joblib

from examples.insurance_charges.model import MODEL_FILE, InsuranceChargesModel
from examples.insurance_charges.schemas import (
    InsuranceChargesModelInput,
    InsuranceChargesModelOutput,
)
from examples.insurance_charges.table import features

Facts: TypeAlias = tuple[str | float, ...]
Answers: TypeAlias = Mapping[Facts, InsuranceChargesModelOutput]


def facts(data: InsuranceChargesModelInput) -> Facts:
    """Return what an input says, each value in its field's place."""
    return tuple(features(data).values())


def batch_answers(inputs: Iterable[InsuranceChargesModelInput]) -> Answers:
    """Ask the model's own pipeline for all distinct inputs at once."""
    distinct = {facts(data): data for data in inputs}
    charges = joblib.load(MODEL_FILE).predict([features(data) for data in distinct.values()])
    return {
        key: InsuranceChargesModelOutput(charges=round(float(dollars), 2))
        for key, dollars in zip(distinct, charges, strict=True)
    }


class AnswersDifferError(Exception):
    """The batch and the model answer one input differently: nothing can be checked with it."""

    def __init__(self, data: InsuranceChargesModelInput) -> None:
        super().__init__(f"the batch and the model disagree on {data!r}")


def check(
    answers: Answers, model: InsuranceChargesModel, inputs: Iterable[InsuranceChargesModelInput]
) -> None:
    """Ask the model itself for some of the inputs.

    Raises:
        AnswersDifferError: it says otherwise.
    """
    for data in inputs:
        if model.predict(data) != answers[facts(data)]:
            raise AnswersDifferError(data)


class KnownModel(InsuranceChargesModel):
    """The model, with answers of its own that are known already; it is asked for all others.

    To a cache it is the model: the same name, version and schemas.

    Args:
        model: asked for what is not known.
        answers: what it said before.
    """

    def __init__(self, model: InsuranceChargesModel, answers: Answers) -> None:
        self._model = model
        self._answers = answers

    def predict(self, data: InsuranceChargesModelInput) -> InsuranceChargesModelOutput:
        """Return the model's answer."""
        return self._answers.get(facts(data)) or self._model.predict(data)

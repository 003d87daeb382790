"""The model's own answers, computed fast enough to check 10,000 predictions.

One prediction of the example model takes some 10 ms, since it handles one row at a time. The
pipeline in its file answers thousands of rows in one call, in a fraction of a second, and to the
cent like the model, which is checked on a sample each time.
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
    """Return an input's values in the order of its fields."""
    return tuple(features(data).values())


def batch_answers(inputs: Iterable[InsuranceChargesModelInput]) -> Answers:
    """Compute the answers to all distinct inputs in one call of the model's pipeline."""
    distinct = {facts(data): data for data in inputs}
    charges = joblib.load(MODEL_FILE).predict([features(data) for data in distinct.values()])
    return {
        key: InsuranceChargesModelOutput(charges=round(float(dollars), 2))
        for key, dollars in zip(distinct, charges, strict=True)
    }


class AnswersDifferError(Exception):
    """The batch and the model answer an input differently, so the batch can't be used."""

    def __init__(self, data: InsuranceChargesModelInput) -> None:
        super().__init__(f"the batch and the model disagree on {data!r}")


def check(
    answers: Answers, model: InsuranceChargesModel, inputs: Iterable[InsuranceChargesModelInput]
) -> None:
    """Compare some answers with the model itself.

    Raises:
        AnswersDifferError: they differ.
    """
    for data in inputs:
        if model.predict(data) != answers[facts(data)]:
            raise AnswersDifferError(data)


class KnownModel(InsuranceChargesModel):
    """The model with precomputed answers; it calls the real model for all other inputs.

    A cache can't tell it from the model: it has the same name, version and schemas.

    Args:
        model: the real model.
        answers: its precomputed answers.
    """

    def __init__(self, model: InsuranceChargesModel, answers: Answers) -> None:
        self._model = model
        self._answers = answers

    def predict(self, data: InsuranceChargesModelInput) -> InsuranceChargesModelOutput:
        """Return the model's answer."""
        return self._answers.get(facts(data)) or self._model.predict(data)

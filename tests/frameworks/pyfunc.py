"""A model of MLflow's with a parameter."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import mlflow.pyfunc
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

from examples.frameworks.charges import load

COLUMNS = {"age": "long", "bmi": "double", "children": "long", "smoker": "boolean"}
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(kind, name) for name, kind in {**COLUMNS, "region": "string"}.items()]),
    params=ParamSchema([ParamSpec("factor", "double", 1.0)]),
)


class Scaled(mlflow.pyfunc.PythonModel):
    """The model in the working directory, times a parameter."""

    def load_context(self, context: Any) -> None:
        self.model = load()

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow reads hints
        return self.model.predict(model_input) * (params or {}).get("factor", 1.0)


def save_model(folder: Path) -> None:
    with warnings.catch_warnings(action="ignore"):  # it advises an example of an input
        mlflow.pyfunc.save_model(
            folder,
            python_model=Scaled(),
            signature=SIGNATURE,
            pip_requirements=[],  # else it looks for what the model imports
        )

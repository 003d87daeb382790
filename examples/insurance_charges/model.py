"""The insurance charges model: a trained scikit-learn pipeline with ml-base's interface.

Its predictions depend only on `MODEL_FILE`, so use the file's hash as a cache's `revision`.
"""

from __future__ import annotations

import errno
from pathlib import Path

import joblib
from ml_base import MLModel

from examples.insurance_charges.schemas import (
    InsuranceChargesModelInput,
    InsuranceChargesModelOutput,
)
from examples.insurance_charges.table import features

MODEL_FILE = Path(__file__).with_name("insurance_charges.joblib")
"""The default path of the trained model."""


class InsuranceChargesModel(MLModel):  # type: ignore[misc]  # ml-base has no types
    """Predicts a person's health insurance charges from six features.

    Thread-safe. The same file gives the same predictions in every process.

    Args:
        model_path: the file written by `examples.insurance_charges.train`; `MODEL_FILE` if None.
            It is a pickle: load only a file that you trust.

    Raises:
        FileNotFoundError: the model is not trained.
    """

    display_name = "Insurance Charges Model"
    qualified_name = "insurance_charges_model"
    description = "Predicts the charges billed to a person's health insurance."
    version = "0.1.0"
    input_schema = InsuranceChargesModelInput
    output_schema = InsuranceChargesModelOutput

    def __init__(self, model_path: str | Path | None = None) -> None:
        path = MODEL_FILE if model_path is None else Path(model_path)
        if not path.exists():
            raise FileNotFoundError(
                errno.ENOENT,
                "The model is not trained; in the repository's root, run "
                "`python -m examples.insurance_charges.train`",
                str(path),
            )
        self._pipeline = joblib.load(path)

    def predict(self, data: InsuranceChargesModelInput) -> InsuranceChargesModelOutput:
        """Return the charges predicted for one person.

        Raises:
            TypeError: data is not an `InsuranceChargesModelInput`.
        """
        if not isinstance(data, InsuranceChargesModelInput):
            raise TypeError(
                f"predict takes an InsuranceChargesModelInput, not a {type(data).__name__}"
            )
        (charges,) = self._pipeline.predict([features(data)])
        return InsuranceChargesModelOutput(charges=round(float(charges), 2))

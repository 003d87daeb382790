"""Walk through the decorators around a model."""

from __future__ import annotations

from collections.abc import Iterator

from ml_base import MLModelDecorator
from ml_base.ml_model import MLModel


def layers(model: MLModel | None) -> Iterator[MLModel]:
    """Yield a model's decorators, outermost first, and then the model."""
    while model is not None:
        yield model
        # Through __dict__, since ml-base forwards attribute access to the inner model.
        model = model.__dict__.get("_model") if isinstance(model, MLModelDecorator) else None


def innermost(model: MLModel) -> MLModel:
    """Return the model inside all decorators."""
    *_, last = layers(model)
    return last

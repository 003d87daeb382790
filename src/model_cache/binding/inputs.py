"""What a model takes as its input, and how that is rounded before the model sees it."""

from __future__ import annotations

from ml_base.ml_model import MLModel
from pydantic import BaseModel

from model_cache.binding import fitting
from model_cache.interruptions import reraise_interruption
from model_cache.options.config import Config

# How many classes are remembered as instances of the schema, or not.
_MOST_CLASSES = 256


class Inputs:
    """The inputs of a model.

    Args:
        model: the model.
        config: the decorator's options.

    Attributes:
        known: classes that were looked at, and whether their instances are inputs.
        schema: the input schema, read once: some decorators make a new class at each access.

    Raises:
        ConfigurationError: an option does not fit the schema.
    """

    def __init__(self, model: MLModel, config: Config) -> None:
        self.schema = fitting.schema("input_schema", model)
        self._rounder = fitting.rounder(self.schema, config)
        self.known: dict[type, bool] = {}

    @property
    def rounds(self) -> bool:
        """Whether inputs are rounded."""
        return self._rounder is not None

    def rounded(self, data: BaseModel) -> BaseModel:
        """Return an input as the model is to see it."""
        if self._rounder is None or not self.accept(type(data)):
            return data
        return self._rounder(data)

    def accept(self, cls: type) -> bool:
        """Whether instances of a class are inputs: by name, since schemas may be built anew."""
        try:
            accepted = self.known.get(cls)
            return self._look_at(cls) if accepted is None else accepted
        except Exception as error:  # an unhashable class, say
            reraise_interruption(error)
            return False

    def _look_at(self, cls: type) -> bool:
        schema = self.schema
        accepted = any(
            base is schema
            or (base.__module__, base.__qualname__) == (schema.__module__, schema.__qualname__)
            for base in cls.__mro__
        )
        if len(self.known) >= _MOST_CLASSES:
            self.known.clear()
        self.known[cls] = accepted
        return accepted

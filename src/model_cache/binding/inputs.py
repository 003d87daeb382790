"""The inputs of a model: which classes it accepts, and how they are rounded."""

from __future__ import annotations

from ml_base.ml_model import MLModel
from pydantic import BaseModel

from model_cache.binding import fitting
from model_cache.interruptions import reraise_interruption
from model_cache.options.config import Config

# How many classes to remember as accepted or not.
_MOST_CLASSES = 256


class Inputs:
    """The inputs of a model.

    Args:
        model: the model.
        config: the decorator's options.

    Attributes:
        known: the classes seen so far, and whether their instances are inputs.
        schema: the input schema, read once: some decorators build a new class at each access.

    Raises:
        ConfigurationError: an option does not match the schema.
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
        """Return the input as the model receives it."""
        if self._rounder is None or not self.accept(type(data)):
            return data
        return self._rounder(data)

    def accept(self, cls: type) -> bool:
        """Return whether instances of a class are inputs: by name, since schemas may be rebuilt."""
        try:
            accepted = self.known.get(cls)
            return self._look_at(cls) if accepted is None else accepted
        except Exception as error:  # an unhashable class, for example
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

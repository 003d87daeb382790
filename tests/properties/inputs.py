"""Inputs that several property tests use."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import BaseModel, Field


class Positive(BaseModel):
    share: float = Field(gt=0)
    other: float = 0.0


class Coordinates(NamedTuple):
    x: float


class LabelledCoordinates(Coordinates):
    label: str


class Handle:
    """Nothing that the library knows of, nor can be copied."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("a handle can't be copied")

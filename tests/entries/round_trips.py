"""Entries written and read back."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
)

from model_cache.entries.codec import Codec

KEY = b"model/1/AAAAAAAAAAAAAAAAAAAAAA"


def round_trip(codec: Codec, prediction: BaseModel) -> bytes:
    entry = codec.encode(KEY, prediction)
    again = codec.decode(KEY, entry)
    assert repr(again) == repr(prediction)
    assert again is not prediction
    return entry


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str


class Pets(BaseModel):
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]]
    warnings: list[str] = []


class Loose(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    x: Any = None
    y: float = 1.0

"""Record which fields of a prediction were not set, separately from the prediction.

Usually a dump just leaves these fields out. But the tag of a discriminated union is needed for
loading, although it is nearly always left at its default. Then everything is dumped, and the unset
fields are stored next to it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeAlias

import msgpack
from pydantic import BaseModel

from model_cache.pydantic_attributes import extra, set_fields_set

Unset: TypeAlias = list[list[Any]]
"""For each nested model with unset fields: its position in the walk, then their names."""


def unset_fields(prediction: BaseModel) -> Unset:
    """Return which fields were not set, in the prediction and in nested models."""
    unset: Unset = []
    for place, model in enumerate(_models(prediction)):
        names = type(model).model_fields.keys() - model.model_fields_set
        if names:
            unset.append([place, *sorted(names)])
    return unset


def with_unset(unset: Unset, data: bytes) -> bytes:
    """Return the unset fields and a dump: a length in two bytes, MessagePack, and the dump."""
    noted: bytes = msgpack.packb(unset)
    return b"%b%b%b" % (len(noted).to_bytes(2), noted, data)


def without_unset(data: bytes) -> tuple[Unset, bytes]:
    """Return the unset fields and the dump that `with_unset` joined."""
    size = 2 + int.from_bytes(data[:2])
    return msgpack.unpackb(data[2:size]), data[size:]


def all_set(prediction: BaseModel) -> BaseModel:
    """Return a copy in which every field counts as set."""
    filled = copy.deepcopy(prediction)
    for model in _models(filled):
        set_fields_set(model, model.model_fields_set | type(model).model_fields.keys())
    return filled


def mark_unset(prediction: BaseModel, unset: Unset) -> None:
    """Mark fields of a loaded prediction as not set, as recorded by `unset_fields`.

    Raises:
        ValueError: it does not have these fields.
    """
    models = list(_models(prediction))
    for place, *names in unset:
        fields = type(models[place]).model_fields.keys()
        if not fields >= set(names):
            raise ValueError("the model has no such fields")
        set_fields_set(models[place], models[place].model_fields_set - set(names))


def _models(value: Any) -> Iterator[BaseModel]:
    """Yield the models inside a value, in an order that depends only on its content."""
    if isinstance(value, BaseModel):
        yield value
        fields = type(value).model_fields  # `__dict__` may also contain cached properties
        inside = [inner for name, inner in value.__dict__.items() if name in fields]
        for inner in (*inside, *extra(value).values()):
            yield from _models(inner)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _models(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _models(inner)
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from _models(getattr(value, name, None))

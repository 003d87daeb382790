"""The attributes with which pydantic equips its models, which are less stable than its methods.

No other module uses their names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, SchemaSerializer, SchemaValidator

PREFIX = "__pydantic_"
"""The names of slots that pydantic fills itself begin with this."""

EXTRA = "__pydantic_extra__"
PRIVATE = "__pydantic_private__"
FIELDS_SET = "__pydantic_fields_set__"

# Getters written in C, since a hit uses one.
validator: Callable[[type[BaseModel]], SchemaValidator] = attrgetter("__pydantic_validator__")
"""Returns what validates the data of a model class."""

serializer: Callable[[BaseModel], SchemaSerializer] = attrgetter("__pydantic_serializer__")
"""Returns what dumps a model."""


def core_schema(cls: type[BaseModel]) -> CoreSchema:
    """Return what pydantic-core makes of a complete model class."""
    return cls.__pydantic_core_schema__


def is_root_model(cls: type[BaseModel]) -> bool:
    """Return whether a class is a `RootModel`."""
    return cls.__pydantic_root_model__


def extra(value: Any) -> dict[str, Any]:
    """Return a model's undeclared fields by name; anything else has none."""
    return getattr(value, EXTRA, None) or {}


def private(model: BaseModel) -> dict[str, Any]:
    """Return a model's private attributes by name."""
    return model.__pydantic_private__ or {}


def private_names(cls: type) -> Iterable[str]:
    """Return the names of the private attributes that a model class declares."""
    return getattr(cls, "__private_attributes__", ())


def set_extra(model: BaseModel, values: Mapping[str, Any]) -> None:
    """Replace a model's undeclared fields, even of a frozen one."""
    object.__setattr__(model, EXTRA, dict(values))


def set_fields_set(model: BaseModel, names: Iterable[str]) -> None:
    """Replace the names of a model's fields that count as set, even of a frozen one."""
    object.__setattr__(model, FIELDS_SET, set(names))


def known_fields(cls: type) -> Mapping[str, FieldInfo] | None:
    """Return the fields of a pydantic model or dataclass; None for other classes."""
    return vars(cls).get("__pydantic_fields__")


def configuration(cls: type) -> Mapping[str, Any]:
    """Return the configuration of a pydantic model or dataclass; empty for other classes."""
    found: Mapping[str, Any] = getattr(cls, "model_config", getattr(cls, "__pydantic_config__", {}))
    return found


def generic_origin(cls: type) -> tuple[type, tuple[Any, ...]] | None:
    """Return the origin and the arguments of a parametrized generic model; else None."""
    generic = cls.__dict__.get("__pydantic_generic_metadata__")
    if generic and generic["origin"] is not None:
        return generic["origin"], generic["args"]
    return None

"""The fields of a schema that choices are about: flat, with the fields of nested models by path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from pydantic import BaseModel

from model_cache import pydantic_attributes
from model_cache.binding.places import allows_extras
from model_cache.keys.schemas import holds_numbers

REST = ""
"""The path of what no field declares: extra fields and private attributes."""


@dataclass(frozen=True)
class Field:
    """A field.

    Attributes:
        path: its dotted path, as in options; "" for what is not declared.
        annotation: its annotation.
    """

    path: str
    annotation: Any

    @property
    def may_round(self) -> bool:
        """Whether reduced precision may apply."""
        return bool(self.path) and holds_numbers(self.annotation)

    def reader(self) -> Callable[[BaseModel], Any]:
        """Return what reads it from an input."""
        if self.path == REST:
            return _undeclared
        return attrgetter(self.path)


def fields_of(schema: type[BaseModel]) -> list[Field]:
    """Return the fields of a schema, and the fields of the models that are always in them."""
    found = _fields(schema, "", (schema,))
    if _has_rest(schema):
        found.append(Field(REST, Any))
    return found


def _fields(cls: type[BaseModel], above: str, path: Sequence[type]) -> list[Field]:
    found: list[Field] = []
    for name, info in cls.model_fields.items():
        inner = info.annotation
        if _is_plain_model(inner) and inner not in path:
            found += _fields(inner, f"{above}{name}.", (*path, inner))  # type: ignore[arg-type]
        else:
            found.append(Field(above + name, inner))
    return found


def _is_plain_model(annotation: Any) -> bool:
    """Return whether a field always holds a model all of whose state is in its fields.

    A subclass has fields of its own, which the field as a whole covers.
    """
    return (
        isinstance(annotation, type)
        and issubclass(annotation, BaseModel)
        and bool(annotation.model_fields)
        and not annotation.__subclasses__()
        and not pydantic_attributes.is_root_model(annotation)
        and not _has_rest(annotation)
    )


def _has_rest(cls: type[BaseModel]) -> bool:
    return allows_extras(cls) or bool(list(pydantic_attributes.private_names(cls)))


def _undeclared(data: BaseModel) -> Any:
    return pydantic_attributes.extra(data), pydantic_attributes.private(data)

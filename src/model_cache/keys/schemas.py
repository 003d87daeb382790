"""Inspect the schemas of models and functions: their fields and annotations.

Runs once per `set_model` or function, never per prediction.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from model_cache.keys.canonical.arrays import loaded_numpy


def field_annotations(cls: type) -> dict[str, Any]:
    """Return the annotations of a model, dataclass, TypedDict or NamedTuple by field."""
    if issubclass(cls, BaseModel):
        return {name: field.annotation for name, field in cls.model_fields.items()}
    found = hints(cls)
    if dataclasses.is_dataclass(cls):
        return {field.name: found.get(field.name, Any) for field in dataclasses.fields(cls)}
    return found or dict.fromkeys(getattr(cls, "_fields", ()), Any)


def hints(cls: type, *, extras: bool = False) -> dict[str, Any]:
    """Return the annotations of a class; {} if one of them can't be resolved.

    Args:
        cls: the class.
        extras: whether to keep the metadata of `Annotated`.
    """
    try:
        return typing.get_type_hints(cls, include_extras=extras)
    except Exception:  # a forward reference that only its author can resolve
        return {}


def structures(annotation: Any) -> list[type]:
    """Return the structures (models, dataclasses, ...) that an annotation refers to."""
    return [leaf for leaf in leaves(annotation) if is_structure(leaf)]


def leaves(
    annotation: Any,
    aliases: tuple[Any, ...] = (),
    is_leaf: Callable[[Any], bool] = lambda _: False,
) -> Iterator[Any]:
    """Yield the innermost types of an annotation, through unions, containers and aliases.

    Args:
        annotation: the annotation.
        aliases: the aliases that it is inside, which may be recursive.
        is_leaf: says which other annotations to yield as a whole.
    """
    if is_leaf(annotation):
        yield annotation
    elif hasattr(annotation, "__value__"):  # `type X = ...`, which may be recursive
        if annotation not in aliases:
            for part in (annotation.__value__, *typing.get_args(annotation)):
                yield from leaves(part, (*aliases, annotation), is_leaf)
    elif isinstance(annotation, typing.NewType):
        yield from leaves(annotation.__supertype__, aliases, is_leaf)
    elif typing.get_origin(annotation) is typing.Literal:
        yield from map(type, typing.get_args(annotation))
    elif typing.get_origin(annotation) is typing.Annotated:
        yield from leaves(typing.get_args(annotation)[0], aliases, is_leaf)
    elif arguments := typing.get_args(annotation):
        if is_structure(typing.get_origin(annotation)):
            yield typing.get_origin(annotation)
        for argument in arguments:
            yield from leaves(argument, aliases, is_leaf)
    elif all(annotation is not each for each in (types.NoneType, None, ...)):
        yield annotation


def is_structure(kind: Any) -> bool:
    """Return whether a type is a model, a dataclass, a TypedDict or a NamedTuple."""
    return isinstance(kind, type) and (
        issubclass(kind, BaseModel)
        or dataclasses.is_dataclass(kind)
        or hasattr(kind, "__required_keys__")  # a TypedDict, from typing or typing_extensions
        or hasattr(kind, "_field_defaults")  # a NamedTuple
    )


def holds_numbers(annotation: Any) -> bool:
    """Return whether values of an annotation can be rounded: numbers, and containers of numbers.

    A bool does not count as a number. Any counts, since the value may be one.
    """
    return any(
        leaf is Any
        or isinstance(leaf, typing.TypeVar)
        or (isinstance(leaf, type) and _is_number(leaf))
        for leaf in leaves(annotation)
    )


def _is_number(cls: type) -> bool:
    numpy = loaded_numpy()
    arrays = (numpy.ndarray, numpy.number) if numpy else ()
    return issubclass(cls, (int, float, Decimal, *arrays)) and not issubclass(cls, bool)

"""Inspect a model's schemas: their fields and annotations.

Runs once per `set_model`, never per prediction.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from model_cache.errors import ConfigurationError, did_you_mean
from model_cache.keys.canonical import Tree
from model_cache.keys.canonical.arrays import loaded_numpy


def path_tree(paths: typing.Iterable[str]) -> Tree:
    """Return dotted paths as a tree; a path covers every longer one that starts with it."""
    tree: dict[str, Any] = {}
    for path in sorted(paths):  # "customer" before "customer.income"
        node = tree
        *parents, leaf = path.split(".")
        for parent in parents:
            if (node := node.setdefault(parent, {})) is None:
                break
        else:
            node.setdefault(leaf, None)
    return tree


def fields_at(option: str, schema: type[BaseModel], path: str) -> list[Any]:
    """Return the annotations of the field at a dotted `path`; several below a union.

    Raises:
        ConfigurationError: there is no such field; the message suggests the nearest one.
    """
    classes: list[type] = [schema]
    found: list[Any] = []
    walked: list[str] = []
    for name in path.split("."):
        known = {field: kind for cls in classes for field, kind in field_annotations(cls).items()}
        found = [field_annotations(cls)[name] for cls in classes if name in field_annotations(cls)]
        if not found:
            raise ConfigurationError(option, _unknown_field(schema, classes, walked, name, known))
        walked.append(name)
        # Only models and dataclasses: at run time, a TypedDict is a plain dict.
        classes = [
            cls
            for kind in found
            for cls in structures(kind)
            if issubclass(cls, BaseModel) or dataclasses.is_dataclass(cls)
        ]
    return found


def _unknown_field(
    schema: type[BaseModel],
    classes: list[type],
    walked: list[str],
    name: str,
    known: Mapping[str, Any],
) -> str:
    place = f"{schema.__name__}.{'.'.join(walked)}" if walked else schema.__name__
    if not known:
        return f"{'.'.join([*walked, name])!r}: {place} is not a nested model, so it has no fields"
    for cls in classes:
        for field, info in getattr(cls, "model_fields", {}).items():
            if name in (info.alias, info.validation_alias, info.serialization_alias):
                return f"{name!r} is an alias in {place}; use the field's name: {field!r}"
    return f"{place} has no field {name!r}; {did_you_mean(name, known)}"


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


def leaves(annotation: Any, aliases: tuple[Any, ...] = ()) -> Iterator[Any]:
    """Yield the innermost types of an annotation, through unions, containers and aliases."""
    if hasattr(annotation, "__value__"):  # `type X = ...`, which may be recursive
        if annotation not in aliases:
            for part in (annotation.__value__, *typing.get_args(annotation)):
                yield from leaves(part, (*aliases, annotation))
    elif isinstance(annotation, typing.NewType):
        yield from leaves(annotation.__supertype__, aliases)
    elif typing.get_origin(annotation) is typing.Literal:
        yield from map(type, typing.get_args(annotation))
    elif typing.get_origin(annotation) is typing.Annotated:
        yield from leaves(typing.get_args(annotation)[0], aliases)
    elif arguments := typing.get_args(annotation):
        if is_structure(typing.get_origin(annotation)):
            yield typing.get_origin(annotation)
        for argument in arguments:
            yield from leaves(argument, aliases)
    elif annotation not in (types.NoneType, None, ...):
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

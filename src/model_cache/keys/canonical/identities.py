"""Canonical bytes for classes, annotations and functions.

A class is identified by its module and qualified name, never by its address, so a schema that is
rebuilt at each access is the same class, in every process. The form is self-delimiting, like that
of `canonical`, which builds on it.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from enum import Enum
from typing import Any

from model_cache.pydantic_attributes import generic_origin


def text(value: str) -> bytes:
    """Return the canonical bytes of a str, lone surrogates included."""
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        raw = value.encode("utf-8", "surrogatepass")
    return b"s%x:%b" % (len(raw), raw)


def counted(parts: Iterable[bytes]) -> bytes:
    """Join canonical byte strings, prefixed with their number."""
    parts = list(parts)
    return b"%x;%b" % (len(parts), b"".join(parts))


def class_identity(cls: type) -> bytes:
    """Return the canonical bytes of a class: its module and qualified name.

    A parametrized generic model is identified by its origin and its arguments.
    """
    generic = generic_origin(cls)
    if generic is not None:
        origin, arguments = generic
        return _generic(class_identity(origin), arguments)
    return b"c" + text(cls.__module__) + text(cls.__qualname__)


def annotation_identity(annotation: Any) -> bytes:
    """Return canonical bytes for a type annotation."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return annotation_identity(typing.get_args(annotation)[0])
    if origin is typing.Literal:
        return b"q" + counted(map(_literal, typing.get_args(annotation)))
    if origin in (typing.Union, types.UnionType):
        return _generic(b"u", typing.get_args(annotation))
    if origin is not None:
        return _generic(annotation_identity(origin), typing.get_args(annotation))
    if annotation is None:
        return class_identity(types.NoneType)
    if isinstance(annotation, type):
        return class_identity(annotation)
    if isinstance(annotation, (list, tuple)):  # the parameters of a Callable
        return b"l" + counted(map(annotation_identity, annotation))
    # A TypeVar, a type alias, a forward reference, an ellipsis: by kind and name.
    name = getattr(annotation, "__name__", None) or getattr(annotation, "__forward_arg__", "")
    return b"a" + text(type(annotation).__name__) + text(str(name))


def described(cls: type) -> str:
    """Return a class's name for a message."""
    return f"type {cls.__module__}.{cls.__qualname__}"


def _generic(origin: bytes, arguments: Iterable[Any]) -> bytes:
    return b"g" + origin + counted(map(annotation_identity, arguments))


def _literal(value: Any) -> bytes:
    written = value.name if isinstance(value, Enum) else repr(value)
    return class_identity(type(value)) + text(written)

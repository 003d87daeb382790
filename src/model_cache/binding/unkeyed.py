"""Detect input fields that prevent hits: types without a canonical form, and fresh defaults.

Runs once per `set_model` or function, never per prediction.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from model_cache.errors import ConfigurationError
from model_cache.keys.canonical import INPUTS, Selection
from model_cache.keys.schemas import field_annotations, leaves, structures

# Names of functions that return another value each time, or call such a function.
_NEVER_THE_SAME = {
    *("uuid1", "uuid4", "uuid6", "uuid7", "now", "utcnow", "today", "time_ns"),
    *("urandom", "getrandbits", "randint", "token_bytes", "token_hex", "token_urlsafe"),
}


def check_canonical(schema: type[BaseModel], selection: Selection | None) -> None:
    """Raise if a field that is part of the key has a type without a canonical form.

    Raises:
        ConfigurationError: the schema has such a field.
    """
    if not schema.model_config.get("arbitrary_types_allowed"):
        return
    for name, field in schema.model_fields.items():
        if selection is not None and selection.omits(name):
            continue
        if (found := uncovered_type(field.annotation)) is not None:
            raise ConfigurationError(
                "input_schema",
                f"field {name!r} is of type {found.__module__}.{found.__qualname__}, which has "
                "no canonical form; register one with model_cache.register_canonical, or "
                "exclude the field with ignored_fields",
            )


def uncovered_type(annotation: Any) -> type | None:
    """Return a type in an annotation whose instances have no canonical form, if there is one."""
    for leaf in leaves(annotation):
        if _says_what_it_holds(leaf) and not _is_covered(leaf):
            found: type = leaf
            return found
    return None


def _says_what_it_holds(leaf: Any) -> bool:
    return (
        isinstance(leaf, type)
        and leaf not in (object, Any)
        and not inspect.isabstract(leaf)
        and not getattr(leaf, "_is_protocol", False)
        and not hasattr(leaf, "__get_pydantic_core_schema__")
    )


def _is_covered(cls: type) -> bool:
    """Return whether instances of a class, or of a class derived from it, have a canonical form.

    Subclasses without one are ignored, since which of them are imported is arbitrary.
    """
    return INPUTS.covers(cls) or any(map(_is_covered, type.__subclasses__(cls)))


def warn_of_fresh_defaults(
    schema: type[BaseModel], selection: Selection | None, *, stacklevel: int
) -> None:
    """Warn of fields whose default differs for each input, so that no two share a key."""
    for path, factory in _fresh_defaults(schema, selection):
        warnings.warn(
            f"the input field {path!r} gets a new value from {factory} whenever it is omitted, "
            "and it is part of the key: such inputs never hit. If the model does not use the "
            f"field, exclude it from the key: ignored_fields=[{path!r}]",
            UserWarning,
            stacklevel=stacklevel + 1,
        )


def warn_of_fresh_arguments(annotations: Mapping[str, Any], *, stacklevel: int) -> None:
    """Warn of models in the arguments of a function that have such defaults.

    Args:
        annotations: of the parameters that are part of the key, by name.
        stacklevel: the frame to blame; 1 for the caller.
    """
    for name, annotation in annotations.items():
        for structure in structures(annotation):
            for path, factory in _fresh_defaults(structure, None):
                warnings.warn(
                    f"the field {path!r} of the argument {name!r} gets a new value from {factory} "
                    "whenever it is omitted, and it is part of the key: such calls never hit. If "
                    "the function does not use the field, pass it only what it uses, or leave the "
                    f"argument out of the key: ignored=[{name!r}]",
                    UserWarning,
                    stacklevel=stacklevel + 1,
                )


def _fresh_defaults(
    cls: type, selection: Selection | None, above: tuple[type, ...] = ()
) -> Iterator[tuple[str, str]]:
    if cls in above:
        return
    for name, annotation in field_annotations(cls).items():
        if selection is not None and selection.omits(name):
            continue
        factory = _factory(cls, name)
        if factory is not None and _is_fresh(factory):
            yield name, getattr(factory, "__qualname__", type(factory).__qualname__)
        inside = None if selection is None else selection.inside(name)
        for structure in structures(annotation):
            for path, found in _fresh_defaults(structure, inside, (*above, cls)):
                yield f"{name}.{path}", found


def _factory(cls: type, name: str) -> Any:
    if issubclass(cls, BaseModel):
        return cls.model_fields[name].default_factory
    if dataclasses.is_dataclass(cls):
        factory = next(field for field in dataclasses.fields(cls) if field.name == name)
        return None if factory.default_factory is dataclasses.MISSING else factory.default_factory
    return None


def _is_fresh(factory: Any) -> bool:
    while isinstance(factory, functools.partial):
        factory = factory.func
    code = getattr(factory, "__code__", None)
    names = {getattr(factory, "__name__", ""), *(code.co_names if code else ())}
    return factory is time.time or not names.isdisjoint(_NEVER_THE_SAME)

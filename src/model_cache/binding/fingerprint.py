"""The fingerprint of an output schema: everything that affects how an entry is decoded.

The fingerprint is part of each key, so entries written under another schema are not found. It
covers what pydantic validates, however the schema is written. The models, dataclasses, TypedDicts
and enums inside, and the functions that run, come from the core schema, where aliases, type
variables and forward references are resolved. Types, constraints and defaults come from the
annotations, since core schemas differ between versions of pydantic. Only this module uses
pydantic's core schemas.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
from pydantic_core import PydanticUndefined

from model_cache import pydantic_attributes
from model_cache.binding.facts import (
    OpaqueError,
    annotation_facts,
    carried_functions,
    class_facts,
    default_facts,
    field_facts,
    function_facts,
    is_pydantics,
)
from model_cache.errors import ConfigurationError
from model_cache.keys.canonical.identities import class_identity, counted, text
from model_cache.keys.schemas import hints, is_structure

# Parts of a core schema that do not affect validation.
_SKIPPED = {
    *("computed_fields", "config", "custom_error_context", "default", "default_factory"),
    *("discriminator", "expected", "members", "metadata", "serialization"),
}
# Options of `model_config` that do not affect it either. Unknown options are assumed to.
_NOT_FOR_VALIDATION = {
    *("alias_generator", "arbitrary_types_allowed", "cache_strings", "defer_build"),
    *("field_title_generator", "from_attributes", "frozen", "hide_input_in_errors"),
    *("json_encoders", "json_schema_extra", "json_schema_mode_override"),
    *("json_schema_serialization_defaults_required", "model_title_generator"),
    *("plugin_settings", "populate_by_name", "protected_namespaces", "schema_generator"),
    *("ser_json_bytes", "ser_json_inf_nan", "ser_json_temporal", "ser_json_timedelta"),
    *("serialize_by_alias", "title", "use_attribute_docstrings", "validate_assignment"),
    *("validate_by_alias", "validate_by_name", "validation_error_cause"),
}


def fingerprint(schema: type[BaseModel]) -> bytes:
    """Return canonical bytes for everything in a schema that affects decoding.

    Raises:
        ConfigurationError: the schema refers to a class that is not defined yet, or to a function
            that can't be identified.
    """
    walk = _Walk()
    walk.node(_core_schema(schema), _Place(schema))
    parts = [class_identity(schema)]
    parts += sorted(_structure(cls) for cls in walk.structures.values())
    parts += sorted(class_facts(cls) for cls in walk.enums.values())
    parts += [
        owner + text(field) + counted(functions)
        for (owner, field), functions in sorted(walk.functions.items())
    ]
    return counted(parts)


def _core_schema(schema: type[BaseModel]) -> Any:
    try:
        schema.model_rebuild()  # does nothing if it is complete
    except (PydanticUndefinedAnnotation, PydanticUserError) as error:
        problem = str(error).partition("\n")[0]
        raise ConfigurationError(
            "output_schema",
            f"{schema.__qualname__} is not complete ({problem}); call its model_rebuild() when "
            "all classes that it refers to are defined",
        ) from None
    return pydantic_attributes.core_schema(schema)


class _Place(NamedTuple):
    """A structure and one of its fields; "" for the whole structure."""

    owner: type
    field: str = ""


class _Walk:
    """Collects the user's classes and functions from a core schema.

    Attributes:
        structures: models, dataclasses, TypedDicts and NamedTuples by id.
        enums: enums by id.
        functions: the functions that run for each field, outermost first.
    """

    def __init__(self) -> None:
        self.structures: dict[int, type] = {}
        self.enums: dict[int, type[Enum]] = {}
        self.functions: dict[tuple[bytes, str], list[bytes]] = {}
        self._definitions: dict[str, Any] = {}
        self._open: list[str] = []

    def node(self, node: Mapping[str, Any], place: _Place) -> None:
        """Walk through a node of a core schema."""
        kind = node["type"]
        if kind == "definitions":
            self._definitions.update((each["ref"], each) for each in node["definitions"])
            return self.node(node["schema"], place)
        if kind == "definition-ref":  # like any other node: pydantic may inline it
            return self._reference(node["schema_ref"], place)
        cls = node.get("cls") or node.get("function")
        if isinstance(cls, type) and is_structure(cls):
            if id(cls) in self.structures:
                return None
            self.structures[id(cls)] = cls
            place = _Place(cls)
        elif isinstance(cls, type) and issubclass(cls, Enum):
            self.enums[id(cls)] = cls
        if "function" in node and isinstance(node["function"], Mapping):
            self._function(kind, node["function"]["function"], place)
        for key in sorted(node.keys() - _SKIPPED):
            if key == "fields":
                self._fields(node[key], place)
            else:
                self._value(node[key], place)
        return None

    def _reference(self, reference: str, place: _Place) -> None:
        if reference not in self._open:
            self._open.append(reference)
            self.node(self._definitions[reference], place)
            self._open.pop()

    def _fields(self, fields: Any, place: _Place) -> None:
        if isinstance(fields, Mapping):
            for name, field in fields.items():
                self._value(field, place._replace(field=name))
        else:
            self._value(fields, place)

    def _value(self, value: Any, place: _Place) -> None:
        if isinstance(value, Mapping):
            if isinstance(name := value.get("name"), str):  # of a dataclass or a NamedTuple
                place = place._replace(field=name)
            if isinstance(value.get("type"), str):
                self.node(value, place)
            else:
                for each in value.values():
                    self._value(each, place)
        elif isinstance(value, (list, tuple)):
            for each in value:
                self._value(each, place)

    def _function(self, kind: str, function: Any, place: _Place) -> None:
        for each in _written(function):
            with _naming(f"{place.owner.__qualname__}.{place.field}".rstrip(".")):
                facts = text(kind) + function_facts(each)
            known = self.functions.setdefault((class_identity(place.owner), place.field), [])
            if facts not in known:  # the same for JSON and for Python values
                known.append(facts)


def _structure(cls: type) -> bytes:
    """Return canonical bytes for the declarations in a class body."""
    parts = [class_identity(cls)]
    for name, facts in _fields(cls):
        with _naming(f"{cls.__qualname__}.{name}"):
            parts += [text(name), facts()]
    for name, value in sorted(pydantic_attributes.configuration(cls).items()):
        if name not in _NOT_FOR_VALIDATION:
            parts += [text(name), default_facts(value)]
    is_model = issubclass(cls, BaseModel)
    for name in ("__init__", "model_post_init") if is_model else ("__post_init__",):
        with _naming(f"{cls.__qualname__}.{name}"):
            parts += map(function_facts, _written(getattr(cls, name, None)))
    return counted(parts)


def _fields(cls: type) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield the fields of a structure, each with a function that returns its facts."""
    known = pydantic_attributes.known_fields(cls)
    if known is not None:  # a pydantic model or dataclass
        for name, info in sorted(known.items()):
            yield name, partial(field_facts, info)
        for name, private in sorted(getattr(cls, "__private_attributes__", {}).items()):
            yield name, partial(_facts, Any, private.default, private.default_factory)
        if extra := hints(cls, extras=True).get(pydantic_attributes.EXTRA):
            yield pydantic_attributes.EXTRA, partial(_facts, extra)
        return
    # If hints can't be resolved, use the strings; the core schema has the resolved types.
    annotations = hints(cls, extras=True) or getattr(cls, "__annotations__", {})
    if dataclasses.is_dataclass(cls):
        for field in sorted(dataclasses.fields(cls), key=attrgetter("name")):
            annotation = annotations.get(field.name, field.type)
            factory = field.default_factory
            yield (
                field.name,
                partial(
                    _facts,
                    annotation,
                    PydanticUndefined if field.default is dataclasses.MISSING else field.default,
                    None if factory is dataclasses.MISSING else factory,
                    field.init,
                ),
            )
    elif issubclass(cls, tuple):  # order matters
        defaults = getattr(cls, "_field_defaults", {})
        for name in getattr(cls, "_fields", ()):
            default = defaults.get(name, PydanticUndefined)
            yield name, partial(_facts, annotations.get(name, Any), default)
    else:
        required: frozenset[str] = getattr(cls, "__required_keys__", frozenset())
        for name, annotation in sorted(annotations.items()):
            yield name, partial(_facts, annotation, name in required)


def _facts(
    annotation: Any, default: Any = PydanticUndefined, factory: Any = None, init: bool = True
) -> bytes:
    made_by = b"" if factory is None else function_facts(factory)
    given = b"!" if default is PydanticUndefined else default_facts(default)
    return counted([annotation_facts(annotation), given, made_by, b"T" if init else b"F"])


def _written(function: Any) -> Iterator[Any]:
    """Yield the user's functions inside a function that pydantic calls."""
    if is_pydantics(function):
        yield from carried_functions(function)
    else:
        yield function


@contextmanager
def _naming(place: str) -> Iterator[None]:
    try:
        yield
    except OpaqueError as error:
        raise ConfigurationError(
            "output_schema",
            f"{place} has a function that can't be identified: {error}. Use a function "
            "defined at module level, or a partial of one with plain arguments",
        ) from None
    except RecursionError:
        raise ConfigurationError("output_schema", f"{place} is nested too deeply") from None

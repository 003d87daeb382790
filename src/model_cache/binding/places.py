"""What a dotted path in an option can name: fields, private attributes, and keys of dicts.

Runs once per `set_model`, never per prediction.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from model_cache import pydantic_attributes
from model_cache.errors import ConfigurationError, did_you_mean
from model_cache.keys.canonical import KeyTree, Tree
from model_cache.keys.schemas import field_annotations, leaves, structures

# Validation keeps instances of other mappings, which are part of the key as a whole.
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


class Place:
    """What values at one place of an input contain, by name.

    Args:
        annotations: the annotations of the values; several below a union.
        declared: whether to look only at the declared fields of models and dataclasses.
    """

    def __init__(self, annotations: Iterable[Any], *, declared: bool = False) -> None:
        found = list(annotations)
        self._declared = declared
        self.classes = [cls for each in found for cls in structures(each) if _is_object(cls)]
        self._typed: list[type] = []
        self._values: list[Any] = []
        for leaf in () if declared else _outermost(found):
            if _is_dict(leaf):
                self._values += _named_values(leaf)
            elif leaf is Any or leaf is object:
                self._values.append(Any)
            elif hasattr(leaf, "__required_keys__"):
                self._typed.append(leaf)
                self._values += [Any] if allows_extras(leaf) else []

    @property
    def has_keys(self) -> bool:
        """Whether the values may be dicts whose keys can be named."""
        return bool(self._values or self._typed)

    def known(self) -> dict[str, list[Any]]:
        """Return the names that are known in advance, with their annotations."""
        found: dict[str, list[Any]] = {}
        for cls in (*self.classes, *self._typed):
            for name, annotation in field_annotations(cls).items():
                found.setdefault(name, []).append(annotation)
            for name in () if self._declared else pydantic_attributes.private_names(cls):
                found.setdefault(name, []).append(Any)
        return found

    def named(self, name: str) -> list[Any]:
        """Return the annotations of what has a name; empty if nothing can have it."""
        found = [*self.known().get(name, ()), *self._values]
        if not self._declared and any(map(allows_extras, self.classes)):
            found.append(Any)
        return found


def annotations_at(
    option: str, schema: type[BaseModel], path: str, *, declared: bool = False
) -> list[Any]:
    """Return the annotations of what is at a dotted `path`; several below a union.

    Args:
        option: the name of the option.
        schema: the input schema.
        path: the path.
        declared: whether only declared fields of models and dataclasses are allowed.

    Raises:
        ConfigurationError: nothing can be there; the message suggests the nearest name.
    """
    found: list[Any] = [schema]
    walked: list[str] = []
    for name in path.split("."):
        place = Place(found, declared=declared)
        found = place.named(name)
        if not found:
            raise ConfigurationError(option, _unknown(schema, place, walked, name))
        walked.append(name)
    return found


def tree_of(schema: type[BaseModel], paths: Iterable[str]) -> Tree:
    """Return dotted paths as a tree that says where names are the keys of dicts."""
    return _marked(path_tree(paths), Place([schema]))


def path_tree(paths: Iterable[str]) -> Tree:
    """Return dotted paths as a tree."""
    return nested(dict.fromkeys(paths))


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by dotted path as a tree; a path includes those below it."""
    tree: dict[str, Any] = {}
    for path, value in sorted(values.items()):  # "customer" before "customer.income"
        node = tree
        *parents, leaf = path.split(".")
        for parent in parents:
            if not isinstance(node := node.setdefault(parent, {}), dict):
                break
        else:
            node.setdefault(leaf, value)
    return tree


def paths_of(tree: Tree, above: str = "") -> list[str]:
    """Return a tree as dotted paths."""
    paths: list[str] = []
    for name, below in tree.items():
        paths += [above + name] if below is None else paths_of(below, f"{above}{name}.")
    return paths


def allows_extras(cls: type) -> bool:
    """Return whether instances of a class may have fields that it does not declare."""
    return pydantic_attributes.configuration(cls).get("extra") == "allow"


def _marked(tree: Tree, place: Place) -> Tree:
    marked = {
        name: None if below is None else _marked(below, Place(place.named(name)))
        for name, below in tree.items()
    }
    return KeyTree(marked) if place.has_keys else marked


def _unknown(schema: type[BaseModel], place: Place, walked: list[str], name: str) -> str:
    at = f"{schema.__name__}.{'.'.join(walked)}" if walked else schema.__name__
    known = place.known()
    if not known:
        return f"{'.'.join([*walked, name])!r}: {at} is not a nested model, so it has no fields"
    for cls in place.classes:
        for field, info in getattr(cls, "model_fields", {}).items():
            if name in (info.alias, info.validation_alias, info.serialization_alias):
                return f"{name!r} is an alias in {at}; use the field's name: {field!r}"
    return f"{at} has no field {name!r}; {did_you_mean(name, known)}"


def _is_object(cls: type) -> bool:
    return issubclass(cls, BaseModel) or dataclasses.is_dataclass(cls)


def _outermost(annotations: Iterable[Any]) -> Iterator[Any]:
    """Yield the leaves of annotations, and dicts in place of what they contain."""
    for annotation in annotations:
        yield from leaves(annotation, is_leaf=_is_dict)


def _is_dict(annotation: Any) -> bool:
    cls = typing.get_origin(annotation) or annotation
    return any(cls is each for each in _DICTS)


def _named_values(annotation: Any) -> list[Any]:
    """Return the annotation of a dict's values; empty if its keys can't be named.

    A path goes through a dict of models, to the models' fields.
    """
    key, value = typing.get_args(annotation) or (Any, Any)
    if any(map(_is_object, structures(value))):
        return []
    return (
        [value] if any(leaf is each for leaf in leaves(key) for each in (str, Any, object)) else []
    )

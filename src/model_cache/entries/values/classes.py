"""The classes whose instances may be read.

Data names a class by a digest, which only the table of a reader turns into a class: one that the
function's return annotation names, or whose instance this process has stored itself.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable
from enum import Enum
from typing import Any

from pydantic import BaseModel

from model_cache.entries.values.reading import Reader, reader
from model_cache.entries.values.structures import DIGEST_SIZE, Structure, structure
from model_cache.keys.schemas import hints, leaves

_MOST = 4096
"""Classes that are created at each call, with other names, must not pile up."""


class Classes:
    """The classes whose instances a reader knows.

    Args:
        annotation: a type annotation, such as a function's return annotation. All classes inside
            it are known, including those of their fields.

    Attributes:
        loads: returns the value in bytes, a new object each time; raises any exception if they
            are damaged, or contain an instance of an unknown class.
    """

    def __init__(self, annotation: Any = None) -> None:
        self._structures: dict[bytes, Structure] = {}
        self.loads = reader(self._read)
        self.learn(annotation)

    def learn(self, annotation: Any) -> None:
        """Add the classes in an annotation; what can't be resolved is left out."""
        seen: list[Any] = []
        todo = [annotation]
        while todo and len(self._structures) < _MOST:
            for found in leaves(todo.pop()):
                if any(found is each for each in seen):
                    continue
                seen.append(found)
                if isinstance(found, typing.TypeVar):
                    todo += (found.__bound__, *found.__constraints__)
                elif isinstance(found, type):
                    todo += _fields(found)
                    if (form := structure(found)) is not None:
                        self.add(form)

    def add(self, form: Structure) -> None:
        """Add a class. One of the same identity, created later, replaces the earlier one."""
        known = self._structures
        if known.get(form.digest) is not form and (form.digest in known or len(known) < _MOST):
            known[form.digest] = form

    def _read(self, data: bytes, load: Reader) -> Any:
        return self._structures[data[:DIGEST_SIZE]].read(data[DIGEST_SIZE:], load)


def _fields(cls: type) -> Iterable[Any]:
    """Return the annotations of a class's fields."""
    if issubclass(cls, Enum):
        return ()
    if issubclass(cls, BaseModel):
        return [field.annotation for field in cls.model_fields.values()]
    if dataclasses.is_dataclass(cls) or issubclass(cls, (tuple, dict)):  # TypedDict, NamedTuple
        return (hints(cls, extras=True) or vars(cls).get("__annotations__", {})).values()
    return ()

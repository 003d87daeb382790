"""Registries of serders and compressors: by name for the options, by id for the entries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, Protocol, TypeVar

from model_cache.errors import ConfigurationError, did_you_mean
from model_cache.import_paths import imported


class Named(Protocol):
    """An item that can be registered."""

    @property
    def name(self) -> str: ...

    @property
    def id(self) -> int: ...


T = TypeVar("T", bound=Named)

FIRST_FREE_ID = 128
"""Lower ids are reserved for this library."""


class Registry(Generic[T]):
    """The serders or the compressors, by name and by id.

    Args:
        option: the option that names one of them.
        kind: the protocol that each must implement.
        builtin: the built-in ones.
    """

    def __init__(self, option: str, kind: type[Any], builtin: Iterable[T]) -> None:
        self._option = option
        self._kind = kind
        self._by_name = {item.name: item for item in builtin}
        self._by_id = {item.id: item for item in builtin}

    def register(self, item: T) -> None:
        """Add an item; one of the same class under the same name and id replaces the old."""
        if isinstance(item, type) or not isinstance(item, self._kind):
            raise self._error(f"{item!r} does not implement {self._kind.__name__}")
        if not (isinstance(item.id, int) and FIRST_FREE_ID <= item.id <= 255):
            raise self._error(f"expected an id from 128 to 255, got {item.id!r} ({item.name!r})")
        for taken in (self._by_name.get(item.name), self._by_id.get(item.id)):
            if taken is not None and type(taken) is not type(item):
                raise self._error(
                    f"name {item.name!r} or id {item.id} is already used by {taken.name!r} "
                    f"({taken.id})"
                )
        self._by_name[item.name] = self._by_id[item.id] = item

    def named(self, name: str) -> T:
        """Return an item by its name, or by an import path `package.module:name`.

        Raises:
            ConfigurationError: there is none.
        """
        if ":" in name:
            item: T = imported(self._option, name)
            self.register(item)
            return item
        if name not in self._by_name:
            hint = did_you_mean(name, self._by_name)
            kind = self._kind.__name__.lower()
            raise self._error(f"unknown {kind} {name!r}; {hint} (or use 'package.module:name')")
        return self._by_name[name]

    def numbered(self, number: int) -> T:
        """Return an item by its id; KeyError if there is none."""
        return self._by_id[number]

    def get(self, number: int) -> T | None:
        """Return an item by its id; None if there is none."""
        return self._by_id.get(number)

    def _error(self, problem: str) -> ConfigurationError:
        return ConfigurationError(self._option, problem)

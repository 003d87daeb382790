"""Read what functions returned as plain values, for people.

The classes of instances are not needed: a model is a dict of its fields, an instance of a dataclass
or a named tuple a list of its values, an enum member its name.
"""

from __future__ import annotations

import importlib
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import RootModel

from model_cache.entries.rows import values_of
from model_cache.entries.values import Classes
from model_cache.entries.values.libraries import NotImportedError
from model_cache.entries.values.reading import Reader
from model_cache.entries.values.structures import DIGEST_SIZE, is_model, model_parts

_DEEPEST = 100
_LISTS = (list, tuple, set, frozenset, deque)


class Anything(RootModel[Any]):
    """The schema for values of unknown schema."""


class _AnyClass(Classes):
    def _read(self, data: bytes, load: Reader) -> Any:
        data = data[DIGEST_SIZE:]
        if not is_model(data):
            return load(data)
        serder, _, dumped = model_parts(data)
        return getattr(serder.loads(dumped, Anything), "root", None)


_ANY_CLASS = _AnyClass()


def readable_value(data: bytes) -> Any:
    """Return the value in bytes as plain Python values.

    Raises:
        Exception: the bytes are damaged.
    """
    return _with_libraries(lambda: _ANY_CLASS.loads(data), len(data))


def readable_row(form: bytes, payload: bytes) -> Any:
    """Return the values of a row as plain Python values, without their container.

    Raises:
        Exception: the bytes are damaged.
    """
    return _with_libraries(lambda: values_of(form, payload, _ANY_CLASS), len(payload))


def _with_libraries(read: Callable[[], Any], size: int) -> Any:
    """Return what a function reads, with the libraries that it needs imported."""
    while True:
        try:
            return _plain(read())
        except NotImportedError as error:
            try:
                importlib.import_module(error.library)  # numpy, pandas or polars
            except ImportError:
                return f"{size:,} bytes, not decoded without {error.library}"


def _plain(value: Any, depth: int = 0) -> Any:
    if depth > _DEEPEST:
        return "..."
    if isinstance(value, Mapping):
        return {key: _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, _LISTS):
        return [_plain(item, depth + 1) for item in value]
    if hasattr(value, "get_columns"):  # a DataFrame of polars
        return {column.name: column.to_list() for column in value.get_columns()}
    if hasattr(value, "columns"):  # one of pandas
        return {name: _plain(column, depth + 1) for name, column in value.items()}
    for name in ("tolist", "to_list"):  # of numpy and pandas, and of polars
        if hasattr(value, name):
            return _plain(getattr(value, name)(), depth + 1)
    return value

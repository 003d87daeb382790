"""An input as values for the request log: the fields that make its key, without secrets.

Private attributes and fields with `repr=False` are left out. The values of secrets, and the
passwords in URLs, are hidden. Everything else that shows inputs does the same.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import types
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from functools import lru_cache, partial
from typing import Any

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

from model_cache import pydantic_attributes
from model_cache.keys.canonical import Selection, fields_of, has_fields
from model_cache.keys.canonical.attributes import State, state_reader
from model_cache.keys.canonical.reductions import URLS
from model_cache.keys.showing import hidden_fields, is_secret

HIDDEN = "**********"
"""Replaces the value of a secret, as in pydantic."""

# Immutable, and JSON or turned into JSON by pydantic.
_PLAIN = frozenset(
    {int, float, bool, types.NoneType, bytes, Decimal, uuid.UUID}
    | {dt.date, dt.datetime, dt.time, dt.timedelta}
)
_LISTS = (list, tuple, set, frozenset, deque)
# Greedy, since an unescaped password may contain an @. It may contain a / as well, but what follows
# a port is a path. Limited, so that no text takes long.
_LOGIN = re.compile(r"://(?:[^\s/?#]*@|[^\s/?#:]*:(?!\d*[/?#])\S{,300}@)")


def recorded(value: Any, selection: Selection | None = None) -> Any:
    """Return a copy of a value, as far as possible in types that pydantic can write as JSON.

    Args:
        value: the value.
        selection: which fields to include; None for all.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is str:
        return _without_login(value)
    if is_secret(value):
        return HIDDEN
    if has_fields(kind):
        return _structure(value, selection)
    if isinstance(value, Mapping):
        if selection is None:
            return {recorded(key): recorded(item) for key, item in value.items()}
        items = selection.items(value)
        return {recorded(key): recorded(item, below) for key, item, below in items}
    if isinstance(value, _LISTS):
        return [recorded(item, selection) for item in value]
    if isinstance(value, Enum):
        return recorded(value.value)
    if isinstance(value, (str, *URLS)):
        return _without_login(str(value))
    return recorded(value.tolist()) if hasattr(value, "tolist") else value  # numpy


def _without_login(text: str) -> str:
    return _LOGIN.sub("://***@", text) if "://" in text else text


def _structure(value: Any, selection: Selection | None) -> Any:
    kind, extra = type(value), pydantic_attributes.extra(value)
    if isinstance(value, BaseModel) and pydantic_attributes.is_root_model(kind):
        return recorded(value.root, selection)  # type: ignore[attr-defined]
    read, names = _compiled(kind)  # type: ignore[arg-type]  # a class is hashable
    state = read(value)
    if selection is not None:
        private = pydantic_attributes.private(value) if isinstance(value, BaseModel) else {}
        if not selection.applies(fields_of(kind), state, extra, private):
            selection = None  # all of it makes the key
    found = {}
    for name, given in names.items():
        if name in state and not (selection and selection.omits(name)):
            found[given] = recorded(state[name], selection and selection.inside(name))
    undeclared = selection and selection.without(state)
    for name, item in extra.items():
        if not (undeclared and undeclared.omits(name)):
            found.setdefault(name, recorded(item, undeclared and undeclared.inside(name)))
    return found


@lru_cache(maxsize=256)
def _compiled(kind: type) -> tuple[Callable[[Any], State], Mapping[str, str]]:
    """Return a reader of the fields, and the fields to record, with their names in requests."""
    return state_reader(kind), _names(kind)


def _names(kind: type) -> Mapping[str, str]:
    hidden = hidden_fields(kind)
    if issubclass(kind, BaseModel):
        fields = kind.model_fields.items()
        return {name: _given_as(name, field) for name, field in fields if name not in hidden}
    return {each.name: each.name for each in dataclasses.fields(kind) if each.name not in hidden}  # type: ignore[arg-type]


def _given_as(name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return next((each for each in choices if isinstance(each, str)), name)


def rows_of(whole: Any) -> Callable[[], Sequence[Any]]:
    """Return a function for the rows of a table as values for JSON; `whole` must be a copy."""
    if isinstance(whole, (list, tuple)):  # whose items the caller may change
        rows = [recorded(item) for item in whole]
        return lambda: rows
    return partial(_rows, whole)


def _rows(whole: Any) -> Sequence[Any]:
    if isinstance(whole, Mapping):  # an array for each input
        columns = [recorded(each) for each in whole.values()]
        return [dict(zip(whole, cells, strict=True)) for cells in zip(*columns, strict=True)]
    if hasattr(whole, "to_dicts"):  # a DataFrame of polars
        return [recorded(row) for row in whole.to_dicts()]
    if hasattr(whole, "columns"):  # of pandas
        return [recorded(row) for row in whole.to_dict("records")]
    items: Sequence[Any] = recorded(whole.tolist() if hasattr(whole, "tolist") else list(whole))
    return items

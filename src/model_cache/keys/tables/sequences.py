"""Lists and tuples: a row is an item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model_cache.keys.canonical.identities import text
from model_cache.keys.tables.cells import encoded
from model_cache.keys.tables.table import Table

_KINDS = {list: text("list"), tuple: text("tuple")}


def sequence_table(value: list[Any] | tuple[Any, ...]) -> Table:
    """Return the table of a list or a tuple, whose kind does not depend on its items."""
    return Table(value, _KINDS[type(value)], encoded(value), _select)


def _select(whole: Sequence[Any], places: Sequence[int]) -> Any:
    return type(whole)([whole[place] for place in places])  # type: ignore[call-arg]

"""Inputs built again from the columns of a log, and rounded as the library rounds them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from operator import attrgetter
from typing import Any

import numpy as np
from pydantic import BaseModel

from model_cache.advisor.columns import Array, Column, hash_of
from model_cache.advisor.fields import REST
from model_cache.advisor.hashing import rounded_table
from model_cache.advisor.log import Log
from model_cache.errors import NotCacheableError
from model_cache.keys.canonical import INPUTS
from model_cache.keys.rounding import Rounder

# So many distinct values are tried out with the library's own rounding, which may refuse some.
_TRIED = 1_000
MOST_ROUNDED = 20_000
"""Of a field whose values are not plain numbers, such as Decimals, so many are rounded at most."""


class Rebuilder:
    """Builds inputs again.

    Args:
        log: the log.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._paths = [field.path for field in log.fields if field.path != REST]
        self._columns = {column.path: column for column in log.columns}

    def input(self, row: int) -> BaseModel:
        """Return the input of a row.

        Raises:
            MissingValueError: a value was not kept.
        """
        return self._with({path: self._columns[path].value(row) for path in self._paths})

    def _with(self, values: Mapping[str, Any]) -> BaseModel:
        """Return one of the inputs with other values, by path, without validating it."""
        return _changed(self._log.template, _tree(values))

    def is_faithful(self) -> bool:
        """Return whether the first inputs, built again, equal those that were read."""
        try:
            return all(
                INPUTS.encode(self.input(self._log.row(place))) == INPUTS.encode(data)
                for place, data in enumerate(self._log.first)
            )
        except NotCacheableError:  # then these were never hits anyway
            return True

    def refused(self, column: Column, places: int) -> list[int] | None:
        """Return which distinct values the library would not round, by their place.

        None if there are such values, but too many values to find them all.
        """
        count = len(column.table)
        tried = range(0, count, max(1, count // _TRIED))
        changes = (column.table != rounded_table(column, places)) & ~np.isnan(column.table)
        rounded = self._rounded(column, places, [place for place in tried if changes[place]])
        found = [place for place, data in rounded if data is None]
        return None if found and count > _TRIED else found

    def rounded_hashes(self, column: Column, places: int) -> Array | None:
        """Return the hashes of values that are not plain numbers, as the library rounds them.

        None if there are too many values, or if not all are known.
        """
        if column.codes is None or len(column.table) > MOST_ROUNDED or not column.is_kept:
            return None
        read, found = attrgetter(column.path), column.table.copy()
        for place, data in self._rounded(column, places, range(len(found))):
            if data is not None:
                found[place] = hash_of(read(data))
        return found

    def _rounded(
        self, column: Column, places: int, tried: Iterable[int]
    ) -> Iterator[tuple[int, BaseModel | None]]:
        """Yield places of distinct values, each with its rounded input, or None if unchanged."""
        rounder = rounder_of({column.path: places})
        for place in tried:
            data = self._with({column.path: column.distinct_value(place)})
            rounded = rounder(data)
            yield place, None if rounded is data else rounded


def _changed(data: BaseModel, tree: Mapping[str, Any]) -> BaseModel:
    # BaseModel's own copy: it keeps private attributes, and passes by a frozen model.
    copied = BaseModel.__copy__(data)
    state = copied.__dict__
    for name, value in tree.items():
        state[name] = (
            _changed(state[name], value)
            if isinstance(value, dict) and isinstance(state.get(name), BaseModel)
            else value
        )
    cls = type(data)
    for name in [name for name in state if isinstance(getattr(cls, name, None), cached_property)]:
        del state[name]  # computed from other values
    return copied


def rounder_of(places: Mapping[str, int]) -> Rounder:
    """Return the library's rounder for some places by path."""
    return Rounder(_tree(places))


def _tree(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by path as nested dicts."""
    tree: dict[str, Any] = {}
    for path, value in values.items():
        node = tree
        *parents, leaf = path.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


class Tables:
    """The rounded values of columns, each computed once.

    Args:
        rebuilder: builds inputs to try roundings with.
    """

    def __init__(self, rebuilder: Rebuilder) -> None:
        self._rebuilder = rebuilder
        self._known: dict[tuple[str, int], Array | None] = {}

    def __call__(self, column: Column, places: int) -> Array:
        """Return the values of a column, rounded; those that can't be rounded as they are."""
        found = self.find(column, places)
        assert found is not None
        return found

    def find(self, column: Column, places: int) -> Array | None:
        """Return the rounded values; None if they can't be known."""
        key = column.path, places
        if key not in self._known:
            self._known[key] = self._rounded(column, places)
        return self._known[key]

    def _rounded(self, column: Column, places: int) -> Array | None:
        if column.number is None:
            return self._rebuilder.rounded_hashes(column, places)
        refused = self._rebuilder.refused(column, places)
        if refused is None:
            return None
        table = rounded_table(column, places)
        table[refused] = column.table[refused]
        return table


def places_of(column: Column) -> list[int]:
    """Return the numbers of places that are sensible for a column, finest first.

    From the first that changes a value, to the last whose step is no wider than most of the values.
    """
    numbers = column.numbers()
    if not len(numbers):
        return []
    low, high = np.quantile(numbers, [0.01, 0.99])
    width = float(max(high - low, 0.0))
    sample = np.unique(numbers[:: max(1, len(numbers) // 20_000)])
    if width <= 0 or len(sample) < 3:
        return []
    found = []
    is_whole = column.is_whole
    coarsest = -int(np.floor(np.log10(width)))
    for places in range(min(coarsest + 6, 15), coarsest - 1, -1):
        if places >= 0 and is_whole:
            continue
        if len(np.unique(np.round(sample, places))) < len(sample):
            found.append(places)
    return found[-4:]

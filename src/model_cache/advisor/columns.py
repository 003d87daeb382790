"""Columns: the values of one field over the whole log, and a hash of each.

A hash stands for the canonical bytes that keys are made of: equal values have equal hashes, and
different values different ones, but for chance (64 bits). Numbers are kept as they are, and so are
the distinct values of other types, up to a limit: requests can be built again from them.
"""

from __future__ import annotations

import copy
import hashlib
import types
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from model_cache.advisor.fields import Field
from model_cache.errors import NotCacheableError
from model_cache.keys.canonical import INPUTS

Hashes: TypeAlias = "npt.NDArray[np.uint64]"
Array: TypeAlias = "npt.NDArray[Any]"

MOST_KEPT = 2**18
"""How many distinct values of a column are kept; of more, only hashes."""

_MOST_CODED = 2**20
_EXACT = 2**53
# A NaN with a payload that no arithmetic produces stands for None.
_NONE = np.uint64(0x7FF8_6D6F_6465_6C01)
_NUMBERS = ({float}, {int}, {float, types.NoneType}, {int, types.NoneType})
# Of these types, values are equal if and only if their canonical bytes are.
_BY_VALUE = frozenset({str, bool, types.NoneType})


def mixed(hashes: Hashes, salt: int) -> Hashes:
    """Return hashes whose bits all depend on all bits of those given, and on the salt."""
    # splitmix64 (Steele, Lea and Flood, 2014).
    found = hashes + np.uint64((salt * 0x9E3779B97F4A7C15) % 2**64)
    found ^= found >> np.uint64(30)
    found *= np.uint64(0xBF58476D1CE4E5B9)
    found ^= found >> np.uint64(27)
    found *= np.uint64(0x94D049BB133111EB)
    found ^= found >> np.uint64(31)
    return found


class MissingValueError(Exception):
    """The value of a row was not kept."""


@dataclass(frozen=True, eq=False)
class Column:
    """The values of a field, row by row.

    Attributes:
        path: the field's path.
        salt: distinguishes its hashes from those of other fields.
        number: the type of its numbers; None if they are not numbers.
        codes: the place of each row's value in `table`; None if there are too many values.
        table: the distinct values, or each row's value: floats, or hashes.
        kept: the values by hash, if they are not numbers.
    """

    path: str
    salt: int
    number: type | None
    codes: Array | None
    table: Array
    kept: dict[int, Any]

    def __len__(self) -> int:
        return len(self.table if self.codes is None else self.codes)

    @property
    def distinct(self) -> int:
        """How many distinct values there are."""
        return len(self.table) if self.codes is not None else len(np.unique(_bits(self.table)))

    def hashes(self, table: Array | None = None) -> Hashes:
        """Return the hash of each row, with other values in place of those in `table`."""
        found = mixed(_bits(self.table if table is None else table), self.salt)
        return found if self.codes is None else found[self.codes]

    def value(self, row: int) -> Any:
        """Return the value of a row.

        Raises:
            MissingValueError: it was not kept.
        """
        return self.distinct_value(row if self.codes is None else int(self.codes[row]))

    def distinct_value(self, place: int) -> Any:
        """Return the value at a place of `table`; see `value`."""
        found = self.table[place]
        if self.number is None:
            try:
                return self.kept[int(found)]
            except KeyError:
                raise MissingValueError from None
        if _bits(np.array([found]))[0] == _NONE:
            return None
        return self.number(found)

    def ordered(self, order: Array) -> Column:
        """Return the column with its rows in another order."""
        if self.codes is None:
            return Column(self.path, self.salt, self.number, None, self.table[order], self.kept)
        return Column(self.path, self.salt, self.number, self.codes[order], self.table, self.kept)

    @property
    def is_kept(self) -> bool:
        """Whether all of its values are known."""
        return self.number is not None or len(self.kept) >= len(np.unique(self.table))

    def numbers(self) -> Array:
        """Return the finite numbers of the column: one per row, or all in its distinct values."""
        if self.number is None:
            kept = _numbers_in([*self.kept.values()])
            found = np.array([*map(_as_float, kept)], np.float64)
        else:
            found = self.table if self.codes is None else self.table[self.codes]
        return found[np.isfinite(found)]

    @property
    def is_whole(self) -> bool:
        """Whether all of its numbers are whole."""
        if self.number is not None:
            return self.number is int
        return all(type(each) is int for each in _numbers_in([*self.kept.values()]))


def _numbers_in(value: Any) -> Iterator[int | float | Decimal]:
    """Yield the numbers in a value: in a list of numbers, for example."""
    if hasattr(value, "tolist"):  # numpy
        value = value.tolist()
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        yield value
    elif isinstance(value, (Mapping, list, tuple, set, frozenset, deque)):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _numbers_in(each)


def _as_float(number: float | Decimal) -> float:
    """Return the nearest float; NaN for what has none, such as an int of hundreds of digits."""
    try:
        return float(number)
    except (OverflowError, ValueError):  # a signaling NaN
        return float("nan")


def hash_of(value: Any) -> int:
    """Return the hash of a value that is not kept as a number.

    Raises:
        NotCacheableError: it has no canonical form.
    """
    return int.from_bytes(hashlib.blake2b(INPUTS.encode(value), digest_size=8).digest())


def _bits(table: Array) -> Hashes:
    return table if table.dtype == np.uint64 else table.view(np.uint64)


class ColumnBuilder:
    """Collects a column batch by batch.

    Args:
        field: the field.
        salt: distinguishes its hashes from those of other fields.
    """

    def __init__(self, field: Field, salt: int) -> None:
        self.path = field.path
        self._read = field.reader()
        self._salt = salt
        self._number: type | None = None
        self._is_number = field.may_round  # then numbers must stay numbers
        self._parts: list[Array] = []
        self._hasher = _Hasher(salt)
        self._column: Column | None = None

    @property
    def uncacheable(self) -> int:
        """How many values had no canonical form."""
        return self._hasher.uncacheable

    def newest(self) -> Hashes:
        """Return the hashes of the values that were added last."""
        return mixed(_bits(self._parts[-1]), self._salt)

    def keep_of_newest(self, kept: Array) -> None:
        """Drop those of the values that were added last that a mask does not keep."""
        self._parts[-1] = self._parts[-1][kept]

    def thinned(self, kept: Array) -> ColumnBuilder:
        """Return a builder with only those of the values so far that a mask keeps."""
        found = copy.copy(self)
        found._parts = [np.concatenate(self._parts)[: len(kept)][kept]]
        return found

    def add(self, inputs: Sequence[Any]) -> None:
        """Add the values of some inputs."""
        values = [*map(self._read, inputs)]
        if self._is_number:
            array = self._as_numbers(values)
            if array is not None:
                self._parts.append(array)
                return
            self._become_hashes()
        self._parts.append(self._hasher.hashes(values))

    def _as_numbers(self, values: list[Any]) -> Array | None:
        kinds = set(map(type, values))
        if kinds not in _NUMBERS and kinds != {types.NoneType}:
            return None
        number = next((kind for kind in (float, int) if kind in kinds), None)
        if self._number is None:
            self._number = number
        elif number not in (None, self._number):
            return None
        try:
            array = np.array(values, dtype=np.float64)  # None becomes NaN
        except OverflowError:
            return None
        if number is int and len(array) and np.nanmax(np.abs(array)) >= _EXACT:
            return None
        if types.NoneType in kinds:
            places = [place for place, value in enumerate(values) if value is None]
            array.view(np.uint64)[places] = _NONE
        return array

    def _become_hashes(self) -> None:
        """Turn the numbers so far into hashes, since others can't be numbers."""
        number = self._number or float
        parts: list[Array] = []
        for part in self._parts:
            nones = part.view(np.uint64) == _NONE
            values = [
                None if is_none else number(value)
                for value, is_none in zip(part.tolist(), nones.tolist(), strict=True)
            ]
            parts.append(self._hasher.hashes(values))
        self._parts, self._is_number, self._number = parts, False, None

    def finish(self, count: int) -> Column:
        """Return the column, without the values that an interrupted `add` left after `count`.

        It may be called again after an interruption.
        """
        if self._column is None:
            self._parts = [np.concatenate(self._parts)[:count]]
            self._column = self._made(self._parts[0])
            self._parts = []
        return self._column

    def _made(self, rows: Array) -> Column:
        number = (self._number or float) if self._is_number else None
        kept = self._hasher.kept
        distinct, codes = np.unique(_bits(rows), return_inverse=True)
        if len(distinct) > _MOST_CODED:
            return Column(self.path, self._salt, number, None, rows, kept)
        small = np.min_scalar_type(max(0, len(distinct) - 1))
        table = distinct if number is None else distinct.view(np.float64)
        return Column(self.path, self._salt, number, codes.astype(small), table, kept)


class _Hasher:
    """Hashes values by their canonical bytes, and keeps the distinct ones up to a limit."""

    def __init__(self, salt: int) -> None:
        self.kept: dict[int, Any] = {}
        self.uncacheable = 0
        self._salt = salt
        self._by_value: dict[type, dict[Any, int]] = {}

    def hashes(self, values: list[Any]) -> Hashes:
        kinds = set(map(type, values))
        if len(kinds) == 1 and kinds <= _BY_VALUE:
            memo = self._by_value.setdefault(kinds.pop(), {})
            try:
                return np.fromiter(map(memo.__getitem__, values), np.uint64, len(values))
            except KeyError:
                for value in dict.fromkeys(values):  # in order: the first ones are kept
                    if value not in memo:
                        memo[value] = self._hash(value)
                found = np.fromiter(map(memo.__getitem__, values), np.uint64, len(values))
                if len(memo) > MOST_KEPT:
                    memo.clear()
                return found
        return np.fromiter(map(self._hash, values), np.uint64, len(values))

    def _hash(self, value: Any) -> int:
        try:
            found = hash_of(value)
        except NotCacheableError:
            # Such a request is never a hit: as if each value were another one.
            self.uncacheable += 1
            form = b"%d" % self.uncacheable
            found = int.from_bytes(hashlib.blake2b(form, digest_size=8).digest())
        if len(self.kept) < MOST_KEPT:
            self.kept[found] = value
        return found

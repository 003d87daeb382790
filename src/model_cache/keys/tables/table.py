"""A table: what a function of many rows was called with, as rows with canonical bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The rows of a list, an array, a Series, a DataFrame or a dict of arrays.

    Attributes:
        whole: the caller's object, which is never changed.
        kind: canonical bytes of everything that the rows share. Two rows of tables of the same
            kind are equal for the model if and only if their bytes are equal.
        index: the pandas index; None for other containers. It is not part of any key.
        is_default_index: whether the index is a RangeIndex from 0, or the table is part of a
            table with such an index.
    """

    whole: Any
    kind: bytes
    _rows: list[bytes]
    _select: Callable[[Any, Sequence[int]], Any]
    index: Any = None
    is_default_index: bool = False

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self) -> list[bytes]:
        """Return the canonical bytes of each row."""
        return self._rows

    def take(self, places: Sequence[int]) -> Any:
        """Return a new container of the same type with only these rows, in this order.

        A pandas object keeps the labels of its index. The caller's own object stays as it is if a
        model changes what it gets.
        """
        return self._select(self.whole, places)

    def part(self, places: Sequence[int]) -> Table:
        """Return the table of `take(places)`, of the same kind as this one."""
        taken = self.take(places)
        index = None if self.index is None else taken.index
        rows = [self._rows[place] for place in places]
        return dataclasses.replace(self, whole=taken, _rows=rows, index=index)

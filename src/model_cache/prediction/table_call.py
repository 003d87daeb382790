"""A call to a function of many rows, and what its binding can do with rows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from model_cache.binding import Bound
from model_cache.interruptions import reraise_interruption
from model_cache.keys.tables import Table


def length_of(value: Any) -> int | None:
    """Return the length of the first axis of an array; None if it has none, or does not know it."""
    try:
        length = value.shape[0]
    except Exception as error:  # no array at all, or one whose shape can't be read
        reraise_interruption(error)
        return None
    # dask's is lazy or NaN. The longest container has sys.maxsize items.
    return length if isinstance(length, int) and 0 <= length <= sys.maxsize else None


@dataclass(slots=True, eq=False, repr=False)
class TableCall:
    """A call to a function of many rows.

    Attributes:
        whole: the rows as the caller passed them.
        compute: calls the function with other rows in their place.
        table: the rows; None if they have no keys.
        head: canonical bytes of everything else that the results depend on.
        reason: why there are no keys.
    """

    whole: Any
    compute: Callable[[Any], Any]
    table: Table | None
    head: bytes = b""
    reason: str = ""

    def part(self, places: Sequence[int]) -> TableCall:
        """Return a call with copies of some of the rows; the caller may change its own."""
        assert self.table is not None
        table = self.table.part(places)
        return TableCall(table.whole, self.compute, table, self.head, self.reason)

    @property
    def size(self) -> int:
        """The number of rows; 1 if it is not known."""
        if self.table is not None:
            return len(self.table)
        return length_of(self.whole) or 1


@dataclass(slots=True, eq=False, repr=False)
class TableRow:
    """One row of a call."""

    call: TableCall
    place: int


class RowsNotApartError(Exception):
    """The function's result can't be taken apart into rows.

    Attributes:
        result: what the function returned.
        is_whole: whether it is the result for all rows of the call.
    """

    def __init__(self, reason: str, result: Any, *, is_whole: bool) -> None:
        super().__init__(reason)
        self.result = result
        self.is_whole = is_whole


class MixedRowsError(Exception):
    """Rows can't be put together: one of them is damaged, or their results differ in type."""


class RowsBound(Bound, Protocol):
    """The binding of a function of many rows."""

    def payloads(
        self, entries: Sequence[bytes | None], form: bytes | None
    ) -> tuple[bytes | None, list[bytes | None]]:
        """Return the form of plain entries, and the payload of each that has this form.

        Args:
            entries: the entries; None where there is none.
            form: the form that is expected; None for that of the first plain entry.
        """
        ...

    def joined(self, call: TableCall, form: bytes, payloads: Sequence[bytes]) -> Any:
        """Return the result for all rows of a call.

        Raises:
            Exception: a payload is damaged.
        """
        ...

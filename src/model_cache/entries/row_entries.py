"""Entries of single rows: a form, which the rows of a result share, and a row's own payload.

Almost all entries of a table begin with the same bytes: the envelope's head and the form. So a
thousand of them are told apart by comparing prefixes, without decoding each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from model_cache.entries.envelope import HEAD_SIZE, MARK, VERSION

_SIZE = 2


@dataclass(frozen=True, slots=True)
class RowResult:
    """What a function of many rows returned for one of them.

    Attributes:
        form: what the rows of the result share; see `rows`.
        payload: the row's own bytes.
    """

    form: bytes
    payload: bytes


class RowsSerder:
    """The serder for `RowResult`."""

    name = "rows"
    id = 5

    def dumps(self, prediction: Any) -> bytes:
        """Return a `RowResult` as bytes."""
        form: bytes = prediction.form
        payload: bytes = prediction.payload
        return len(form).to_bytes(_SIZE) + form + payload

    def loads(self, data: bytes, schema: Any) -> Any:
        """Return the `RowResult` in `data`."""
        end = _SIZE + int.from_bytes(data[:_SIZE])
        if len(data) < end:
            raise ValueError("shorter than its form")
        return schema(data[_SIZE:end], data[end:])

    def reader(self, data: bytes, schema: Any) -> Callable[[], Any]:
        """Return what reads `data`, to a new object each time."""
        return partial(self.loads, data, schema)


ROWS = RowsSerder()

_PLAIN = bytes((MARK, VERSION, ROWS.id, 0, 0))
"""The head of an entry without a tag, compression or a time."""


def common_prefix(entries: Iterable[bytes | None], form: bytes | None = None) -> bytes | None:
    """Return the head and the form of plain entries; None if none of them is plain.

    Args:
        entries: the entries; None where there is none.
        form: their form; None for that of the first plain entry.
    """
    if form is not None:
        return _PLAIN + len(form).to_bytes(_SIZE) + form
    for entry in entries:
        if entry is not None and entry.startswith(_PLAIN):
            start = HEAD_SIZE + _SIZE
            end = start + int.from_bytes(entry[HEAD_SIZE:start])
            return entry[:end] if len(entry) >= end else None
    return None


def form_of(prefix: bytes) -> bytes:
    """Return the form in a prefix."""
    return prefix[HEAD_SIZE + _SIZE :]

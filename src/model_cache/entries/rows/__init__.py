"""A result for many rows, taken apart into one payload for each row, and put together again.

What the rows share is the form: the container, its dtype, its columns. A payload contains only its
own row. A result that would not be restored exactly is refused.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgpack

from model_cache.entries.refusals import LengthError, RowsRefusedError
from model_cache.entries.rows.columns import columns_of, payloads_of, specifications
from model_cache.entries.rows.containers import apart, together
from model_cache.entries.values import Classes
from model_cache.entries.values.libraries import loaded
from model_cache.interruptions import reraise_interruption
from model_cache.keys.canonical import PREDICTIONS
from model_cache.keys.tables import Table
from model_cache.keys.tables.cells import numbers

__all__ = ["LengthError", "Parts", "RowsRefusedError", "join", "split", "values_of"]


LONGEST_FORM = 65_535
"""The most bytes of a form, which each entry repeats."""


class Parts(NamedTuple):
    """A result taken apart.

    Attributes:
        form: what all rows share. Payloads of different forms can't be joined.
        payloads: each row's own bytes.
    """

    form: bytes
    payloads: list[bytes]


def split(
    result: object, table: Table, *, outputs: bool = False, classes: Classes | None = None
) -> Parts:
    """Take a function's result apart.

    Args:
        result: a list, a tuple, a numpy array, or a Series or DataFrame of pandas or polars, with
            an item for each row.
        table: the rows that the function was called with.
        outputs: whether the result is a list or tuple of such containers, one for each output.
        classes: learns the classes of the instances in the result.

    Raises:
        LengthError: the result has more or fewer items than the table has rows.
        RowsRefusedError: the result would not be restored exactly.
    """
    classes = Classes() if classes is None else classes
    try:
        described, columns = apart(result, table, outputs)
        form = _packed(described, columns)
        if len(form) > LONGEST_FORM:
            raise RowsRefusedError(f"its names and dtypes take more than {LONGEST_FORM:,} bytes")
        payloads = payloads_of(columns, len(table), classes)
        again, restored = apart(join(form, payloads, table, classes=classes), table, outputs)
        is_same = _packed(again, restored) == form and all(map(_same, columns, restored))
    except (LengthError, RowsRefusedError):
        raise
    except Exception as error:
        reraise_interruption(error)
        reason = f"a row can't be stored: {type(error).__name__}: {error}"
        raise RowsRefusedError(reason) from error
    if not is_same:
        raise RowsRefusedError("a row changes when stored and read back")
    return Parts(form, payloads)


def _packed(described: Any, columns: list[Any]) -> bytes:
    packed: bytes = msgpack.packb(
        [described, *specifications(columns)], unicode_errors="surrogatepass"
    )
    return packed


def _same(column: Any, restored: Any) -> bool:
    """Return whether a column is restored exactly."""
    if isinstance(column, list):
        kinds = set(map(type, column))
        if kinds <= {str, int, bool, types.NoneType}:
            return bool(column == restored) and list(map(type, column)) == list(map(type, restored))
        encode = PREDICTIONS.encode
        return list(map(encode, column)) == list(map(encode, restored))
    numpy = loaded("numpy")
    before, after = numbers(numpy, column), numbers(numpy, restored)
    return bool(numpy.array_equal(before, after))


def join(
    form: bytes, payloads: Sequence[bytes], table: Table, *, classes: Classes | None = None
) -> Any:
    """Put a result together.

    Args:
        form: the form of all payloads.
        payloads: a payload for each row of the table.
        table: the rows that the caller passed.
        classes: the classes of the instances that may be restored.

    Raises:
        Exception: the bytes are damaged, or the process has not imported the container's library.
    """
    if len(payloads) != len(table):
        raise ValueError("the payloads are not as many as the rows")
    described, *specs = msgpack.unpackb(form, unicode_errors="surrogatepass", strict_map_key=False)
    columns = columns_of(specs, payloads, Classes() if classes is None else classes)
    rest = iter(columns)
    result = together(described, rest, table)
    if next(rest, None) is not None:
        raise ValueError("there are more columns than the form describes")
    return result


def values_of(form: bytes, payload: bytes, classes: Classes) -> list[Any]:
    """Return the values of a single row, without its container.

    Args:
        form: the form of the payload.
        payload: the row's own bytes.
        classes: reads the instances of classes.

    Raises:
        Exception: the bytes are damaged, or need a library that the process has not imported.
    """
    _, *specs = msgpack.unpackb(form, unicode_errors="surrogatepass", strict_map_key=False)
    return [column[0] for column in columns_of(specs, [payload], classes)]

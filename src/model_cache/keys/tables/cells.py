"""Matrices of bytes: one line for each row of a table, some columns for each of its columns.

A column of numbers becomes its bytes. A column of objects becomes slots of a fixed width, so that
a row's bytes do not depend on the other rows.
"""

from __future__ import annotations

import hashlib
import math
import types
from collections.abc import Sequence
from typing import Any

from model_cache.keys.canonical import INPUTS
from model_cache.keys.canonical.arrays import padding_of
from model_cache.keys.canonical.refusals import refuse

_SHORT = 16
_SLOT = 1 + _SHORT

# Values of these types are equal if and only if their canonical forms are. (A bool equals an int.)
_COMPARABLE = frozenset({str, int, types.NoneType})


def encoded(values: Sequence[Any]) -> list[bytes]:
    """Return the canonical bytes of each value."""
    encoders = INPUTS.encoders(None)
    forms: list[bytes] = []
    try:
        for value in values:
            forms.append(encoders[type(value)](value))  # noqa: PERF401 - an error needs its place
    except Exception as error:
        refuse(error, f"[{len(forms)}]")
    return forms


def objects(numpy: Any, values: Sequence[Any]) -> Any:
    """Return the matrix of a column of objects."""
    if set(map(type, values)) <= _COMPARABLE:
        distinct = list(dict.fromkeys(values))
        slots = dict(zip(distinct, map(_slot, encoded(distinct)), strict=True))
        data = b"".join(map(slots.__getitem__, values))
    else:
        data = b"".join(map(_slot, encoded(values)))
    return numpy.frombuffer(data, "u1").reshape(len(values), _SLOT)


def _slot(form: bytes) -> bytes:
    """Return a canonical form in a fixed width: itself, if it is short, or its digest."""
    if len(form) <= _SHORT:
        return b"\0" + form.ljust(_SHORT, b"\0")
    return b"\1" + hashlib.blake2b(form, digest_size=_SHORT).digest()


def numbers(numpy: Any, array: Any) -> list[Any]:
    """Return the matrices of an array of numbers, dates, strings or records of these.

    It has at least one axis; the first one is that of the rows.
    """
    dtype = array.dtype
    if dtype.names is not None:  # field by field, without the padding between them
        return [matrix for name in dtype.names for matrix in numbers(numpy, array[name])]
    count = math.prod(array.shape[1:])
    if not (len(array) and count and dtype.itemsize):
        return [numpy.zeros((len(array), count * dtype.itemsize), "u1")]
    raw = numpy.ascontiguousarray(array).reshape(-1).view("u1")
    padding = padding_of(numpy, dtype) if dtype.kind in "fc" else 0
    if not padding:
        return [raw.reshape(len(array), -1)]
    raw = raw.reshape(-1, numpy.dtype(numpy.longdouble).itemsize)
    raw = raw[:, padding:] if dtype.str[0] == ">" else raw[:, : raw.shape[1] - padding]
    return [raw.reshape(len(array), -1)]


def lines(numpy: Any, matrices: Sequence[Any], count: int) -> list[bytes]:
    """Return each row's bytes, the matrices side by side."""
    if len(matrices) != 1:
        matrices = [numpy.concatenate([numpy.zeros((count, 0), "u1"), *matrices], axis=1)]
    matrix = numpy.ascontiguousarray(matrices[0])
    width = matrix.shape[1]
    if not (count and width):
        return [b""] * count
    found: list[bytes] = matrix.reshape(-1).view(f"V{width}").tolist()
    return found

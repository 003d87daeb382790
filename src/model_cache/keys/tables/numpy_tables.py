"""numpy arrays, and dicts of arrays of equal length: a row is an item of the first axis.

The order of an array in memory may change the last digits of a sum, so it belongs to the kind. An
array without gaps stays so when some of its rows are taken; another one becomes contiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from model_cache.errors import NotCacheableError
from model_cache.keys.canonical import INPUTS
from model_cache.keys.canonical.arrays import dtype_form, loaded_numpy
from model_cache.keys.canonical.identities import counted, described, text
from model_cache.keys.canonical.refusals import item_of, refuse
from model_cache.keys.tables.cells import lines, numbers, objects
from model_cache.keys.tables.table import Table


class Vectors(NamedTuple):
    """Columns of a table: canonical bytes of what their rows share, and each row's own bytes."""

    kind: bytes
    matrices: list[Any]


T = TypeVar("T")


def side_by_side(
    columns: Iterable[tuple[Any, T]], vectors_of: Callable[[Any, T], Vectors]
) -> Vectors:
    """Return the vectors of all columns, each with its name; an error says which column it is."""
    kinds: list[bytes] = []
    matrices: list[Any] = []
    for name, column in columns:
        try:
            kind, own = vectors_of(name, column)
        except Exception as error:
            refuse(error, item_of(name))
        kinds.append(kind)
        matrices += own
    return Vectors(counted(kinds), matrices)


def array_table(value: Any) -> Table:
    """Return the table of an array."""
    numpy = loaded_numpy()
    kind, matrices = _vectors_of(numpy, value)
    rows = lines(numpy, matrices, len(value))
    return Table(value, text("numpy.ndarray") + kind, rows, select_rows)


def feeds_table(value: dict[Any, Any]) -> Table:
    """Return the table of a dict of arrays with equally many rows, such as a model's feeds."""
    numpy = loaded_numpy()
    if (
        numpy is None
        or not value
        or not all(isinstance(each, numpy.ndarray) for each in value.values())
    ):
        raise NotCacheableError("a dict is a table only if all its values are numpy arrays")

    def feed(name: Any, array: Any) -> Vectors:
        kind, matrices = _vectors_of(numpy, array)
        return Vectors(INPUTS.encode(name) + kind, matrices)

    kind, matrices = side_by_side(value.items(), feed)
    lengths = {len(array) for array in value.values()}
    if len(lengths) > 1:
        raise NotCacheableError(f"the arrays have different lengths: {sorted(lengths)}")
    rows = lines(numpy, matrices, lengths.pop())
    return Table(value, text("dict") + kind, rows, _select_feeds)


def _select_feeds(whole: dict[Any, Any], places: Sequence[int]) -> dict[Any, Any]:
    return {name: select_rows(array, places) for name, array in whole.items()}


def select_rows(array: Any, places: Sequence[int]) -> Any:
    """Return some rows of an array, in an array with the same order in memory."""
    numpy = loaded_numpy()
    taken = array[numpy.asarray(places, "intp")]
    if type(array) is numpy.ndarray and memory_order(array)[-1:] == b"F":
        return numpy.asfortranarray(taken)
    return taken


def memory_order(array: Any) -> bytes:
    """Return C or F, the order of an array's values in memory; after an S if it has gaps."""
    flags = array.flags
    if flags.c_contiguous or array.ndim == 1:  # within a row of one value there is no order
        return b"C"
    if flags.f_contiguous:
        return b"F"
    strides = [abs(stride) for stride in array.strides]
    is_fortran = strides == sorted(strides) and len(set(strides)) > 1
    return b"SF" if is_fortran else b"SC"


def _vectors_of(numpy: Any, array: Any) -> Vectors:
    if array.ndim == 0:
        raise NotCacheableError("an array without axes has no rows")
    if type(array) is numpy.ndarray:
        return array_vectors(numpy, array)
    if type(array) is numpy.ma.MaskedArray:
        return _masked_vectors(numpy, array)
    raise NotCacheableError(
        f"an array of {described(type(array))} is not cached by row; pass numpy.asarray(it)"
    )


def array_vectors(numpy: Any, array: Any) -> Vectors:
    """Return the columns of a plain array with at least one axis."""
    shape = str(array.shape[1:]).encode()
    if array.dtype.kind == "O":
        flat = array.reshape(len(array), -1) if array.size else array.reshape(len(array), 0)
        matrices = [objects(numpy, column.tolist()) for column in flat.T]
        return Vectors(b"O%b%b" % (shape, memory_order(array)), matrices)
    kind = b"%b%b%b" % (dtype_form(numpy, array.dtype), shape, memory_order(array))
    return Vectors(kind, numbers(numpy, array))


def _masked_vectors(numpy: Any, array: Any) -> Vectors:
    """Return the columns of a masked array, with what is under the mask: a model may read it."""
    kind, matrices = array_vectors(numpy, array.data)
    # An empty part has the fill value, whether there is a mask, and no attributes.
    shared = INPUTS.encode(array[:0])
    mask = numbers(numpy, numpy.ma.getmaskarray(array))
    return Vectors(b"M%b%b" % (shared, kind), [*matrices, *mask])

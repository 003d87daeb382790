"""A column of pandas whose values are Arrow's."""

from __future__ import annotations

import importlib
from typing import Any

from model_cache.errors import NotCacheableError
from model_cache.keys.canonical.identities import text
from model_cache.keys.tables.cells import numbers, objects
from model_cache.keys.tables.numpy_tables import Vectors


def arrow_vectors(numpy: Any, column: Any) -> Vectors:
    """Return the bytes of a column: of its physical values, and of which ones are missing."""
    pyarrow = importlib.import_module("pyarrow")  # loaded: it made the column
    compute = importlib.import_module("pyarrow.compute")
    array = pyarrow.array(column.array)
    if isinstance(array, pyarrow.ChunkedArray):
        array = array.combine_chunks()
    dtype, kinds = array.type, pyarrow.types
    kind = b"A" + text(str(dtype))
    missing = numbers(numpy, array.is_null().to_numpy(zero_copy_only=False))
    if kinds.is_string(dtype) or kinds.is_large_string(dtype):
        coded = array.dictionary_encode()
        slots = objects(numpy, [*coded.dictionary.to_pylist(), None])
        codes = compute.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False)
        return Vectors(kind, [slots[codes]])
    if kinds.is_binary(dtype) or kinds.is_large_binary(dtype) or kinds.is_decimal(dtype):
        return Vectors(kind, [objects(numpy, array.to_pylist())])
    if kinds.is_boolean(dtype):
        values = [compute.fill_null(array, False)]
    elif kinds.is_integer(dtype) or kinds.is_floating(dtype):
        values = [compute.fill_null(array, pyarrow.scalar(0).cast(dtype))]
    elif kinds.is_temporal(dtype) and dtype.bit_width in (32, 64):
        values = [array]
        if kinds.is_timestamp(dtype) and dtype.tz is not None:
            values.append(compute.local_timestamp(array))  # by the time zone database
        size = pyarrow.int32() if dtype.bit_width == 32 else pyarrow.int64()
        values = [compute.fill_null(each.view(size), 0) for each in values]
    else:
        name = str(dtype).partition("<")[0]  # without the names of a struct's fields
        raise NotCacheableError(f"a pandas column of Arrow's type {name} is not cached by row")
    plain = [each.to_numpy(zero_copy_only=False) for each in values]
    return Vectors(kind, [*missing, *(matrix for each in plain for matrix in numbers(numpy, each))])

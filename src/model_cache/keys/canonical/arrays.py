"""numpy arrays and scalars: their type, shape, memory layout and values.

This module does not import numpy; a process that has numpy values has already imported it.
"""

from __future__ import annotations

import functools
import struct
import sys
import types
from typing import Any

from model_cache.errors import NotCacheableError
from model_cache.keys.canonical.identities import counted, text
from model_cache.keys.canonical.leaves import Encode, integer

_TEXTS = frozenset([str, types.NoneType])


def loaded_numpy() -> Any:
    """Return numpy if the process has imported it; else None, and no value is numpy's."""
    return sys.modules.get("numpy")


def scalar_encoder(numpy: Any, cls: type) -> Encode | None:
    """Return the encoder of a scalar class; None if it is not one of numpy's own."""
    if cls.__module__ != "numpy":
        return None

    def encode(value: Any) -> bytes:
        dtype = value.dtype
        if dtype.type is not cls:
            raise NotCacheableError("a numpy scalar whose class does not match its dtype")
        return b"x%b%b" % (dtype_form(numpy, dtype), _data(numpy, value))

    return encode


def array_encoder(numpy: Any, encode_item: Encode, *, layout: bool) -> Encode:
    """Return the encoder of arrays.

    Args:
        numpy: the module.
        encode_item: the encoder of the items of arrays of objects.
        layout: whether to include the order of the values in memory, which affects the last
            digits of a sum.
    """

    def encode(value: Any) -> bytes:
        if value.dtype.kind == "O":
            return b"nO%b%b%b" % (
                str(value.shape).encode(),
                _layout(value) if layout else b"",
                _objects(value.ravel().tolist(), encode_item),
            )
        return b"n%b%b%b%b" % (
            dtype_form(numpy, value.dtype),
            str(value.shape).encode(),
            _layout(value) if layout else b"",
            _data(numpy, value),
        )

    return encode


def _objects(items: list[Any], encode_item: Encode) -> bytes:
    if not items or not _TEXTS.issuperset(map(type, items)):
        return encode_item(items)
    # A column of strings, packed: their lengths, then their characters.
    lengths = [-1 if item is None else len(item) for item in items]
    joined = text("".join(item for item in items if item is not None))
    return b"S%x;%b%b" % (len(items), struct.pack(f">{len(items)}q", *lengths), joined)


def _layout(array: Any) -> bytes:
    flags = array.flags
    if flags.c_contiguous:
        return b"C"
    if flags.f_contiguous:
        return b"F"
    # The stride of an axis of length one has no meaning.
    strides = [
        stride if size > 1 else 0 for stride, size in zip(array.strides, array.shape, strict=True)
    ]
    return b"S" + str(strides).encode()


def _data(numpy: Any, array: Any) -> bytes:
    data = b"".join(_parts(numpy, array))
    return b"%x:%b" % (len(data), data)


def _parts(numpy: Any, array: Any) -> list[bytes]:
    """Return the bytes of the values in C order, without padding between them."""
    dtype = array.dtype
    if dtype.names is not None:
        return [part for name in dtype.names for part in _parts(numpy, array[name])]
    if dtype.kind in "fc" and (padding := padding_of(numpy, dtype)):
        size = numpy.dtype(numpy.longdouble).itemsize
        raw = numpy.frombuffer(array.tobytes(), "u1").reshape(-1, size)
        is_big = dtype.str[0] == ">"
        return [(raw[:, padding:] if is_big else raw[:, : size - padding]).tobytes()]
    return [array.tobytes()]


def padding_of(numpy: Any, dtype: Any) -> int:
    """Return how many bytes of each number are padding: x86's long doubles have six."""
    if dtype.type not in (numpy.longdouble, numpy.clongdouble):
        return 0
    is_x87 = numpy.finfo(numpy.longdouble).nmant == 63
    return numpy.dtype(numpy.longdouble).itemsize - 10 if is_x87 else 0


def dtype_form(numpy: Any, dtype: Any) -> bytes:
    """Return the canonical bytes of a dtype."""
    if dtype.metadata is not None:
        raise NotCacheableError("a numpy dtype with metadata has no canonical form")
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return b"a" + dtype_form(numpy, base) + str(shape).encode()
    if dtype.names is None:
        return _simple_form(numpy, dtype.type, dtype.str)
    if dtype.type not in (numpy.void, numpy.record):
        raise _no_form(dtype.str)
    fields = []
    for name in dtype.names:
        field, offset, *title = dtype.fields[name]
        parts = (text(name), integer(offset), *map(_title, title), dtype_form(numpy, field))
        fields.append(counted(parts))
    return b"%b%d%x;%b" % (
        b"r" if dtype.type is numpy.record else b"v",
        dtype.isalignedstruct,
        dtype.itemsize,
        counted(fields),
    )


def _title(title: Any) -> bytes:
    if type(title) is not str:
        raise NotCacheableError("a numpy field whose title is not a str has no canonical form")
    return text(title)


@functools.lru_cache(256)  # not by dtype: int64 and longlong are equal
def _simple_form(numpy: Any, cls: type, described: str) -> bytes:
    if described[1] not in "biufcmMSUV" or cls.__module__ != "numpy":
        raise _no_form(described)
    # Two C types may have the same format in numpy but differ in name and promotion.
    is_usual = numpy.dtype(described).type is cls
    return (b"y" if is_usual else b"w") + text(described)


def _no_form(described: str) -> NotCacheableError:
    return NotCacheableError(f"a numpy value of dtype {described} has no canonical form")

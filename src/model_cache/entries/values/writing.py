"""Write values as bytes.

`msgpack` writes what it knows and hands everything else, by its exact type, to the functions here.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgpack

from model_cache.entries.refusals import not_storable
from model_cache.entries.values import arrays
from model_cache.entries.values.classes import Classes
from model_cache.entries.values.containers import CONTAINERS, DEEPEST, INSTANCE, REDUCED
from model_cache.entries.values.leaves import LEAVES
from model_cache.entries.values.structures import structure
from model_cache.keys.canonical.arrays import loaded_numpy
from model_cache.keys.canonical.foreign import reduction

Extension: TypeAlias = tuple[int, bytes]

# MessagePack would write these as something else, without asking.
_DISGUISED = frozenset([bytearray, memoryview, msgpack.ExtType, msgpack.Timestamp])
_MESSAGEPACKS = frozenset([list, dict])


class Writing:
    """Writes one value.

    Args:
        classes: learns the classes of instances; None for nothing to learn.
    """

    def __init__(self, classes: Classes | None) -> None:
        self._classes = classes
        self._depth = 0

    def dumps(self, value: Any) -> bytes:
        """Return a value as bytes."""
        if type(value) in _DISGUISED:
            value = _undisguised(value)
        data = self._packed(value)
        if type(value) in _MESSAGEPACKS and _has_disguised(value):
            data = self._packed(_undisguised(value))
        return data

    def _packed(self, value: Any) -> bytes:
        packed: bytes = msgpack.packb(
            value, default=self._default, strict_types=True, unicode_errors="surrogatepass"
        )
        return packed

    def _default(self, value: Any) -> msgpack.ExtType:
        if self._depth > DEEPEST:
            raise not_storable(type(value), f"it is nested more than {DEEPEST} levels deep")
        self._depth += 1
        try:
            return msgpack.ExtType(*self._extension(value, type(value)))
        finally:
            self._depth -= 1

    def _extension(self, value: Any, cls: type) -> Extension:
        if cls in LEAVES:
            code, write, _ = LEAVES[cls]
            return code, write(value)
        if cls in CONTAINERS:
            code, apart, _ = CONTAINERS[cls]
            return code, self.dumps(apart(value))
        numpy = loaded_numpy()
        if numpy is not None:
            if cls is numpy.ndarray:
                if value.dtype.hasobject:
                    return arrays.OBJECTS, self.dumps(arrays.objects(value))
                return arrays.ARRAY, arrays.array(value)
            if issubclass(cls, numpy.generic):
                return arrays.SCALAR, arrays.scalar(value)
        foreign = reduction(cls)
        if foreign is not None:
            return REDUCED, self.dumps([foreign.name, *foreign.parts(value)])
        form = structure(cls)
        if form is None:
            raise not_storable(cls)
        if self._classes is not None:
            self._classes.add(form)
        return INSTANCE, form.digest + form.write(value, self.dumps)


def _has_disguised(value: Any) -> bool:
    """Return whether a list or dict contains a value that MessagePack writes as another type."""
    if type(value) is dict:
        kinds = set(map(type, value.values())) | set(map(type, value))
        inside = value.values()
    else:
        kinds, inside = set(map(type, value)), value
    if kinds & _DISGUISED:
        return True
    if not kinds & _MESSAGEPACKS:
        return False
    return any(_has_disguised(item) for item in inside if type(item) in _MESSAGEPACKS)


def _undisguised(value: Any) -> Any:
    """Return a value with an extension type in place of each bytearray."""
    cls = type(value)
    if cls is list:
        return list(map(_undisguised, value))
    if cls is dict:
        return {_undisguised(key): _undisguised(item) for key, item in value.items()}
    if cls is bytearray:
        code, write, _ = LEAVES[cls]
        return msgpack.ExtType(code, write(value))
    if cls in _DISGUISED:
        raise not_storable(cls)
    return value

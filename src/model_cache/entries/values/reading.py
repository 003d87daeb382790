"""Read values from bytes, which may come from anyone.

MessagePack bounds every container by the length of the input. Extension types contain others, so
each level has its own hook, and the deepest one refuses: the depth is bounded without counting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import msgpack

from model_cache.entries.values import arrays
from model_cache.entries.values.containers import CONTAINERS, DEEPEST, INSTANCE, REDUCED, TUPLE
from model_cache.entries.values.foreign import rebuilt
from model_cache.entries.values.leaves import LEAVES

Reader: TypeAlias = Callable[[bytes], Any]
ReadInstance: TypeAlias = Callable[[bytes, Reader], Any]

_LEAVES: dict[int, Reader] = {code: read for code, _, read in LEAVES.values()}
_LEAVES |= {arrays.ARRAY: arrays.read_array, arrays.SCALAR: arrays.read_scalar}
_CONTAINERS = {code: together for code, _, together in CONTAINERS.values()}
_CONTAINERS |= {arrays.OBJECTS: arrays.read_objects, REDUCED: rebuilt}


def reader(read_instance: ReadInstance, level: int = 0) -> Reader:
    """Return what reads values.

    Args:
        read_instance: reads an instance of a class, from bytes and with what reads the values
            inside it.
        level: how many extension types are around the values.
    """
    inside: list[Reader] = []  # created at first use: most values have one level or two

    def load(data: bytes) -> Any:
        if not inside:
            if level >= DEEPEST:
                raise ValueError("nested too deeply")
            inside.append(reader(read_instance, level + 1))
        return inside[0](data)

    def hook(code: int, data: bytes) -> Any:
        read = _LEAVES.get(code)
        if read is not None:
            return read(data)
        if code == TUPLE:
            return tuple(load(data))
        if code == INSTANCE:
            return read_instance(data, load)
        return _CONTAINERS[code](load(data))

    unpackb = msgpack.unpackb

    def read(data: bytes) -> Any:
        return unpackb(data, strict_map_key=False, unicode_errors="surrogatepass", ext_hook=hook)

    return read

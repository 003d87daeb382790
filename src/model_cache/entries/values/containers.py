"""Values that contain other values, other than the lists and dicts of MessagePack.

Each type has a code, a function that takes an instance of exactly this type apart, and one that
puts the parts together again.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

DEEPEST = 32
"""How many extension types may be nested. Each takes 40 KB of the C stack while it is read."""

# The codes are part of the format, with those in `leaves` and `arrays`.
TUPLE = 32
REDUCED = 51  # a name, then the parts: pandas, polars, masked arrays
INSTANCE = 64  # the digest of a class, then the form of an instance


def _deque(parts: Any) -> deque[Any]:
    maximum, items = parts
    return deque(items, maximum)


CONTAINERS: dict[type, tuple[int, Callable[[Any], Any], Callable[[Any], Any]]] = {
    tuple: (TUPLE, list, tuple),
    set: (33, list, set),
    frozenset: (34, list, frozenset),
    deque: (35, lambda value: [value.maxlen, list(value)], _deque),
    OrderedDict: (36, lambda value: list(OrderedDict.items(value)), OrderedDict),
}

"""The codes of extension types, which are part of the format. Those of leaves are in `leaves`."""

from __future__ import annotations

TUPLE = 32
SET = 33
FROZENSET = 34
DEQUE = 35
ORDERED_DICT = 36
ARRAY = 48
SCALAR = 49
OBJECTS = 50  # an array of objects
REDUCED = 51  # a name, then the parts: pandas, polars, masked arrays
INSTANCE = 64  # the digest of a class, then the form of an instance

DEEPEST = 32
"""How many extension types may be nested. Each takes 40 KB of the C stack while it is read."""

"""Values of numpy.ma, pandas and polars: each reduces to a name and simpler parts.

None of these libraries is imported here; a process that has their values has imported them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from model_cache.errors import NotCacheableError
from model_cache.keys.canonical.arrays import loaded_numpy


class Reduction(NamedTuple):
    """How the instances of a class reduce to simpler values.

    Attributes:
        name: names the class, in keys and entries.
        parts: returns what an instance can be built from again.
        seen: returns what else a reader of the instance may see, such as the offsets of its time
            zone, which depend on the process; None for nothing.
    """

    name: str
    parts: Callable[[Any], tuple[Any, ...]]
    seen: Callable[[Any], Any] | None = None


def reduction(cls: type) -> Reduction | None:
    """Return how the instances of exactly this class reduce; None if it is of no such library."""
    library = cls.__module__.partition(".")[0]
    if library == "numpy":
        numpy = loaded_numpy()
        return None if numpy is None else _masked(numpy, cls)
    if library not in ("pandas", "polars") or sys.modules.get(library) is None:
        return None
    # Imported here, since most processes need neither.
    if library == "pandas":
        from model_cache.keys.canonical.pandas_values import pandas_reduction

        return pandas_reduction(sys.modules[library], cls)
    from model_cache.keys.canonical.polars_values import polars_reduction

    return polars_reduction(sys.modules[library], cls)


# What numpy itself puts into a masked array.
_OWN = frozenset(
    [
        "_mask",
        "_data",
        "_fill_value",
        "_hardmask",
        "_sharedmask",
        "_isfield",
        "_baseclass",
        "_optinfo",
        "_basedict",
    ]
)


def _masked(numpy: Any, cls: type) -> Reduction | None:
    if cls is type(numpy.ma.masked):
        return Reduction("numpy.ma.masked", lambda _: ())
    if cls is not numpy.ma.MaskedArray:
        return None

    def parts(value: Any) -> tuple[Any, ...]:
        if value.baseclass is not numpy.ndarray:
            raise NotCacheableError("a masked array of a subclass has no canonical form")
        if vars(value).keys() - _OWN or vars(value).get("_optinfo"):
            raise NotCacheableError("a masked array with attributes has no canonical form")
        mask = None if value.mask is numpy.ma.nomask else numpy.asarray(value.mask)
        fill = numpy.asarray(value.fill_value, value.dtype)
        return numpy.ndarray.view(value, numpy.ndarray), mask, fill, bool(value.hardmask)

    return Reduction("numpy.ma.MaskedArray", parts)

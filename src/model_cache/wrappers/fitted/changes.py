"""Notice that an estimator has changed: what `fit` and `set_params` do, they do by new attributes.

This is cheap enough for each prediction. A change inside an array is not seen.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from model_cache.keys.canonical.arrays import loaded_numpy
from model_cache.wrappers.fitted.libraries import without_derived


def attributes_of(estimator: Any, depth: int = 4) -> Iterator[Any]:
    """Yield the attributes of an estimator and of those inside it, which `fit` replaces."""
    held = without_derived(type(estimator), getattr(estimator, "__dict__", {})).values()
    for value in (*held, *_in_slots(estimator)):
        yield value
        if depth:
            yield from _inside(value, depth - 1)


def _in_slots(estimator: Any) -> Iterator[Any]:
    cls: type = type(estimator)
    for get in _slots_of(cls):
        with contextlib.suppress(AttributeError):  # it is empty
            yield get(estimator)


@functools.lru_cache(1024)
def _slots_of(cls: type) -> tuple[Callable[[Any], Any], ...]:
    return tuple(
        member.__get__
        for base in cls.__mro__
        if "__slots__" in vars(base)  # a class written in C has members that are new at each read
        for member in vars(base).values()
        if isinstance(member, types.MemberDescriptorType)
    )


def _inside(value: Any, depth: int) -> Iterator[Any]:
    if isinstance(value, (list, tuple)) and len(value) < 100:
        for each in value:
            yield from _inside(each, depth)
    elif hasattr(value, "get_params") and not isinstance(value, type):
        yield from attributes_of(value, depth)


def are_same(before: Sequence[Any], now: Iterator[Any]) -> bool:
    """Return whether attributes are those that there were before."""
    current = list(now)
    return len(before) == len(current) and all(map(_is, before, current))


def _is(one: Any, other: Any) -> bool:
    """Return whether a value is the same one, or as good as that.

    Some estimators replace short lists and arrays by equal ones whenever they predict.
    """
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_is_item, one, other))
    numpy = loaded_numpy()
    if numpy is None or type(one) is not numpy.ndarray:
        return False
    kinds = [(each.dtype, each.shape, each.strides) for each in (one, other)]
    return kinds[0] == kinds[1] and all(map(_is_item, one.flat, other.flat))


def _is_item(one: Any, other: Any) -> bool:
    return one is other or (
        type(one) is type(other) and isinstance(one, (str, int)) and bool(one == other)
    )

"""How two predictions for one input differ: where, and by how much. Never by which values."""

from __future__ import annotations

import math
from typing import Any

from pydantic import BaseModel

from model_cache.entries.parts import parts
from model_cache.errors import NotCacheableError
from model_cache.interruptions import reraise_interruption
from model_cache.keys.canonical import PREDICTIONS

_MOST_FIELDS = 10


def differing_fields(one: Any, other: Any) -> tuple[str, ...]:
    """Return the paths of the parts that differ, at most ten; none for values without parts."""
    ours, theirs = parts(one), parts(other)
    names = dict.fromkeys((*ours, *theirs))
    differing = [
        name.removeprefix(".")
        for name in names
        if not (name in ours and name in theirs and _are_equal(ours[name], theirs[name]))
    ]
    return tuple(differing[:_MOST_FIELDS])


def relative_difference(one: Any, other: Any) -> float:
    """Return by which share of their size the floats in two values differ at most.

    Infinity if anything else differs: types, texts, whole numbers, lengths. The size of the floats
    in one list is that of the largest, since the others are rounded like it.
    """
    if _are_equal(one, other):
        return 0.0
    if type(one) is not type(other):
        return math.inf
    if isinstance(one, float):
        return _of_floats([one], [other])
    if isinstance(one, list) and {type(each) for each in (*one, *other)} == {float}:
        return _of_floats(one, other)
    numbers = _listed(one), _listed(other)
    if numbers != (None, None):
        return _of_arrays(one, other, *numbers)
    if isinstance(one, dict) and not _are_equal(list(one), list(other)):
        return math.inf
    ours, theirs = parts(one), parts(other)
    if not ours or list(ours) != list(theirs):
        return math.inf
    return max(relative_difference(ours[name], theirs[name]) for name in ours)


def largest_difference(one: Any, other: Any) -> float:
    """Return the largest difference between the numbers of two predictions."""
    if isinstance(one, BaseModel) and isinstance(other, BaseModel):
        return largest_difference(dict(one), dict(other))
    if isinstance(one, dict) and isinstance(other, dict):
        return max((largest_difference(one[name], other.get(name)) for name in one), default=0.0)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        pairs = zip(one, other, strict=False)
        return max((largest_difference(first, second) for first, second in pairs), default=0.0)
    if (ours := _listed(one)) is not None and (theirs := _listed(other)) is not None:
        return largest_difference(ours, theirs)
    try:
        difference = abs(float(one) - float(other))
    except Exception as error:  # not numbers, or too large
        reraise_interruption(error)
        return 0.0
    return difference if math.isfinite(difference) else 0.0


def _of_floats(ours: list[float], theirs: list[float]) -> float:
    if len(ours) != len(theirs):
        return math.inf
    pairs = [pair for pair in zip(ours, theirs, strict=True) if not _are_equal(*pair)]
    largest = max(abs(each) for each in (*ours, *theirs))
    difference = max(abs(one - other) for one, other in pairs)
    return difference / largest if math.isfinite(largest + difference) else math.inf


def _of_arrays(one: Any, other: Any, ours: Any, theirs: Any) -> float:
    same_form = [getattr(one, name, None) for name in ("shape", "dtype")] == [
        getattr(other, name, None) for name in ("shape", "dtype")
    ]
    return relative_difference(ours, theirs) if same_form else math.inf


def _listed(value: Any) -> Any | None:
    """Return the numbers of an array, a Series or a DataFrame as lists; None for others."""
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    return value.tolist() if hasattr(value, "tolist") else None


def _are_equal(one: Any, other: Any) -> bool:
    try:
        return PREDICTIONS.encode(one) == PREDICTIONS.encode(other)
    except NotCacheableError:
        return False

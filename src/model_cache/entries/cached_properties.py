"""Cached properties of a prediction, which a log line, a repr or a dump may have computed.

They are not stored; a hit computes them on access. That is only equivalent if computing them again
returns the same value.
"""

from __future__ import annotations

import inspect
from functools import cached_property
from typing import Any

from model_cache.entries.parts import parts
from model_cache.keys.canonical import PREDICTIONS
from model_cache.keys.canonical.leaves import LEAVES


def settle(prediction: Any, restored: Any) -> bool:
    """Compute exactly those cached properties of `restored` that `prediction` has computed.

    `prediction` is not changed. A property that only `restored` has computed, by a validator for
    example, is cleared if computing it again returns the same value.

    Args:
        prediction: the model's prediction.
        restored: the decoded copy, used only for this comparison.

    Returns:
        Whether `restored` was changed.
    """
    if type(prediction) is not type(restored):
        return False
    changed = False
    filled, again = _filled(prediction), _filled(restored)
    for name in filled - again:
        getattr(restored, name)
        changed = True
    for name in again - filled:
        found = vars(restored).pop(name)
        if PREDICTIONS.encode(getattr(restored, name)) != PREDICTIONS.encode(found):
            return False
        vars(restored).pop(name, None)
        changed = True
    if _is_plain(prediction):
        return changed
    inside = parts(restored)
    for path, part in parts(prediction).items():
        if path in inside and type(part) not in LEAVES:
            changed |= settle(part, inside[path])
    return changed


def _is_plain(value: Any) -> bool:
    """Return whether nothing inside a value can have a cached property."""
    if type(value) is dict:
        value = value.values()
    elif type(value) not in (list, tuple):
        return False
    return all(kind in LEAVES for kind in set(map(type, value)))


def _filled(value: Any) -> set[str]:
    state = getattr(value, "__dict__", None)
    if not isinstance(state, dict):
        return set()
    return {name for name in state if is_cached_property(type(value), name)}


def is_cached_property(cls: type, name: str) -> bool:
    """Return whether a class has a cached property of that name."""
    return isinstance(inspect.getattr_static(cls, name, None), cached_property)

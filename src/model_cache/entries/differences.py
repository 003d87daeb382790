"""Explain to a model's author why a prediction can't be stored.

An explanation says where (`points[3].when`), what is wrong, and what to do. It contains types,
never values.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pydantic_core
from pydantic import BaseModel, ValidationError

from model_cache.entries.cached_properties import is_cached_property
from model_cache.entries.parts import parts
from model_cache.entries.values import NotStorableError, Result, dumps
from model_cache.errors import NotCacheableError
from model_cache.interruptions import reraise_interruption
from model_cache.keys.canonical import PREDICTIONS

# Longer paths are of no use, and each step costs a comparison.
_MAX_DEPTH = 40


def difference(prediction: Any, restored: Any) -> str:
    """Return how a prediction differs from its decoded copy."""
    path, words = _difference(_whole(prediction), _whole(restored)) or ("", "it changes")
    return _at(path, words)


def not_comparable(prediction: Any, error: NotCacheableError) -> str:
    """Return which part of a prediction has no canonical form."""
    path, _, nearest = _innermost(_whole(prediction), PREDICTIONS.encode) or ("", None, error)
    reason = nearest.reason if isinstance(nearest, NotCacheableError) else error.reason
    reason = reason.partition("; register one")[0]  # which would not help to decode it
    of_what = "can be stored" if type(prediction) is Result else "pydantic can dump and load"
    return _at(path, f"{reason}; return a type that {of_what}, such as a list")


def not_storable(result: Result, error: Exception) -> str:
    """Return which part of a function's result can't be stored."""
    path, part, nearest = _innermost(result.value, dumps) or ("", result.value, error)
    if isinstance(nearest, NotStorableError):
        return _at(path, str(nearest))
    raised = type(nearest).__name__
    return _at(path, f"storing a value of type {_name(type(part))} raised {raised}")


def not_writable(prediction: Any, error: Exception) -> str:
    """Return which part of a prediction could not be dumped."""
    found = _innermost(prediction, pydantic_core.to_json)
    if found is None:
        return f"dumping and loading it raised {type(error).__name__}"
    path, part, _ = found
    advice = "; return a list instead" if hasattr(part, "tolist") else ""
    return _at(path, f"a {_name(type(part))} can't be dumped ({type(error).__name__}){advice}")


def not_readable(error: Exception) -> str:
    """Return which part of an entry the schema rejects; "" if it failed for another reason."""
    if not isinstance(error, ValidationError):
        return ""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
    advice = "; a field with exclude=True is not stored" if first["type"] == "missing" else ""
    return _at(path, f"the output schema rejects it when it is loaded ({first['type']}){advice}")


def _whole(prediction: Any) -> Any:
    """Return a prediction, or what a function returned."""
    return prediction.value if type(prediction) is Result else prediction


def _at(path: str, words: str) -> str:
    return f"{path.removeprefix('.')}: {words}" if path else words


def _innermost(
    value: Any, function: Callable[[Any], object], path: str = "", depth: int = 0
) -> tuple[str, Any, Exception] | None:
    """Return the innermost part for which a function raises, with its path and the exception."""
    try:
        function(value)
    except Exception as error:
        reraise_interruption(error)
        for step, part in parts(value).items() if depth < _MAX_DEPTH else ():
            if (found := _innermost(part, function, path + step, depth + 1)) is not None:
                return found
        return path, value, error
    return None


def _difference(before: Any, after: Any, path: str = "", depth: int = 0) -> tuple[str, str] | None:
    """Return the path of the first difference and its description; None if there is none."""
    if PREDICTIONS.encode(before) == PREDICTIONS.encode(after):
        return None
    if depth >= _MAX_DEPTH:
        return path, "something inside it changes"
    if type(before) is not type(after):
        given, got = _name(type(before)), _name(type(after))
        advice = f"declare the field as {given}, or return {got}"
        return path, f"its type changes from {given} to {got}; {advice}"
    ours, theirs = parts(before), parts(after)
    for step, part in ours.items():
        if step not in theirs:
            why = _not_stored(type(before), step)
            return path + step, why or "it is lost; only fields are stored"
        if found := _difference(part, theirs[step], path + step, depth + 1):
            why = _not_stored(type(before), step)
            return (path + step, why) if why else found
    return path, _own_difference(before, after)


def _not_stored(cls: type, step: str) -> str | None:
    """Return why something inside an instance of a class is never stored."""
    name = step.removeprefix(".")
    if is_cached_property(cls, name):
        return "a cached property whose value differs when it is computed again"
    if not issubclass(cls, BaseModel):
        return None
    if name in cls.__private_attributes__:
        return "a private attribute is not stored; make it a field"
    if name in cls.model_fields and cls.model_fields[name].exclude is True:
        return "a field with exclude=True is not stored"
    return None


def _own_difference(before: Any, after: Any) -> str:
    """Return how two values of one type differ, not counting the values inside them."""
    if isinstance(before, (dt.datetime, dt.time)) and before.replace(tzinfo=None) == after.replace(
        tzinfo=None
    ):
        zones = f"from {_zone(before)} to {_zone(after)}"
        return f"its time zone changes {zones}; return it in UTC"
    if isinstance(before, BaseModel) and before.model_fields_set != after.model_fields_set:
        names = sorted(before.model_fields_set ^ after.model_fields_set)
        return f"these fields change between set and unset: {', '.join(names)}"
    if isinstance(before, dict) and len(before) == len(after):
        return "its keys or their order change"
    sizes = [len(value) if hasattr(value, "__len__") else None for value in (before, after)]
    if sizes[0] != sizes[1]:
        return f"its length changes from {sizes[0]} to {sizes[1]}"
    return "its value changes; does a validator or a serializer of the field change it?"


def _zone(value: dt.datetime | dt.time) -> str:
    zone = value.tzinfo
    return "none" if zone is None else f"{_name(type(zone))} {zone}"


def _name(cls: type) -> str:
    return (
        cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    )

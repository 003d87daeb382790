"""Reduced precision: inputs that differ by less than a rounding share a prediction.

The rounding works on a copy, and the model sees the copy too, so what is cached does not
depend on which request came first. Keys and entries are unknown here.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from decimal import Context, Decimal
from functools import cached_property
from typing import Any, TypeAlias

from pydantic import BaseModel

from model_cache.canonical import INPUTS

Rules: TypeAlias = "Mapping[str, int | Rules]"
"""A field's name leads to the number of places, or to the rules for the fields inside."""


class Rounder:
    """Rounds the numbers of an input.

    Args:
        rules: the fields to round, or a number of places for every float and Decimal.
    """

    def __init__(self, rules: Rules | int) -> None:
        self._rules = rules

    def __call__(self, data: BaseModel) -> BaseModel:
        """Return `data` rounded: a copy, or `data` itself if nothing changes.

        It is `data` itself, too, if the rounded input would not be a valid one.
        """
        try:
            rounded = _round_inside(data, self._rules)
        except Exception:  # not valid any more, or a copy that the class does not allow
            return data
        return rounded if isinstance(rounded, BaseModel) else data


class _InvalidError(Exception):
    """The rounded value is not one that the schema lets through as it is."""


def _round_inside(value: Any, rules: Rules | int) -> Any:
    """Round below `value`: by field if the rules name fields, else every float in it."""
    if isinstance(value, BaseModel) or (is_dataclass(value) and not isinstance(value, type)):
        return _round_structure(value, rules)
    if isinstance(rules, int):
        return _round(value, rules, lambda item: _round_inside(item, rules))
    return _map(value, lambda item: _round_inside(item, rules))


def _round_structure(value: Any, rules: Rules | int) -> Any:
    state: dict[str, Any] = getattr(value, "__dict__", {})
    changes = {}
    for name in state if isinstance(rules, int) else rules.keys() & state.keys():
        before = state[name]
        if isinstance(rules, int):
            after = _round_inside(before, rules)
        else:
            rule = rules[name]
            after = (
                _round_named(before, rule) if isinstance(rule, int) else _round_inside(before, rule)
            )
        if after is not before:
            changes[name] = after
    return _changed(value, changes) if changes else value


def _round_named(value: Any, places: int) -> Any:
    """Round a field that the user named: its ints, too, if places are negative."""
    if type(value) is int:
        return round(value, places) if places < 0 else value
    return _round(value, places, lambda item: _round_named(item, places))


def _round(value: Any, places: int, inside: Callable[[Any], Any]) -> Any:
    if type(value) is float:
        return _round_float(value, places)
    if type(value) is Decimal:
        return _round_decimal(value, places)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.floating)):
        return _round_array(numpy, value, places)
    return _map(value, inside)


def _round_float(value: float, places: int) -> float:
    if not math.isfinite(value):
        return value
    try:
        rounded = round(value, places) + 0.0  # -0.0 becomes 0.0
    except OverflowError as error:  # the largest floats, to a negative number of places
        raise _InvalidError from error
    same = rounded == value and math.copysign(1.0, rounded) == math.copysign(1.0, value)
    return value if same else rounded


def _round_decimal(value: Decimal, places: int) -> Decimal:
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or exponent >= -places:
        return value.copy_abs() if value.is_signed() and not value else value
    # A context of its own: the thread's might have too few digits, or traps.
    digits = max(1, value.adjusted() + places + 2)
    rounded = value.quantize(Decimal((0, (1,), -places)), context=Context(prec=digits))
    return rounded if rounded else rounded.copy_abs()


def _round_array(numpy: Any, value: Any, places: int) -> Any:
    if value.dtype.kind not in "f" and not (value.dtype.kind in "iu" and places < 0):
        return value
    rounded = numpy.round(value, places) + value.dtype.type(0)
    return value if value.tobytes() == rounded.tobytes() else rounded


def _map(value: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to what a container holds; the same container if nothing changes."""
    if type(value) is dict:
        items = [function(item) for item in value.values()]
        same = all(new is old for new, old in zip(items, value.values(), strict=True))
        return value if same else dict(zip(value, items, strict=True))
    if type(value) not in (list, tuple, set, frozenset):
        return value
    items = [function(item) for item in value]
    same = all(new is old for new, old in zip(items, value, strict=True))
    return value if same else type(value)(items)


def _changed(value: Any, changes: dict[str, Any]) -> Any:
    """Return a copy with other values for some fields, if the class would accept them so."""
    cls = type(value)
    # BaseModel's own: model_copy(update=...) would add to model_fields_set.
    changed = BaseModel.__copy__(value) if isinstance(value, BaseModel) else copy.copy(value)
    state = changed.__dict__
    state.update(changes)
    for name in [name for name in state if isinstance(getattr(cls, name, None), cached_property)]:
        del state[name]  # computed from the values before
    validator = getattr(cls, "__pydantic_validator__", None)
    if validator is not None:
        _check(validator, changed)
    return changed


def _check(validator: Any, changed: Any) -> None:
    state = dict(changed.__dict__)
    extra = getattr(changed, "__pydantic_extra__", None) or {}
    is_root = getattr(type(changed), "__pydantic_root_model__", False)
    raw = state["root"] if is_root else {**state, **extra}
    try:
        validated = validator.validate_python(raw, by_alias=False, by_name=True)
        same = INPUTS.encode(validated.__dict__) == INPUTS.encode(state)
        same = same and INPUTS.encode(validated.__pydantic_extra__ or {}) == INPUTS.encode(extra)
    except Exception as error:  # whatever a validator of the user's raises
        raise _InvalidError from error
    if not same:
        raise _InvalidError

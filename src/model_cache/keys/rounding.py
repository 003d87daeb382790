"""Reduced precision: inputs that round to the same values share a prediction.

Rounding works on a copy of the input. The model receives the rounded copy too, so entries do not
depend on which request came first.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from enum import Enum
from functools import cached_property
from typing import Any, TypeAlias

from pydantic import BaseModel

from model_cache import pydantic_attributes
from model_cache.errors import NotCacheableError
from model_cache.interruptions import reraise_interruption
from model_cache.keys.canonical import INPUTS
from model_cache.keys.canonical.arrays import loaded_numpy
from model_cache.keys.canonical.attributes import state_reader

Rules: TypeAlias = "Mapping[str, int | Rules]"
"""Maps a field's name to a number of places, or to the rules for its own fields."""


class Rounder:
    """Rounds the numbers of an input.

    Args:
        rules: the fields to round, or a number of places for every float and Decimal.
    """

    def __init__(self, rules: Rules | int) -> None:
        self._rules = rules

    def __call__(self, data: BaseModel) -> BaseModel:
        """Return a rounded copy of `data`.

        Returns `data` itself if nothing changes, or if the rounded input would not be valid.
        """
        try:
            rounded = _round_inside(data, self._rules)
        except Exception as error:  # no longer valid, or the class can't be copied
            reraise_interruption(error)
            return data
        return rounded if isinstance(rounded, BaseModel) else data


class _InvalidError(Exception):
    """The schema rejects or changes the rounded value."""


def _round_inside(value: Any, rules: Rules | int) -> Any:
    """Round inside `value`: by field if the rules name fields, else every float."""
    if isinstance(value, BaseModel) or (
        dataclasses.is_dataclass(value) and not isinstance(value, type)
    ):
        return _round_structure(value, rules)
    if isinstance(rules, int):
        return _round(value, rules, lambda item: _round_inside(item, rules))
    return _map(value, lambda item: _round_inside(item, rules))


def _round_structure(value: Any, rules: Rules | int) -> Any:
    names = type(value).model_fields.keys() if isinstance(value, BaseModel) else _fields(value)
    changes = {}
    for name in names if isinstance(rules, int) else rules.keys() & names:
        before = getattr(value, name, None)
        if isinstance(rules, int):
            after = _round_inside(before, rules)
        else:
            rule = rules[name]
            after = (
                _round_named(before, rule) if isinstance(rule, int) else _round_inside(before, rule)
            )
        if after is not before:
            changes[name] = after
    extra = pydantic_attributes.extra(value)
    more = _map(extra, lambda item: _round_inside(item, rules)) if isinstance(rules, int) else extra
    if not changes and more is extra:
        return value
    if isinstance(value, BaseModel):
        return _changed_model(value, changes, more)
    return _changed_dataclass(value, changes)


def _round_named(value: Any, places: int) -> Any:
    """Round a field that the user named, including its ints if `places` is negative."""
    if type(value) is int:
        return round(value, places) if places < 0 else value
    return _round(value, places, lambda item: _round_named(item, places))


def _round(value: Any, places: int, inside: Callable[[Any], Any]) -> Any:
    if type(value) is float:
        return _round_float(value, places)
    if type(value) is Decimal:
        return _round_decimal(value, places)
    numpy = loaded_numpy()
    if numpy is not None and (type(value) is numpy.ndarray or isinstance(value, numpy.number)):
        return _round_array(numpy, value, places)
    return _map(value, inside)


def _round_float(value: float, places: int) -> float:
    if not math.isfinite(value):
        return value
    try:
        rounded = round(value, places) + 0.0  # -0.0 becomes 0.0
    except OverflowError as error:  # very large floats with negative places
        raise _InvalidError from error
    same = rounded == value and math.copysign(1.0, rounded) == math.copysign(1.0, value)
    return value if same else rounded


def _round_decimal(value: Decimal, places: int) -> Decimal:
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or exponent >= -places:
        return value.copy_abs() if value.is_signed() and not value else value
    # With its own decimal context, independent of the thread's and the default one.
    context = Context(
        prec=max(1, value.adjusted() + places + 2),
        rounding=ROUND_HALF_EVEN,
        Emin=MIN_EMIN,
        Emax=MAX_EMAX,
        capitals=1,
        clamp=0,
        flags=[],
        traps=[InvalidOperation],
    )
    rounded = value.quantize(Decimal((0, (1,), -places)), context=context)
    return rounded if rounded else rounded.copy_abs()


def _round_array(numpy: Any, value: Any, places: int) -> Any:
    if value.dtype.kind in "iu" and places < 0:
        return _round_whole_array(numpy, value, places)
    if value.dtype.kind != "f":
        return value
    with numpy.errstate(all="ignore"):
        rounded = numpy.round(value, places) + value.dtype.type(0)
        # Rounding multiplies first, which can overflow.
        rounded = numpy.where(numpy.isfinite(rounded), rounded, value).astype(value.dtype)
    if value.tobytes() == rounded.tobytes():
        return value
    return rounded if isinstance(value, numpy.ndarray) else rounded[()]


def _round_whole_array(numpy: Any, value: Any, places: int) -> Any:
    """Round with Python ints: numpy's would wrap around (255 to 4) or convert to float."""
    limits = numpy.iinfo(value.dtype)
    items = [
        rounded if limits.min <= (rounded := round(item, places)) <= limits.max else item
        for item in numpy.ravel(value).tolist()
    ]
    rounded = numpy.array(items, dtype=value.dtype).reshape(value.shape)
    return rounded if isinstance(value, numpy.ndarray) else rounded[()]


def _map(value: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to a container's items; return the same container if nothing changes."""
    cls = type(value)
    if cls is dict:
        items = [function(item) for item in value.values()]
        same = all(new is old for new, old in zip(items, value.values(), strict=True))
        return value if same else dict(zip(value, items, strict=True))
    is_named = hasattr(cls, "_make") and not hasattr(value, "__dict__")
    if cls not in (list, tuple, set, frozenset, deque) and not is_named:
        return value
    items = [function(item) for item in value]
    if all(new is old for new, old in zip(items, value, strict=True)):
        return value
    if cls is deque:
        return deque(items, value.maxlen)
    return cls._make(items) if is_named else cls(items)


def _changed_model(value: BaseModel, changes: dict[str, Any], extra: dict[str, Any]) -> BaseModel:
    """Return a copy with some fields changed, if validation leaves these values unchanged."""
    cls = type(value)
    # BaseModel's own: model_copy(update=...) would add to model_fields_set.
    changed = BaseModel.__copy__(value)
    for name, item in state_reader(cls)(value).items():
        if name not in changed.__dict__:  # in a slot, which the copy lacks
            object.__setattr__(changed, name, item)
    state = changed.__dict__
    state.update(changes)
    if extra:
        pydantic_attributes.set_extra(changed, extra)
    for name in [name for name in state if isinstance(getattr(cls, name, None), cached_property)]:
        del state[name]  # computed from the old values
    # Copied, since a validator may modify its input.
    given = {**state, **extra}
    given = {name: _copied(item) for name, item in given.items()}
    raw = given["root"] if pydantic_attributes.is_root_model(cls) else given
    validate = pydantic_attributes.validator(cls).validate_python
    validated = validate(raw, by_alias=False, by_name=True)
    _check_same(validated.__dict__, state, given)
    _check_same(pydantic_attributes.extra(validated), extra, given)
    # Often derived from the fields; then they would still reflect the old values.
    private = pydantic_attributes.private
    _check_same(private(validated), private(changed), {})
    return changed


def _changed_dataclass(value: Any, changes: dict[str, Any]) -> Any:
    """Return a new instance, created by the class's constructor."""
    read = state_reader(type(value))
    before, fields = read(value), _fields(value)
    expected = {**before, **changes}
    given = {name: _copied(expected[name]) for name in fields}
    changed = dataclasses.replace(value, **given)
    unchanged = dataclasses.replace(value, **{name: _copied(before[name]) for name in fields})
    made, remade = read(changed), read(unchanged)
    _check_same(_chosen(made, fields), _chosen(expected, fields), given)
    # Other attributes must be those the class itself computes, not ones set by hand.
    others = before.keys() - fields
    _check_same(_chosen(remade, remade.keys() - fields), _chosen(before, others), {})
    return changed


def _fields(value: Any) -> frozenset[str]:
    return frozenset(field.name for field in dataclasses.fields(value))


def _chosen(state: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: state[name] for name in names}


def _check_same(
    made: Mapping[str, Any], expected: Mapping[str, Any], given: Mapping[str, Any]
) -> None:
    """Raise unless validation returned the expected values."""
    if made.keys() != expected.keys():
        raise _InvalidError
    for name, item in made.items():
        if item is expected[name]:
            continue  # anything mutable was copied before
        try:
            same = INPUTS.encode(item) == INPUTS.encode(expected[name])
        except NotCacheableError:
            same = item is given.get(name)  # passed through unchanged
        if not same:
            raise _InvalidError


def _copied(value: Any) -> Any:
    """Return a copy, since a validator may modify its input."""
    if isinstance(value, (str, int, float, Decimal, Enum, bytes, type(None))):
        return value
    try:
        return copy.deepcopy(value)
    except Exception as error:  # a handle, a lock
        reraise_interruption(error)
        return value

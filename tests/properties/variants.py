"""Copies of a value, and near-copies."""

from __future__ import annotations

import collections
import copy
import dataclasses
import datetime as dt
import itertools
import pathlib
import random
import struct
import zoneinfo
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any

import numpy as np
import pydantic_core
from pydantic import BaseModel, SecretStr

from tests.catalogue import moments, subclasses
from tests.properties.pictures import slots


def rebuilt(value: Any) -> Any:
    """Return an equal value made anew, its parts put together in another order."""
    cls: Any = type(value)
    if isinstance(value, BaseModel):
        made = cls.__new__(cls)
        extra, private = value.__pydantic_extra__, value.__pydantic_private__
        parts = {"__dict__": _backwards(vars(value)), **_backwards(slots(value))}
        parts["__pydantic_fields_set__"] = set(value.__pydantic_fields_set__)
        if not cls.__pydantic_root_model__:
            parts["__pydantic_extra__"] = extra and {name: rebuilt(extra[name]) for name in extra}
            parts["__pydantic_private__"] = private and _backwards(private)
        for name, part in parts.items():
            object.__setattr__(made, name, part)
        return made
    if dataclasses.is_dataclass(value):
        made = object.__new__(cls)
        for name, item in _backwards({**getattr(value, "__dict__", {}), **slots(value)}).items():
            object.__setattr__(made, name, item)
        return made
    if cls in (list, tuple):
        return cls(map(rebuilt, value))
    if cls in (set, frozenset):
        return cls(reversed([rebuilt(item) for item in value]))
    if cls is dict:
        return {rebuilt(name): rebuilt(item) for name, item in value.items()}
    if cls is str:
        return "".join(list(value))
    if cls is float:
        return struct.unpack("d", struct.pack("d", value))[0]
    if cls is np.ndarray:
        contiguous = value.flags.c_contiguous or value.flags.f_contiguous
        return value.copy(order="A") if contiguous else value[...]
    return copy.deepcopy(value)


def _backwards(named: dict[str, Any]) -> dict[str, Any]:
    return {name: rebuilt(named[name]) for name in reversed(named)}


def revalidated(value: BaseModel) -> BaseModel | None:
    fields = {**vars(value), **(value.__pydantic_extra__ or {})}
    try:
        return type(value).model_validate(
            fields["root"] if type(value).__pydantic_root_model__ else fields,
            by_alias=False,
            by_name=True,
        )
    except ValueError:
        return None


def nearly(value: Any, chance: random.Random) -> Iterator[Any]:
    """Yield values that look like this one, some of them equal to it, most of them not."""
    for attempt in _ATTEMPTS:
        with suppress(Exception):
            yield attempt(value)
    if isinstance(value, BaseModel):
        yield from mutants(value, chance)
    elif dataclasses.is_dataclass(value):
        yield {**getattr(value, "__dict__", {}), **slots(value)}
        for field in dataclasses.fields(value):
            made = copy.copy(value)
            for near in (None, [getattr(value, field.name)], str(getattr(value, field.name))):
                object.__setattr__(made, field.name, near)
                yield copy.copy(made)
    elif type(value) in (list, tuple, dict) and value:
        place = next(iter(value)) if isinstance(value, dict) else 0
        for near in nearly(value[place], chance):
            varied = dict(value) if isinstance(value, dict) else list(value)
            varied[place] = near
            yield type(value)(varied)


def _sized(value: Any) -> Any:
    if not hasattr(value, "__len__"):  # an IP network yields up to 2**128 addresses
        raise TypeError
    return value


_ATTEMPTS: list[Callable[[Any], Any]] = [
    lambda value: None,
    lambda value: 0,
    str,
    repr,
    int,
    float,
    bool,
    Decimal,
    *(
        (lambda value, cls=cls: cls(_sized(value)))
        for cls in (list, tuple, set, frozenset, dict, collections.deque, subclasses.Rows)
    ),
    lambda value: bytearray(b"" + value),
    collections.OrderedDict,
    lambda value: collections.defaultdict(int, value),
    np.array,
    np.float64,
    np.int64,
    np.str_,
    SecretStr,
    subclasses.Token,
    subclasses.Metres,
    subclasses.Count,
    subclasses.Options,
    lambda value: -value,
    lambda value: value + 1,
    lambda value: value + "\0",
    lambda value: value.encode("utf-8", "surrogatepass"),
    lambda value: value.decode("latin-1"),
    lambda value: type(value)(reversed(value)),
    lambda value: dict(reversed(value.items())),
    lambda value: value[1:],
    lambda value: [value],
    lambda value: (value,),
    lambda value: {"root": value},
    lambda value: value.value,
    lambda value: value.get_secret_value(),
    lambda value: value.replace(fold=1 - value.fold),
    lambda value: value.replace(tzinfo=dt.UTC),
    lambda value: value.replace(tzinfo=dt.timezone(dt.timedelta(0), "mine")),
    lambda value: value.replace(tzinfo=dt.timezone(value.utcoffset())),
    lambda value: value.replace(tzinfo=pydantic_core.TzInfo(value.utcoffset().total_seconds())),
    lambda value: value.replace(tzinfo=moments.berlin),
    lambda value: value.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Paris")),
    lambda value: value.date(),
    lambda value: value.isoformat(),
    lambda value: value.quantize(Decimal("0.1")),
    lambda value: value.T,
    lambda value: value.reshape(-1),
    lambda value: value.reshape((1, *value.shape)),
    lambda value: value.astype("f4"),
    lambda value: value.view(value.dtype.newbyteorder()),
    lambda value: value.tolist(),
    lambda value: np.asfortranarray(value),
    lambda value: np.repeat(value, 2, axis=-1)[..., ::2],
    lambda value: value.view(np.matrix),
    lambda value: pathlib.PurePosixPath(value),
]


def mutants(model: BaseModel, chance: random.Random) -> Iterator[BaseModel]:
    """Yield the model with one thing changed, whether or not its schema would allow that.

    It is a thing in one of two fields that chance picks, or the fields as such.
    """
    names = list(vars(model))
    for name in chance.sample(names, min(2, len(names))):
        for near in nearly(vars(model)[name], chance):
            yield changed(model, {name: near})
        missing = copy.copy(model)
        del vars(missing)[name]
        yield missing
    for one, two in itertools.pairwise(names):
        first: Any = vars(model)[one]
        second: Any = vars(model)[two]
        yield changed(model, {one: second, two: first})
        if type(first) in (str, bytes) and type(first) is type(second):
            yield changed(model, {one: first[:-1], two: first[-1:] + second})
            yield changed(model, {one: first + second, two: second[:0]})
    yield changed(model, {"undeclared": 1})
    for kept in ("__pydantic_extra__", "__pydantic_private__"):
        for more in ({"known": 1}, {"known": 1.0}, {"a": None}):
            made = copy.copy(model)
            object.__setattr__(made, kept, {**(getattr(model, kept) or {}), **more})
            yield made


def some_mutants(model: BaseModel, chance: random.Random, number: int) -> list[BaseModel]:
    near = list(mutants(model, chance))
    return chance.sample(near, min(number, len(near)))


def changed(model: BaseModel, changes: dict[str, Any]) -> BaseModel:
    made = copy.copy(model)
    vars(made).update(changes)
    return made

"""Instances of models, dataclasses, named tuples and enums: how each class is written and read.

A class is named by a digest of its module, its qualified name and the names of its fields, so an
instance is never read with the fields of another version of the class.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from enum import Enum, Flag
from typing import Any, NamedTuple, TypeAlias

from pydantic import BaseModel

from model_cache.entries.forms import Form
from model_cache.entries.refusals import not_storable
from model_cache.entries.serders import JSON, MESSAGE_PACK
from model_cache.entries.unset_fields import mark_unset, without_unset
from model_cache.interruptions import reraise_interruption
from model_cache.keys.canonical import PREDICTIONS
from model_cache.keys.canonical.attributes import state_reader
from model_cache.keys.canonical.identities import class_identity, counted, text
from model_cache.protocols import Serder

DIGEST_SIZE = 8
_MAX_COMPILED = 1024

# The data of an instance begins with the number of its form in this list.
_MODEL_FORMS = [Form(MESSAGE_PACK, True), Form(MESSAGE_PACK), Form(JSON, True), Form(JSON)]

Pack: TypeAlias = Callable[[Any], bytes]
Load: TypeAlias = Callable[[bytes], Any]


class Structure(NamedTuple):
    """How instances of a class are written and read.

    Attributes:
        digest: names the class in data.
        write: returns an instance as bytes; the function that it is given writes other values.
        read: returns the instance in bytes; the function that it is given reads other values.
    """

    digest: bytes
    write: Callable[[Any, Pack], bytes]
    read: Callable[[bytes, Load], Any]


_compiled: dict[type, Structure | None] = {}


def structure(cls: type) -> Structure | None:
    """Return how instances of a class are written and read; None if it is of no such kind."""
    try:
        return _compiled[cls]
    except KeyError:
        made = _compile(cls)
        if len(_compiled) >= _MAX_COMPILED:
            _compiled.clear()
        _compiled[cls] = made
        return made  # another thread may have emptied the table


def _compile(cls: type) -> Structure | None:
    if issubclass(cls, Enum):
        return _enum(cls)
    if issubclass(cls, BaseModel):
        return None if cls is BaseModel else _model(cls)
    if dataclasses.is_dataclass(cls):
        return _dataclass(cls)
    if issubclass(cls, tuple) and type(getattr(cls, "_fields", None)) is tuple:
        return _named_tuple(cls)
    return None


def _digest(cls: type, kind: bytes, names: Any = ()) -> bytes:
    form = kind + class_identity(cls) + counted(map(text, names))
    return hashlib.blake2b(form, digest_size=DIGEST_SIZE).digest()


def _enum(cls: type[Enum]) -> Structure:
    members = cls.__members__
    is_flag = issubclass(cls, Flag)

    def write(value: Any, pack: Pack) -> bytes:
        name = value._name_
        if members.get(name) is value:
            return pack(name)
        if is_flag:  # several flags
            return pack(value._value_)
        raise not_storable(cls, "it is not a member")

    def read(data: bytes, load: Load) -> Any:
        found = load(data)
        if is_flag and type(found) is int:
            return cls(found)
        return members[found]

    return Structure(_digest(cls, b"e"), write, read)


def _named_tuple(cls: type) -> Structure:
    names = cls._fields  # type: ignore[attr-defined]

    def read(data: bytes, load: Load) -> Any:
        values = load(data)
        if len(values) != len(names):
            raise ValueError("another number of fields")
        return tuple.__new__(cls, values)

    return Structure(
        _digest(cls, b"t", names), lambda value, pack: pack(list(tuple.__iter__(value))), read
    )


def _dataclass(cls: type) -> Structure:
    """Write all attributes, and set them without calling `__init__` or `__post_init__`."""
    names = [field.name for field in dataclasses.fields(cls)]
    count = len(names)
    state_of = state_reader(cls)
    put = object.__setattr__

    def write(value: Any, pack: Pack) -> bytes:
        state = state_of(value)
        declared = [state[name] for name in names]  # a KeyError for one that is not set
        if len(state) == count:
            return pack(declared)
        others = {name: state[name] for name in state if name not in names}
        if not all(type(name) is str and name.isidentifier() for name in others):
            raise not_storable(cls, "it has an attribute whose name is not an identifier")
        return pack([*declared, others])

    def read(data: bytes, load: Load) -> Any:
        values = load(data)
        if type(values) is not list or len(values) - count not in (0, 1):
            raise ValueError("another number of fields")
        made: Any = object.__new__(cls)
        for name, value in zip(names, values, strict=False):
            put(made, name, value)
        for name, value in values[count].items() if len(values) > count else ():
            if name.startswith("__"):
                raise ValueError("not an attribute of an instance")
            put(made, name, value)
        return made

    return Structure(_digest(cls, b"d", names), write, read)


def _model(cls: type[BaseModel]) -> Structure:
    """Write a model by the serders, with all of its fields: their defaults may change."""

    def write(value: Any, _: Pack) -> bytes:
        expected = PREDICTIONS.encode(value)
        failure: Exception | None = None
        for number, form in enumerate(_MODEL_FORMS):
            try:
                made = form.dumps(value)
                if made is None:
                    continue
                data = bytes((number,)) + made[0]
                if PREDICTIONS.encode(_read_model(data, cls)) == expected:
                    return data
            except Exception as error:
                reraise_interruption(error)
                failure = error
        raise not_storable(cls, "it changes when it is dumped and loaded") from failure

    return Structure(
        _digest(cls, b"m", cls.model_fields), write, lambda data, _: _read_model(data, cls)
    )


def _read_model(data: bytes, cls: type[BaseModel]) -> BaseModel:
    serder, unset, dumped = model_parts(data)
    made = serder.loads(dumped, cls)
    if type(made) is not cls:
        raise TypeError("an instance of another class")
    mark_unset(made, unset)
    return made


def model_parts(data: bytes) -> tuple[Serder, list[Any], bytes]:
    """Return the serder of a model in bytes, which fields are not set, and the model's dump.

    Raises:
        Exception: the bytes are damaged, or not a model's.
    """
    form, data = _MODEL_FORMS[data[0]], data[1:]
    unset, data = without_unset(data) if form.notes_unset else ([], data)
    return form.serder, unset, data


def is_model(data: bytes) -> bool:
    """Return whether bytes of an instance are a model's; those of others are MessagePack."""
    return len(data) > 1 and data[0] < len(_MODEL_FORMS)  # the enum of a flag is a single byte

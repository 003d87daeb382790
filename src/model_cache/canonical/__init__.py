"""Canonical bytes: one value, one byte string; two values, two.

They are what a key is a digest of, and how a decoded prediction is compared with the one
that the model returned. The form is type-tagged and self-delimiting, hence injective, and it
depends on nothing but the value: not on the process, the hash seed, the platform, the locale
or the version of Python or pydantic. It is read from an object's attributes, never from a
dump, since a dump drops and masks fields.

Each class is compiled once to a function; encoding is a table look-up by `type(value)`.
Stores, entries and options are unknown here: this package sees values only.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import sys
import types
from collections.abc import Callable, Collection, Sequence
from enum import Enum
from typing import Any, Generic

from pydantic import BaseModel

from model_cache.canonical.identities import class_identity, counted, described, text
from model_cache.canonical.leaves import (
    BUILTIN_PART,
    LEAVES,
    REDUCED,
    URLS,
    Encode,
    numpy_encoder,
    pack_doubles,
    zone_form,
)
from model_cache.canonical.structures import Selection, Tree, compile_fields, state_reader
from model_cache.errors import ConfigurationError, NotCacheableError

__all__ = [
    "FORMAT",
    "INPUTS",
    "PREDICTIONS",
    "Canonicalizer",
    "Selection",
    "Tree",
    "register_canonical",
]

FORMAT = 1
"""The version of the form. Any change of it is a new version, and so a new set of keys."""

# How many classes stay compiled: schemas that are built anew at each access must not pile up.
_MAX_COMPILED = 1024

# The tag of each, and that of one which holds floats only.
_CONTAINERS: dict[type, tuple[bytes, bytes]] = {
    list: (b"l", b"L"),
    tuple: (b"t", b"V"),
    set: (b"h", b""),
    frozenset: (b"j", b""),
    dict: (b"m", b""),
}
_registered: dict[type, Callable[[Any], Any]] = {}


def register_canonical(cls: type, function: Callable[[Any], Any]) -> None:
    """Give a type of your own a canonical form, so that inputs that hold it can be cached.

    Call it at import, before `set_model`. A function that changes needs a new `revision`.

    Args:
        cls: the type, matched exactly (a subclass needs its own registration).
        function: takes an instance and returns a value that has a canonical form: a str,
            bytes, a tuple of numbers, ... It must tell apart every two instances that the
            model could tell apart, and must give the same value in every process.

    Raises:
        ConfigurationError: the type has a canonical form already.
    """
    covered = cls in LEAVES or cls in _CONTAINERS or cls in REDUCED
    if covered or issubclass(cls, (BaseModel, Enum)):
        raise ConfigurationError("register_canonical", f"{cls!r} has a canonical form already")
    _registered[cls] = function
    for canonicalizer in (INPUTS, PREDICTIONS):
        canonicalizer.forget()


class Canonicalizer:
    """Encodes values as canonical bytes.

    Args:
        fields_set: whether a model's `model_fields_set` counts.
    """

    def __init__(self, *, fields_set: bool = False) -> None:
        self._fields_set = fields_set
        self._encoders = _Encoders(self._compile)
        self.encode = _guarded(self._encoders)
        """Return the canonical bytes of a value, or raise `NotCacheableError`."""
        self.forget()

    def forget(self) -> None:
        """Drop the compiled classes."""
        self._encoders.clear()
        self._encoders.update(LEAVES)
        self._encoders.update({cls: self._container(cls, self._encode) for cls in _CONTAINERS})

    def selecting(self, selection: Selection) -> Encode:
        """Return an encoder for structures of which only a selection of fields counts.

        A nested structure that has none of the named fields counts whole, as does a value
        that is no structure: nobody said that it does not matter.
        """
        return _guarded(self._selecting(selection))

    def _encode(self, value: Any) -> bytes:
        """Like `encode`, inside another encoding."""
        return self._encoders[type(value)](value)

    def _selecting(self, selection: Selection) -> _Encoders:
        def compile_class(cls: type) -> Encode | None:
            if cls in _CONTAINERS:
                return self._container(cls, encoders.encode)
            if cls not in _registered and _is_structure(cls):
                return self._structure(cls, selection)
            return self._encode

        encoders = _Encoders(compile_class)
        return encoders

    def covers(self, cls: type) -> bool:
        """Whether instances of exactly this class have a canonical form."""
        return self._compile(cls) is not None or cls in LEAVES or cls in _CONTAINERS

    def _compile(self, cls: type) -> Encode | None:
        if cls in _registered:
            return self._reduced(class_identity(cls), _registered[cls])
        if cls in REDUCED:
            name, reduce = REDUCED[cls]
            return self._reduced(text(name), reduce)
        if issubclass(cls, Enum):
            return self._enum(cls)
        if _is_structure(cls):
            return self._structure(cls)
        if issubclass(cls, URLS):
            return self._reduced(class_identity(cls), str)
        if issubclass(cls, dt.tzinfo):
            return lambda value: b"z" + zone_form(value, None)
        numpy = sys.modules.get("numpy")
        if numpy is not None and issubclass(cls, (numpy.ndarray, numpy.generic)):
            return numpy_encoder(numpy, cls)
        for base in BUILTIN_PART:
            if issubclass(cls, base) and _is_plain_subclass(cls, base):
                return self._subclass(cls, base)
        return None

    def _container(self, cls: type, encode: Encode) -> Encode:
        tag, packed_tag = _CONTAINERS[cls]

        def encode_sequence(values: Sequence[Any]) -> bytes:
            if set(map(type, values)) == {float}:  # an embedding: packed, 20 times as fast
                return b"%b%x;%b" % (packed_tag, len(values), pack_doubles(values))
            return tag + counted(map(encode, values))

        def encode_set(values: Collection[Any]) -> bytes:
            return tag + counted(sorted(map(encode, values)))

        def encode_dict(value: dict[Any, Any]) -> bytes:
            parts = [b"%b%x;" % (tag, len(value))]
            for key, item in value.items():
                parts += (self._encode(key), encode(item))
            return b"".join(parts)

        if cls is dict:
            return encode_dict
        return encode_set if cls in (set, frozenset) else encode_sequence

    def _reduced(self, identity: bytes, reduce: Callable[[Any], Any]) -> Encode:
        head = b"o" + identity
        return lambda value: head + self._encode(reduce(value))

    def _enum(self, cls: type[Enum]) -> Encode:
        head = b"e" + class_identity(cls)
        # Neither name nor value is enough: a model may look at either.
        return lambda member: head + self._encode(member._name_) + self._encode(member._value_)

    def _structure(self, cls: type, selection: Selection | None = None) -> Encode | None:
        fields = _fields(cls)
        if selection is not None and selection.keep and not fields.keys() & selection.tree.keys():
            selection = None
        head = (b"M" if issubclass(cls, BaseModel) else b"c") + class_identity(cls)
        encode_fields = compile_fields(
            head, fields, self._encode, selection, lambda inside: self._selecting(inside).encode
        )
        state_of = state_reader(cls)
        if issubclass(cls, BaseModel) and (selection is None or not selection.keep):
            return self._model(encode_fields, state_of)
        if not issubclass(cls, BaseModel) and not all(map(_is_python_class, cls.__mro__)):
            return None
        return lambda value: encode_fields(state_of(value))

    def _model(self, encode_fields: Encode, state_of: Callable[[Any], Any]) -> Encode:
        """A model is its fields, and what it keeps elsewhere: extras, private attributes."""
        fields_set = self._fields_set

        def encode(value: BaseModel) -> bytes:
            extra, private = value.__pydantic_extra__, value.__pydantic_private__
            if not (extra or private or fields_set):
                return encode_fields(state_of(value)) + b"NN"
            return b"%b%b%b%b" % (
                encode_fields(state_of(value)),
                self._encode(extra or None),
                self._encode(dict(sorted(private.items())) if private else None),
                self._encode(value.__pydantic_fields_set__) if fields_set else b"",
            )

        return encode

    def _subclass(self, cls: type, base: type) -> Encode:
        """A subclass is its class, its base's value, and the attributes set on it."""
        head, builtin_part = b"k" + class_identity(cls), BUILTIN_PART[base]
        state_of, encode_state = state_reader(cls), compile_fields(b"", {}, self._encode)
        return lambda value: (
            head + self._encode(builtin_part(value)) + encode_state(state_of(value))
        )


class _Encoders(dict[type, Encode]):
    """A bounded table from class to encoder that compiles what it is asked for."""

    def __init__(self, compile_class: Callable[[type], Encode | None]) -> None:
        super().__init__()
        self._compile = compile_class

    def encode(self, value: Any) -> bytes:
        return self[type(value)](value)

    def __missing__(self, cls: type) -> Encode:
        encode = self._compile(cls) or _no_form(cls)
        if len(self) >= _MAX_COMPILED:
            for known in list(self):
                if known not in LEAVES and known not in _CONTAINERS:
                    self.pop(known, None)
        self[cls] = encode
        return encode


def _guarded(encoders: _Encoders) -> Encode:
    """Return what encodes a whole value, and raises nothing but `NotCacheableError`."""

    def encode(value: object) -> bytes:
        try:
            return encoders[type(value)](value)
        except NotCacheableError:
            raise
        except RecursionError:
            raise NotCacheableError("it holds itself, or is nested too deeply") from None
        except Exception as error:  # a half-built object, a registered function: a miss, no crash
            raise NotCacheableError(f"reading it raised {type(error).__name__}") from error

    return encode


def _fields(cls: type) -> dict[str, Any]:
    if issubclass(cls, BaseModel):
        return {name: field.annotation for name, field in cls.model_fields.items()}
    return {field.name: field.type for field in dataclasses.fields(cls)}  # type: ignore[arg-type]


def _is_structure(cls: type) -> bool:
    return issubclass(cls, BaseModel) or (
        dataclasses.is_dataclass(cls) and not issubclass(cls, (*BUILTIN_PART, Enum))
    )


# What is in the namespace of a class that is written in C, and of no other.
_COMPILED = (
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.BuiltinFunctionType,
)


def _is_python_class(cls: type) -> bool:
    """Whether a class is written in Python; another may keep state that can't be read."""
    return cls in (object, Generic) or not any(
        isinstance(member, _COMPILED) for member in vars(cls).values()
    )


def _is_plain_subclass(cls: type, base: type) -> bool:
    """Whether all that `cls` adds to `base` is written in Python, and so can be read."""
    return all(map(_is_python_class, cls.__mro__[: cls.__mro__.index(base)]))


def _no_form(cls: type) -> Encode:
    def refuse(_: object) -> bytes:
        raise NotCacheableError(
            f"a value of {described(cls)} has no canonical form; "
            "give it one with model_cache.register_canonical"
        )

    return refuse


INPUTS = Canonicalizer()
PREDICTIONS = Canonicalizer(fields_set=True)

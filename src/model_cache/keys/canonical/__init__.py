"""Canonical bytes: equal values have equal bytes, and different values different bytes.

Keys are digests of canonical bytes, and a decoded prediction is compared with the original by
them. The form is type-tagged and self-delimiting, hence injective, and depends only on the value:
not on the process, the hash seed, the platform, the locale or the version of Python or pydantic.
It is read from an object's attributes, never from a dump, since a dump drops and masks fields.

Each class is compiled to a function once; encoding is a table lookup by `type(value)`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections.abc import Callable, Collection
from enum import Enum
from typing import Any

from pydantic import BaseModel

from model_cache.errors import ConfigurationError, NotCacheableError
from model_cache.keys.canonical.arrays import array_encoder, loaded_numpy, scalar_encoder
from model_cache.keys.canonical.attributes import is_plain_subclass, is_python_class, state_reader
from model_cache.keys.canonical.containers import (
    CONTAINERS,
    container_encoder,
    selected_dict_encoder,
)
from model_cache.keys.canonical.enums import enum_encoder
from model_cache.keys.canonical.foreign import reduction
from model_cache.keys.canonical.identities import class_identity, counted, described, text
from model_cache.keys.canonical.leaves import LEAVES, Encode, safe_uuid
from model_cache.keys.canonical.models import kept_model_encoder, model_encoder, tail_encoder
from model_cache.keys.canonical.moments import MOMENTS, ZONES
from model_cache.keys.canonical.reductions import (
    BUILTIN_PART,
    REDUCED,
    URLS,
    own_attributes,
    url_part,
)
from model_cache.keys.canonical.refusals import refuse
from model_cache.keys.canonical.structures import KeyTree, Selection, Tree, compile_fields
from model_cache.lazy import lazy

__all__ = [
    "FORMAT",
    "INPUTS",
    "PREDICTIONS",
    "UNORDERED_INPUTS",
    "Canonicalizer",
    "Encoders",
    "KeyTree",
    "Selection",
    "Tree",
    "fields_of",
    "guarded",
    "has_fields",
    "register_canonical",
]

FORMAT = 2
"""The version of the format. Any change to the format needs a new version, hence new keys."""

_DEEPEST = 256
"""How deeply values may be nested. JSON is parsed 200 levels deep, and the C stack is limited."""

# How many compiled classes to keep: schemas that are rebuilt at each access must not pile up.
_MAX_COMPILED = 1024

_registered: dict[type, Callable[[Any], Any]] = {}


def register_canonical(cls: type, function: Callable[[Any], Any]) -> None:
    """Register a canonical form for a type, so that inputs containing it can be cached.

    Call it at import time, before `set_model`. If the function changes, set a new `revision`.

    Args:
        cls: the type, matched exactly: a subclass needs its own registration. The exception is a
            `tzinfo` class, which includes its subclasses, since pytz creates one for each zone.
        function: takes an instance and returns a value that has a canonical form: a str,
            bytes, a tuple of numbers, ... It must return different values for instances that the
            model could distinguish, and the same value in every process.

    Raises:
        ConfigurationError: the type already has a canonical form.
    """
    covered = any(cls in forms for forms in (LEAVES, MOMENTS, ZONES, REDUCED, CONTAINERS))
    if covered or issubclass(cls, BaseModel):
        raise ConfigurationError("register_canonical", f"{cls!r} already has a canonical form")
    _registered[cls] = function
    for canonicalizer in (INPUTS, UNORDERED_INPUTS, PREDICTIONS):
        canonicalizer.forget()


def _registered_for(cls: type) -> Callable[[Any], Any] | None:
    if issubclass(cls, dt.tzinfo) and cls not in ZONES:
        return next((_registered[base] for base in cls.__mro__ if base in _registered), None)
    return _registered.get(cls)


class Canonicalizer:
    """Encodes values as canonical bytes.

    Args:
        predictions: whether the values are predictions. These include `model_fields_set`, since a
            dump may depend on it, and exclude what entries do not store: the memory layout of
            arrays and `UUID.is_safe`.
        ordered_dicts: whether the order of a dict's items counts, and that of a model's extra
            fields. That of an `OrderedDict` always counts.
        level: the nesting depth of the values.
    """

    def __init__(
        self, *, predictions: bool = False, ordered_dicts: bool = True, level: int = 0
    ) -> None:
        self._predictions = predictions
        self.ordered = ordered_dicts
        self._level = level
        self._encoders = Encoders(self._compile)
        self.encode = guarded(self._encoders)
        """Return the canonical bytes of a value, or raise `NotCacheableError`."""
        self.forget()

    def forget(self) -> None:
        """Drop the compiled classes."""
        self.__dict__.pop("_inside", None)
        self._encoders.clear()
        self._encoders.update(LEAVES)
        if not self._predictions:
            self._encoders[uuid.UUID] = safe_uuid

    def encoders(self, selection: Selection | None) -> Encoders:
        """Return the encoders by class; they may raise any exception.

        With a selection, a nested structure without any of the named fields is included whole, as
        is a value that is not a structure: nothing says that it can be left out.
        """
        return self._encoders if selection is None else self._selecting(selection)

    @lazy
    def _inside(self) -> Canonicalizer:
        """The canonicalizer for nested values.

        Each level has its own table of encoders, which bounds the depth without counting.
        """
        return Canonicalizer(
            predictions=self._predictions, ordered_dicts=self.ordered, level=self._level + 1
        )

    def _selecting(self, selection: Selection) -> Encoders:
        def compile_class(cls: type) -> Encode | None:
            self._check_depth()
            encode = self._inside._encoders.encode
            if cls is dict and isinstance(selection.tree, KeyTree):
                own = selection.encoders(self._select)
                return selected_dict_encoder(selection, own, encode, ordered=self.ordered)
            if cls in CONTAINERS:
                within = self._select(selection)
                return container_encoder(cls, encode, within, ordered=self.ordered)
            if has_fields(cls):
                return self._structure(cls, selection)
            return self._encoders[cls]

        return Encoders(compile_class)

    def covers(self, cls: type) -> bool:
        """Return whether instances of exactly this class have a canonical form."""
        return cls in LEAVES or self._compile(cls) is not None

    def _check_depth(self) -> None:
        if self._level > _DEEPEST:
            raise NotCacheableError(f"it is nested more than {_DEEPEST} levels deep")

    def _compile(self, cls: type) -> Encode | None:
        self._check_depth()
        return self._compile_known(cls) or self._compile_derived(cls)

    def _compile_known(self, cls: type) -> Encode | None:
        """Compile a class that is registered or built in."""
        encode = self._inside._encoders.encode
        if (function := _registered_for(cls)) is not None:
            return _reduced(b"o" + class_identity(cls), function, encode)
        if cls in ZONES:
            return ZONES[cls]
        if cls in MOMENTS:
            return MOMENTS[cls](encode)
        if cls in CONTAINERS:
            return container_encoder(cls, encode, encode, ordered=self.ordered)
        if cls in REDUCED:
            name, reduce = REDUCED[cls]
            attributes = _attributes(cls, encode, own_attributes(cls))
            head = b"o" + text(name)
            return _reduced(head, reduce, encode, attributes if cls.__dictoffset__ else None)
        return None

    def _compile_derived(self, cls: type) -> Encode | None:
        """Compile a class by its base classes."""
        encode = self._inside._encoders.encode
        if issubclass(cls, Enum):
            return enum_encoder(cls, encode)
        if (foreign := reduction(cls)) is not None:
            seen = foreign.seen
            beside = None if seen is None else lambda value: encode(seen(value))
            return _reduced(b"o" + text(foreign.name), foreign.parts, encode, beside)
        if _is_structure(cls):
            return self._structure(cls)
        if issubclass(cls, URLS):
            attributes = _attributes(cls, encode, own_attributes(cls))
            return _reduced(b"o" + class_identity(cls), url_part, encode, attributes)
        numpy = loaded_numpy()
        if numpy is not None and issubclass(cls, (numpy.ndarray, numpy.generic)):
            return self._numpy(numpy, cls)
        for base in BUILTIN_PART:
            if issubclass(cls, base) and is_plain_subclass(cls, base):
                head = b"k" + class_identity(cls) + _names_of_places(cls)
                return _reduced(head, BUILTIN_PART[base], encode, _attributes(cls, encode))
        return None

    def _numpy(self, numpy: Any, cls: type) -> Encode | None:
        if issubclass(cls, numpy.generic):
            return scalar_encoder(numpy, cls)
        if cls is numpy.ndarray:
            encode = self._inside._encoders.encode
            return array_encoder(numpy, encode, layout=not self._predictions)
        if not is_plain_subclass(cls, numpy.ndarray):
            return None
        # A memmap is its content and its location; its file handle adds nothing.
        own = {"_mmap"} if issubclass(cls, numpy.memmap) else ()
        encode = self._inside._encoders.encode
        return _reduced(
            b"k" + class_identity(cls),
            lambda value: numpy.ndarray.view(value, numpy.ndarray),
            encode,
            _attributes(cls, encode, own),
        )

    def _structure(self, cls: type, selection: Selection | None = None) -> Encode | None:
        is_model = issubclass(cls, BaseModel)
        if not is_model and not all(map(is_python_class, cls.__mro__)):
            return None
        encode, fields = self._inside._encoders.encode, fields_of(cls)
        own = {} if selection is None else selection.encoders(self._select)
        head = (b"M" if is_model else b"c") + class_identity(cls)
        encode_fields = compile_fields(head, fields, encode, selection, own)
        whole = self._structure(cls) if selection and not selection.applies(fields) else None
        if is_model:
            # An extra field may have the name of a declared one, which the user did not mean.
            undeclared = None if selection is None else selection.without(fields)
            encode_tail = tail_encoder(encode, own, undeclared, ordered=self.ordered)
            if undeclared is not None and undeclared.keep:
                return kept_model_encoder(cls, encode_fields, encode_tail, undeclared, whole)
            encode_names = encode if self._predictions else None
            return model_encoder(cls, encode_fields, encode_tail, encode_names)
        state_of = state_reader(cls)
        if selection is None or whole is None:
            return lambda value: encode_fields(state_of(value))
        return lambda value: (
            encode_fields(state) if selection.applies(state := state_of(value)) else whole(value)
        )

    def _select(self, selection: Selection) -> Encode:
        """Return the encoder of a nested value of which only a part is included."""
        return self._inside._selecting(selection).encode


def _reduced(
    head: bytes, reduce: Callable[[Any], Any], encode: Encode, beside: Encode | None = None
) -> Encode:
    """Return an encoder for a class whose instances reduce to a simpler value.

    Args:
        head: identifies the class.
        reduce: returns the simpler value.
        encode: encodes it.
        beside: encodes what else belongs to an instance, such as its attributes.
    """
    if beside is None:
        return lambda value: head + encode(reduce(value))
    return lambda value: head + encode(reduce(value)) + beside(value)


def _names_of_places(cls: type) -> bytes:
    """Return the field names of a NamedTuple: two local classes may differ only in these."""
    names = getattr(cls, "_fields", None) if issubclass(cls, tuple) else None
    return counted(text(name) for name in names) if type(names) is tuple else b""


def _attributes(cls: type, encode: Encode, own: Collection[str] = ()) -> Encode:
    """Return the encoder of an instance's attributes, except `own`, which its value covers."""
    state_of, encode_state = state_reader(cls), compile_fields(b"", {}, encode)
    if not own:
        return lambda value: encode_state(state_of(value))
    return lambda value: encode_state(
        {name: item for name, item in state_of(value).items() if name not in own}
    )


class Encoders(dict[type, Encode]):
    """A bounded table of encoders by class, compiled on demand."""

    def __init__(self, compile_class: Callable[[type], Encode | None]) -> None:
        super().__init__()
        self._compile = compile_class

    def encode(self, value: Any) -> bytes:
        return self[type(value)](value)

    def __missing__(self, cls: type) -> Encode:
        encode = self._compile(cls) or _no_form(cls)
        if len(self) >= _MAX_COMPILED:
            for known in list(self):
                if known not in LEAVES:
                    self.pop(known, None)
        self[cls] = encode
        return encode


def guarded(encoders: Encoders) -> Encode:
    """Return an encoder for a whole value that raises only `NotCacheableError`."""

    def encode(value: object) -> bytes:
        try:
            return encoders[type(value)](value)
        except Exception as error:
            refuse(error)

    return encode


def fields_of(cls: type) -> dict[str, Any]:
    """Return the declared fields of a model or dataclass with their annotations."""
    if issubclass(cls, BaseModel):
        return {name: field.annotation for name, field in cls.model_fields.items()}
    return {field.name: field.type for field in dataclasses.fields(cls)}  # type: ignore[arg-type]


def has_fields(cls: type) -> bool:
    """Return whether values of a class are encoded by their fields: models and dataclasses."""
    return cls not in _registered and _is_structure(cls)


def _is_structure(cls: type) -> bool:
    return issubclass(cls, BaseModel) or (
        dataclasses.is_dataclass(cls) and not issubclass(cls, (*BUILTIN_PART, Enum))
    )


def _no_form(cls: type) -> Encode:
    def refuse(_: object) -> bytes:
        raise NotCacheableError(
            f"a value of {described(cls)} has no canonical form; "
            "register one with model_cache.register_canonical"
        )

    return refuse


INPUTS = Canonicalizer()
UNORDERED_INPUTS = Canonicalizer(ordered_dicts=False)
PREDICTIONS = Canonicalizer(predictions=True)

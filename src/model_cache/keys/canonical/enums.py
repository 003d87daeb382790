"""Enum members: their class, name, value and any attributes set on them."""

from __future__ import annotations

import types
from collections.abc import Callable
from enum import Enum
from typing import Any

from model_cache.keys.canonical.identities import class_identity, counted, text
from model_cache.keys.canonical.leaves import LEAVES, Encode
from model_cache.keys.canonical.refusals import attribute, refuse

# Attributes that the enum module itself sets on a member.
_OWN = {"_name_", "_value_", "__objclass__", "_sort_order_", "_inverted_"}
_read_dict: Callable[[Any], dict[str, Any]] = vars(Enum)["__dict__"].__get__


def enum_encoder(cls: type[Enum], encode: Encode) -> Encode | None:
    """Return the encoder of an enum's members; None if they are mutable like a list."""
    if issubclass(cls, (list, dict, set)):
        return None
    head = b"e" + class_identity(cls)

    def encode_member(member: Enum) -> bytes:
        state = _read_dict(member)
        added = _added(state)
        # Name and value: a model may use either.
        parts = [head, encode(state["_name_"]), counted(map(text, added))]
        for name in ("_value_", *added):
            try:
                parts.append(encode(state[name]))
            except Exception as error:
                refuse(error, attribute(name.strip("_")))
        return b"".join(parts)

    members = encode_members(cls, encode_member)
    if not members:
        return encode_member
    ready = {id(member): form for member, form in members}
    size = len(_read_dict(members[0][0]))

    def encode_known(member: Enum) -> bytes:
        form = ready.get(id(member))
        return form if form and len(_read_dict(member)) == size else encode_member(member)

    return encode_known


def encode_members(cls: type[Enum], encode: Encode) -> list[tuple[Enum, bytes]]:
    """Return the members without extra attributes, with their canonical bytes.

    They all have the same number of attributes, so a member whose number differs has changed since
    it was encoded. They are looked up by id, since hashing a member runs Python code; the class
    keeps them alive.
    """
    if not _shows_its_dict(cls):
        return []
    plain = [
        member
        for member in cls.__members__.values()
        if type(member._value_) in LEAVES and not _added(_read_dict(member))
    ]
    sizes = [len(_read_dict(member)) for member in plain]
    unique = {
        id(member): member for member, size in zip(plain, sizes, strict=True) if size == sizes[0]
    }
    return [(member, encode(member)) for member in unique.values()]


def _shows_its_dict(cls: type[Enum]) -> bool:
    """Return whether `member.__dict__` is the real one, not overridden by the class."""
    found = next(vars(base)["__dict__"] for base in cls.__mro__ if "__dict__" in vars(base))
    return isinstance(found, types.GetSetDescriptorType) and isinstance(
        cls.__getattribute__, types.WrapperDescriptorType
    )


def _added(state: dict[str, Any]) -> list[str]:
    return sorted(state.keys() - _OWN)

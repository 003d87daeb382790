"""Read an instance's attributes from `__dict__` and slots, even if its class hides them.

They are its whole state if its class is written in Python.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeAlias

from model_cache.errors import NotCacheableError
from model_cache.pydantic_attributes import PREFIX

State: TypeAlias = Mapping[str, Any]

_NO_ATTRIBUTES: State = types.MappingProxyType({})

# Types found only in the namespace of a class written in C.
_COMPILED = (
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.BuiltinFunctionType,
)


def is_python_class(cls: type) -> bool:
    """Return whether a class is written in Python; others may have state that can't be read."""
    return cls in (object, Generic) or not any(
        isinstance(member, _COMPILED) for member in vars(cls).values()
    )


def is_plain_subclass(cls: type, base: type) -> bool:
    """Return whether all that `cls` adds to `base` is written in Python, and so can be read."""
    return all(is_python_class(each) for each in cls.__mro__ if each is not base)


def state_reader(cls: type) -> Callable[[Any], State]:
    """Compile a function that reads an instance's attributes from `__dict__` and slots.

    A class may hide an attribute with a property, or a base's slot with one of the same name, so
    each slot is read with the descriptor of the class that defines it.
    """
    read_dict, slots = _dict_reader(cls), _slots(cls)
    if not slots:
        return read_dict
    has_dict = cls.__dictoffset__ != 0

    def read(value: Any) -> State:
        state = dict(read_dict(value)) if has_dict else {}
        for name, get in slots:
            try:
                item = get(value)
            except AttributeError:  # it is empty
                continue
            if name in state:
                raise NotCacheableError(f"it has two attributes named {name!r}")
            state[name] = item
        return state

    return read


def _dict_reader(cls: type) -> Callable[[Any], State]:
    if not cls.__dictoffset__:
        return lambda _: _NO_ATTRIBUTES
    for base in reversed(cls.__mro__):
        member = vars(base).get("__dict__")
        if isinstance(member, types.GetSetDescriptorType):
            return member.__get__
    return _unreadable


def slot_reader(cls: type, base: type, name: str) -> Callable[[Any], Any]:
    """Return a function that reads a base class's slot, None if it is empty, even if hidden."""
    get: Callable[[Any], Any] = vars(base)[name].__get__
    if not any(name in vars(each) for each in cls.__mro__ if each is not base):
        return get

    def read(value: Any) -> Any:
        try:
            return get(value)
        except AttributeError:  # pydantic's RootModel hides slots that it never fills
            return None

    return read


def _slots(cls: type) -> list[tuple[str, Callable[[Any], Any]]]:
    found: list[tuple[str, Callable[[Any], Any]]] = []
    for base in cls.__mro__:
        members = {
            name: member
            for name, member in vars(base).items()
            if isinstance(member, types.MemberDescriptorType)
        }
        # pydantic stores everything but fields in its own slots, which are read elsewhere.
        found += [
            (name, member.__get__)
            for name, member in members.items()
            if not name.startswith(PREFIX)
        ]
        declared = vars(base).get("__slots__", ())
        names = (declared,) if isinstance(declared, str) else tuple(declared)
        hidden = {_mangled(base, name) for name in names} - members.keys()
        if hidden - {"__dict__", "__weakref__"}:  # the class replaced the slot's descriptor
            found.append(("", _unreadable))
    return found


def _mangled(cls: type, name: str) -> str:
    private = name.startswith("__") and not name.endswith("__")
    owner = cls.__name__.lstrip("_")
    return f"_{owner}{name}" if private and owner else name


def _unreadable(_: Any) -> Any:
    raise NotCacheableError("it has attributes that can't be read")

"""Classes written in Python: all of an instance's state is in attributes that can be read."""

from __future__ import annotations

import types
from typing import Generic

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
    """Return whether everything that `cls` adds to `base` is written in Python, so readable."""
    return all(is_python_class(each) for each in cls.__mro__ if each is not base)

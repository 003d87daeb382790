"""The parts that an object's state is made of.

A generator of parts describes one object, and names the objects inside it as children; the walk
in `fitted_state` hashes the bytes and opens the children.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias


class Child(NamedTuple):
    """A value inside the object.

    Attributes:
        value: the value.
        at: the name of the attribute, or the key of the item; None for a value that a path leaves
            out, such as an argument of a constructor.
        is_item: whether `at` is a key.
    """

    value: Any
    at: Any = None
    is_item: bool = False

    def step(self) -> str:
        """Return the child's place in a path, such as `.steps` or `[1]`."""
        if self.at is None:
            return ""
        return f"[{self.at!r:.40}]" if self.is_item else f".{self.at}"


class Named(NamedTuple):
    """A class or function, by name. The versions of the packages that it comes from count too."""

    module: str
    qualname: str
    bases: tuple[str, ...] = ()


class Unordered(NamedTuple):
    """Values whose order differs between processes."""

    values: Iterable[Any]


Part: TypeAlias = bytes | memoryview | Child | Named | Unordered
Parts: TypeAlias = Iterator[Part]


class UnstableError(Exception):
    """An object has no stable fingerprint; the message says why, or is empty."""


def named(cls: type) -> Named:
    """Return the name of a class."""
    bases = tuple(str(base.__module__) for base in cls.__mro__[1:])
    return Named(str(cls.__module__), cls.__qualname__, bases)


def attributes(state: dict[str, Any]) -> Parts:
    """Yield the attributes of an object, sorted: a prediction may delete one and set it again."""
    yield b"attributes:"
    for name in sorted(state):
        yield Child(name)
        yield Child(state[name], name)
    yield b")"

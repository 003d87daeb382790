"""A property that is computed at its first use.

On Python 3.11, `functools.cached_property` computes under a lock. A child process that is
forked while another thread holds the lock would wait forever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


class lazy(Generic[T]):  # noqa: N801 - used as a decorator, as cached_property is
    """Compute a property once for each object; two threads may both compute it."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> Self | T:
        if instance is None:
            return self
        # Python looks in `__dict__` first, so this runs once.
        value: T = instance.__dict__.setdefault(self._name, self._compute(instance))
        return value

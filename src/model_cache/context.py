"""Flags that hold inside a block: in its context and the copies of it, and no longer.

A task or a thread may outlive the block in whose context it was started, and an interruption may
fall between setting a context variable and the `try` that resets it. So a context variable holds
its flag weakly, and a flag counts only until its block has ended.
"""

from __future__ import annotations

from contextvars import ContextVar
from types import TracebackType
from typing import Generic, Self, TypeVar
from weakref import ref


class Flag:
    """What holds inside a `with` block.

    Attributes:
        outer: the flag of the same kind around this one, if any.
        has_ended: whether the block was left.
    """

    __slots__ = ("__weakref__", "has_ended", "outer")

    def __init__(self) -> None:
        self.outer: Self | None = None
        self.has_ended = False


F = TypeVar("F", bound=Flag)


class FlagVar(Generic[F]):
    """The innermost flag of one kind in the current context."""

    def __init__(self, name: str) -> None:
        self._var: ContextVar[ref[F] | None] = ContextVar(name, default=None)

    def get(self) -> F | None:
        """Return the innermost flag whose block has not ended."""
        reference = self._var.get()
        flag = None if reference is None else reference()
        while flag is not None and flag.has_ended:
            flag = flag.outer
        return flag

    def raised(self, flag: F) -> _Raised[F]:
        """Return a context manager: `flag` holds in its block."""
        return _Raised(self._var, flag, self.get())


class _Raised(Generic[F]):
    __slots__ = ("_flag", "_outer", "_var")

    def __init__(self, var: ContextVar[ref[F] | None], flag: F, outer: F | None) -> None:
        self._var = var
        self._flag = flag
        self._outer = outer

    def __enter__(self) -> F:
        flag = self._flag
        flag.outer = self._outer
        self._var.set(ref(flag))
        return flag

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The order matters if this is interrupted. A generator may end in another context than it
        # began in, whose flag is left alone; so no reset either.
        self._flag.has_ended = True
        reference = self._var.get()
        if reference is not None and reference() is self._flag:
            self._var.set(None if self._outer is None else ref(self._outer))

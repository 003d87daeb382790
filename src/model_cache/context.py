"""Flags that are set inside a `with` block, in its context and copies of it.

A task or a thread may outlive the block in whose context it was started, and an interruption may
happen between setting a context variable and the `try` that resets it. So a context variable
refers to its flag weakly, and a flag counts only until its block has ended.
"""

from __future__ import annotations

from contextvars import ContextVar
from types import TracebackType
from typing import Generic, Self, TypeVar
from weakref import ref


class Flag:
    """A flag that is set inside a `with` block.

    Attributes:
        outer: the enclosing flag of the same kind, if any.
        has_ended: whether the block has ended.
    """

    __slots__ = ("__weakref__", "has_ended", "outer")

    def __init__(self) -> None:
        self.outer: Self | None = None
        self.has_ended = False


F = TypeVar("F", bound=Flag)


class FlagVar(Generic[F]):
    """The innermost flag of one kind in the current context.

    Attributes:
        var: the context variable; its value is None where there is no flag at all.
    """

    def __init__(self, name: str) -> None:
        self.var: ContextVar[ref[F] | None] = ContextVar(name, default=None)

    def get(self) -> F | None:
        """Return the innermost flag whose block has not ended."""
        reference = self.var.get()
        if reference is None:
            return None
        flag = reference()
        while flag is not None and flag.has_ended:
            flag = flag.outer
        return flag

    def raised(self, flag: F) -> _Raised[F]:
        """Return a context manager that sets `flag` in its block."""
        return _Raised(self.var, flag, self.get())


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
        # The order matters if this is interrupted. A generator may end in another context than the
        # one it began in, whose flag stays as it is; so there is no reset either.
        self._flag.has_ended = True
        reference = self._var.get()
        if reference is not None and reference() is self._flag:
            self._var.set(None if self._outer is None else ref(self._outer))

"""Flags that are set inside a `with` block, in its context and copies of it.

A task or a thread may outlive the block in whose context it was started, and an interruption may
happen between setting a context variable and the `try` that resets it. So a context variable
refers to its flag weakly, and a flag counts only until its block has ended.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from types import TracebackType
from typing import Generic, Self, TypeVar
from weakref import ref

# Before Python 3.12, a collection may start while a context changes. The interpreter crashes if a
# generator that is closed by the collection changes the same context.
_COLLECTS_ANYWHERE = sys.version_info < (3, 12)


class Flag:
    """A flag that is set inside a `with` block.

    Attributes:
        outer: the enclosing flag of the same kind, if any.
        has_ended: whether the block has ended.
    """

    outer: Self | None = None
    has_ended = False


F = TypeVar("F", bound=Flag)


class _Raised(Generic[F]):
    """A flag in a context, with those around it, which remain when it has ended."""

    __slots__ = ("flag", "outer")

    def __init__(self, flag: F, outer: _Raised[F] | None) -> None:
        self.flag = ref(flag)
        self.outer = outer


class FlagVar(Generic[F]):
    """The innermost flag of one kind in the current context.

    Attributes:
        var: the context variable; its value is None where there is no flag at all.
    """

    def __init__(self, name: str) -> None:
        self.var: ContextVar[_Raised[F] | None] = ContextVar(name, default=None)

    def get(self) -> F | None:
        """Return the innermost flag whose block has not ended."""
        raised = self.var.get()
        while raised is not None:
            flag = raised.flag()
            if flag is not None and not flag.has_ended:
                return flag
            raised = raised.outer
        return None

    def raised(self, flag: F) -> _Block[F]:
        """Return a context manager that sets `flag` in its block."""
        outer = self.var.get()
        while outer is not None:
            flag.outer = outer.flag()
            if flag.outer is not None and not flag.outer.has_ended:
                break
            flag.outer, outer = None, outer.outer
        return _Block(self.var, flag, _Raised(flag, outer))


class _Block(Generic[F]):
    __slots__ = ("_flag", "_raised", "_var")

    def __init__(self, var: ContextVar[_Raised[F] | None], flag: F, raised: _Raised[F]) -> None:
        self._var = var
        self._flag = flag
        self._raised = raised

    def __enter__(self) -> F:
        self._var.set(self._raised)
        return self._flag

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The order matters if this is interrupted. A generator may end in another context than the
        # one it began in, whose flag stays as it is; so there is no reset either.
        self._flag.has_ended = True
        if kind is GeneratorExit and _COLLECTS_ANYWHERE:
            return
        if self._var.get() is self._raised:
            self._var.set(self._raised.outer)

"""What a caller asks for its predictions, and how it learns what came of them.

`bypass()` and `refresh()` go around predictions, `last_outcome()` after them. All of it is in the
caller's context, so threads and asyncio tasks do not disturb each other, and no web framework is
needed. A web framework runs predictions in other threads, from which a context variable does not
travel back: `record_outcomes()` collects the outcomes of those as well.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, TypeAlias, overload

from model_cache.context import Flag, FlagVar
from model_cache.observing.outcome import Outcome

Mode: TypeAlias = Literal["bypass", "refresh"]

_MOST_RECORDED = 256


class Outcomes(Sequence[Outcome]):
    """Outcomes as they are recorded, oldest first; of more than 256, hits are let go first."""

    def __init__(self) -> None:
        self._outcomes: list[Outcome] = []
        self._lock = threading.RLock()  # a signal handler may predict while this thread records

    def add(self, outcome: Outcome) -> None:
        """Record one more."""
        with self._lock:
            if len(self._outcomes) >= _MOST_RECORDED:
                kinds = [one.kind for one in self._outcomes]
                del self._outcomes[kinds.index("hit") if "hit" in kinds else 0]
            self._outcomes.append(outcome)

    @overload
    def __getitem__(self, place: int) -> Outcome: ...

    @overload
    def __getitem__(self, place: slice) -> list[Outcome]: ...

    def __getitem__(self, place: int | slice) -> Outcome | list[Outcome]:
        return self._outcomes[place]

    def __len__(self) -> int:
        return len(self._outcomes)

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self._outcomes.copy())  # others may go on recording


class Scope(Flag):
    """What a `with` block says of the predictions in it, and where it wants their outcomes."""

    __slots__ = ("mode", "recorders")

    def __init__(self, mode: Mode | None, recorders: tuple[Outcomes, ...]) -> None:
        super().__init__()
        self.mode = mode
        self.recorders = recorders


_OUTSIDE = Scope(None, ())
scopes: FlagVar[Scope] = FlagVar("model_cache_scope")
# The last outcome of this context, with the innermost recorder that recorded it.
last: ContextVar[tuple[Outcome | None, Outcomes | None]] = ContextVar(
    "model_cache_last_outcome", default=(None, None)
)


def _current() -> Scope:
    return scopes.get() or _OUTSIDE


@contextmanager
def bypass() -> Iterator[None]:
    """Predict without the cache: in this block nothing is read from it nor written to it.

    Inputs are still rounded, if so configured, so that answers do not depend on this. Not for use
    around a `yield`: what a generator sets, its consumer sees as well, or nobody.
    """
    with _scoped("bypass"):
        yield


@contextmanager
def refresh() -> Iterator[None]:
    """Compute anew: in this block nothing is read from the cache, and what is computed is stored.

    The model's errors come through, even with `stale_if_error`. Not for use around a `yield`.
    """
    with _scoped("refresh"):
        yield


@contextmanager
def record_outcomes() -> Iterator[Outcomes]:
    """Record the outcomes of the predictions in this block, in threads started from it, too.

    Those threads must run in a copy of the context, as `asyncio.to_thread` and the thread pool
    of Starlette and FastAPI do. Not for use around a `yield`.

    Returns:
        The outcomes, oldest first; it fills as predictions are made. Of more than 256, hits are
        let go first.
    """
    outcomes = Outcomes()
    with _scoped(_current().mode, outcomes):
        yield outcomes


@contextmanager
def _scoped(mode: Mode | None, *recorders: Outcomes) -> Iterator[None]:
    with scopes.raised(Scope(mode, (*_current().recorders, *recorders))):
        yield


def last_outcome() -> Outcome | None:
    """Return what came of the last prediction in this context; None before the first.

    Inside `record_outcomes()`, as in a web framework's request, and if this very context has made
    no prediction there, it is the last one recorded: that of a worker thread.
    """
    outcome, recorder = last.get()
    recorders = _current().recorders
    if not recorders or recorder is recorders[-1]:
        return outcome
    return recorders[-1][-1] if recorders[-1] else None


def requested_mode() -> Mode | None:
    """Return what the innermost block around asks for."""
    scope = scopes.get()
    return None if scope is None else scope.mode


def innermost_scope() -> Scope | None:
    """Return the innermost block around, if any."""
    return scopes.get()


def note(outcome: Outcome, scope: Scope | None) -> None:
    """Make an outcome the last one, in the innermost block around."""
    if scope is None or not scope.recorders:
        last.set((outcome, None))
        return
    last.set((outcome, scope.recorders[-1]))
    for recorder in scope.recorders:
        recorder.add(outcome)

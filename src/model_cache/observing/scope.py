"""Control predictions in a block, and read their outcomes.

`bypass()`, `refresh()` and `read_only()` wrap predictions, `last_outcome()` follows them. All state
is in context variables, so threads and asyncio tasks are independent. A web framework runs
predictions in other threads, and context variables do not propagate back from these:
`record_outcomes()` collects their outcomes as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, TypeAlias, overload

from model_cache.context import Flag, FlagVar
from model_cache.forks import ForkSafeLock
from model_cache.observing.outcome import Outcome

Mode: TypeAlias = Literal["bypass", "refresh", "read_only", "direct"]

_MOST_RECORDED = 256

_recording = ForkSafeLock()  # one for all, since it is held only briefly


class Outcomes(Sequence[Outcome]):
    """Recorded outcomes, oldest first. Beyond 256, the oldest hits are dropped first."""

    def __init__(self) -> None:
        self._outcomes: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        """Record an outcome."""
        with _recording:
            if len(self._outcomes) >= _MOST_RECORDED:
                self._drop_one()
            self._outcomes.append(outcome)

    def _drop_one(self) -> None:
        kinds = [one.kind for one in self._outcomes]
        del self._outcomes[kinds.index("hit") if "hit" in kinds else 0]

    @overload
    def __getitem__(self, place: int) -> Outcome: ...

    @overload
    def __getitem__(self, place: slice) -> list[Outcome]: ...

    def __getitem__(self, place: int | slice) -> Outcome | list[Outcome]:
        return self._outcomes[place]

    def __len__(self) -> int:
        return len(self._outcomes)

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self._outcomes.copy())  # other threads may still be recording


class Scope(Flag):
    """What a `with` block says of the predictions in it, and where it wants their outcomes."""

    def __init__(self, mode: Mode | None, recorders: tuple[Outcomes, ...]) -> None:
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
    """Predict without the cache: predictions in this block neither read it nor write it.

    Inputs are still rounded, if so configured, so that the answers are the same. Do not use it
    around a `yield`: context variables set in a generator may leak to its consumer.
    """
    with _scoped("bypass"):
        yield


@contextmanager
def refresh() -> Iterator[None]:
    """Recompute: predictions in this block do not read the cache, and their results are stored.

    Each is a barrier for its input: no process of the fleet stores a prediction that it began to
    compute before, and near caches drop the older entry within a second.

    The model's errors are raised, even with `stale_if_error`. Do not use it around a `yield`.
    """
    with _scoped("refresh"):
        yield


@contextmanager
def read_only() -> Iterator[None]:
    """Read the cache and don't write it: hits are served, misses are computed and not stored.

    For canaries, tests and replays of old requests, which must not fill the cache. A miss does
    not wait for other callers, and they don't wait for it. Entries past their ttl are not computed
    again in the background; they answer only if the model raises. `store()` stores nothing;
    `forget()` and `purge()` still delete. Do not use it around a `yield`.
    """
    with _scoped("read_only"):
        yield


@contextmanager
def record_outcomes() -> Iterator[Outcomes]:
    """Record the outcomes of the predictions in this block, including those in other threads.

    These threads must run in a copy of the context, as with `asyncio.to_thread` and the thread
    pool of Starlette and FastAPI. Do not use it around a `yield`.

    Returns:
        The outcomes, oldest first, a sequence that grows as predictions are made. Beyond 256, the
        oldest hits are dropped first.
    """
    outcomes = Outcomes()
    with _scoped(_current().mode, outcomes):
        yield outcomes


@contextmanager
def _scoped(mode: Mode | None, *recorders: Outcomes) -> Iterator[None]:
    with scopes.raised(Scope(mode, (*_current().recorders, *recorders))):
        yield


def last_outcome() -> Outcome | None:
    """Return the outcome of the last prediction in this context; None before the first.

    Inside `record_outcomes()`, if this context has made no prediction itself, it returns the last
    recorded outcome, such as that of a worker thread.
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


def forbids_writes() -> bool:
    """Return whether nothing may be stored in the innermost block around."""
    return requested_mode() in {"bypass", "read_only"}


def note(outcome: Outcome) -> None:
    """Make an outcome the last one, in the innermost block around."""
    scope = scopes.get()
    if scope is None or not scope.recorders:
        last.set((outcome, None))
        return
    last.set((outcome, scope.recorders[-1]))
    for recorder in scope.recorders:
        recorder.add(outcome)

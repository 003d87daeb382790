"""What came of a prediction, and what a caller may ask for the next ones.

All of it is in the caller's context, so threads and asyncio tasks do not disturb each other, and
no web framework is needed: `last_outcome()` after a prediction, `bypass()` and `refresh()` around
one. Whoever runs predictions in other threads, as web frameworks do, sets a holder beforehand
with `record_outcomes()`: a value that is set in a thread does not travel back, what is put into
the holder does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal[
    "hit", "shared", "stale", "miss", "uncacheable", "unavailable", "bypass", "error", "off"
]
Fate: TypeAlias = Literal[
    "stored", "queued", "skipped", "lossy", "too_large", "write_failed", "dropped"
]
Mode: TypeAlias = Literal["bypass", "refresh"]

_MOST_RECORDED = 256


class Outcome(NamedTuple):
    """What came of one prediction.

    Attributes:
        kind: "hit": from the cache. "shared": what another caller, who needed the same, computed
            at that moment. "stale": an entry past its ttl, since the model raised. "miss":
            computed. Computed without the cache: "uncacheable", the input has no key;
            "unavailable", the store failed; "bypass", the caller asked for that; "off", the cache
            is turned off. "error": the model raised.
        model: the model's qualified name.
        version: its version.
        seconds: all that the prediction took.
        store_seconds: what of it went to the store, reading and writing.
        write_seconds: what of that went to writing.
        model_seconds: what of it went to the model.
        entry_bytes: the size of the entry that was found, or made; 0 for none.
        fate: what became of a computed prediction: "stored"; "queued", to be stored in the
            background; "skipped", by the word of `cache_if` or `do_not_store()`; "lossy", it
            would come back changed; "too_large"; "write_failed"; "dropped", since the cache was
            purged or the model reloaded meanwhile. None if it was not to be stored.
        store_error: in a word, why the store failed ("timeout", "connection", "circuit_open",
            an error reply's code); None if it did not.
        undecodable: whether the store held something that is no valid entry.
        refreshed: whether the caller asked not to be answered from the cache.
    """

    kind: Kind
    model: str
    version: str
    seconds: float
    store_seconds: float = 0.0
    write_seconds: float = 0.0
    model_seconds: float = 0.0
    entry_bytes: int = 0
    fate: Fate | None = None
    store_error: str | None = None
    undecodable: bool = False
    refreshed: bool = False


class _Scope(NamedTuple):
    """What a `with` block says of the predictions in it, and where it wants their outcomes."""

    mode: Mode | None = None
    outcomes: deque[Outcome] | None = None


_OUTSIDE = _Scope()
_scope: ContextVar[_Scope] = ContextVar("model_cache_scope", default=_OUTSIDE)
_last: ContextVar[Outcome | None] = ContextVar("model_cache_last_outcome", default=None)


@contextmanager
def bypass() -> Iterator[None]:
    """Predict without the cache: in this block nothing is read from it nor written to it.

    Inputs are still rounded, if so configured, so that answers do not depend on this.
    """
    with _scoped(_scope.get()._replace(mode="bypass")):
        yield


@contextmanager
def refresh() -> Iterator[None]:
    """Compute anew: in this block nothing is read from the cache, and what is computed is stored.

    The model's errors come through, even with `stale_if_error`.
    """
    with _scoped(_scope.get()._replace(mode="refresh")):
        yield


@contextmanager
def record_outcomes() -> Iterator[deque[Outcome]]:
    """Record the outcomes of the predictions in this block, in threads started from it, too.

    Those threads must run in a copy of the context, as `asyncio.to_thread` and the thread pool
    of Starlette and FastAPI do.

    Yields:
        The outcomes, oldest first, and of many the last 256; it fills as predictions are made.
    """
    outcomes: deque[Outcome] = deque(maxlen=_MOST_RECORDED)
    with _scoped(_scope.get()._replace(outcomes=outcomes)):
        yield outcomes


@contextmanager
def _scoped(scope: _Scope) -> Iterator[None]:
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)


def last_outcome() -> Outcome | None:
    """Return what came of the last prediction in this context; None before the first.

    Inside `record_outcomes()`, as in a web framework's request, it is the last one recorded.
    """
    outcomes = _scope.get().outcomes
    if outcomes is None:
        return _last.get()
    return outcomes[-1] if outcomes else None


def requested_mode() -> Mode | None:
    """Return what the innermost block around asks for."""
    return _scope.get().mode


def note(outcome: Outcome) -> None:
    """Make an outcome the last one."""
    _last.set(outcome)
    outcomes = _scope.get().outcomes
    if outcomes is not None:
        outcomes.append(outcome)

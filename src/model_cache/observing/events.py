"""What happened, as frozen objects that are handed to hooks.

Each prediction is an `Outcome`, and each entry written an `EntryStored`; these go to the user's
hooks only. All other events are rare, and logged as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from model_cache.observing.outcome import Outcome


@dataclass(frozen=True)
class StoreLost:
    """The store failed repeatedly; predictions go straight to the model until it is back."""

    reason: str


@dataclass(frozen=True)
class StoreFound:
    """The store answers again."""

    place: str


@dataclass(frozen=True)
class EntryStored:
    """An entry was written, before `predict` returned or in the background.

    Attributes:
        entry_bytes: its size, the key not counted.
        seconds: what the write took.
    """

    model: str
    version: str
    entry_bytes: int
    seconds: float


@dataclass(frozen=True)
class WriteFailed:
    """An entry was not stored, though reading works."""

    model: str
    version: str
    kind: str
    reason: str


@dataclass(frozen=True)
class InputNotCacheable:
    """An input has no key: it was predicted without the cache."""

    model: str
    reason: str


@dataclass(frozen=True)
class PredictionNotStored:
    """A prediction was returned, but can't be kept."""

    model: str
    reason: str


@dataclass(frozen=True)
class StaleServed:
    """The model raised, and an entry past its time answered for it."""

    model: str
    error: str


@dataclass(frozen=True)
class BindingFailed:
    """A model changed under the decorator and can't be cached as configured any more."""

    model: str
    reason: str


Event: TypeAlias = (
    Outcome
    | EntryStored
    | StoreLost
    | StoreFound
    | WriteFailed
    | InputNotCacheable
    | PredictionNotStored
    | StaleServed
    | BindingFailed
)
Hook: TypeAlias = Callable[[Event], None]

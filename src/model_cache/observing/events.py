"""The events that hooks receive, as frozen objects.

Each prediction is an `Outcome`, and each entry written an `EntryStored`, each verified hit a
`HitVerified`; these go only to the user's hooks. All other events are rare and are also logged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from model_cache.observing.outcome import Outcome


@dataclass(frozen=True)
class StoreLost:
    """The store failed repeatedly; predictions bypass it until it answers again."""

    reason: str


@dataclass(frozen=True)
class StoreFound:
    """The store answers again."""

    place: str


@dataclass(frozen=True)
class EntryStored:
    """An entry was written, before `predict` returned or in the background.

    Attributes:
        entry_bytes: its size, without the key.
        seconds: how long the write took.
    """

    model: str
    version: str
    entry_bytes: int
    seconds: float


@dataclass(frozen=True)
class WriteFailed:
    """An entry could not be written, although reads work."""

    model: str
    version: str
    kind: str
    reason: str


@dataclass(frozen=True)
class InputNotCacheable:
    """An input has no key, so it was predicted without the cache."""

    model: str
    reason: str


@dataclass(frozen=True)
class PredictionNotStored:
    """A prediction was returned but can't be stored."""

    model: str
    reason: str


@dataclass(frozen=True)
class StaleServed:
    """The model raised, and an entry past its ttl was returned instead."""

    model: str
    error: str


@dataclass(frozen=True)
class RevalidationFailed:
    """The model raised while a stale entry was computed again; the entry continues to answer."""

    model: str
    error: str


@dataclass(frozen=True)
class HitVerified:
    """A hit was computed again and compared; if it was wrong, a `WrongHit` follows."""

    model: str
    version: str


@dataclass(frozen=True)
class WrongHit:
    """A hit differs from what the model answers now.

    Attributes:
        key: the key of the entry.
        fields: the fields that differ, at most ten.
        difference: the largest difference between its numbers, to three digits; 0.0 if other
            values differ.
    """

    model: str
    version: str
    key: str
    fields: tuple[str, ...]
    difference: float


@dataclass(frozen=True)
class ServingStopped:
    """Too many hits were wrong; the entries are not served until a purge or a new version.

    Attributes:
        wrong: how many entries were wrong.
        verified: how many hits were verified.
    """

    model: str
    version: str
    wrong: int
    verified: int


@dataclass(frozen=True)
class BindingFailed:
    """The model changed under the decorator and can no longer be cached as configured."""

    model: str
    reason: str


@dataclass(frozen=True)
class CachePaused:
    """With `adaptive`: the cache costs more time than it saves, so most predictions skip it.

    Attributes:
        batches: whether this is about batches, or about single predictions.
        hit_ratio: the share of hits among the lookups that decided.
        break_even: the share above which the cache would pay; `math.inf` if hits take longer
            than the model.
    """

    model: str
    version: str
    batches: bool
    hit_ratio: float
    break_even: float


@dataclass(frozen=True)
class CacheResumed:
    """With `adaptive`: the cache saves time again; the fields are those of `CachePaused`."""

    model: str
    version: str
    batches: bool
    hit_ratio: float
    break_even: float


@dataclass(frozen=True)
class RequestsNotRecorded:
    """Requests could not be written to the folder of the option `record`; predictions go on."""

    model: str
    folder: str
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
    | RevalidationFailed
    | HitVerified
    | WrongHit
    | ServingStopped
    | BindingFailed
    | CachePaused
    | CacheResumed
    | RequestsNotRecorded
)
Hook: TypeAlias = Callable[[Event], None]

"""The state of one call of `predict`, and its outcome."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from model_cache.binding import Bound
from model_cache.errors import NotCacheableError
from model_cache.observing.outcome import Fate, Kind, Outcome
from model_cache.observing.scope import Mode
from model_cache.prediction.generation import UNKNOWN, Generation, Value
from model_cache.prediction.near import Near

_FOUND = frozenset(("hit", "shared", "stale"))
_MADE = frozenset(("stored", "queued"))


@dataclass(slots=True, eq=False, repr=False)
class Call:
    """A prediction in progress; collects the fields of its `Outcome`.

    Attributes:
        binding: the binding of the model.
        data: the input as the model receives it: rounded, if so configured.
        key: the key of its entry; None if the cache is not used.
        mode: the caller's mode, such as bypass; or "direct", see `gates`.
        epoch: the barrier's epoch from before the binding was read.
        began: when it began, by `time.perf_counter`.
        renews: whether the stored entry is not read but replaced: the mode is "refresh", or the
            entry may be too old.
        asked: when its key was looked up.
        revalidates: whether the stale prediction answers at once.
        stale: a prediction past its ttl that was found.
        near: whether the entry came from the near cache.
        near_key: the entry's key in the near cache; None without a near cache.
        answer: the prediction, if the near cache had it.
        must_check: whether the near cache has an entry that needs a check of the generation.
        seconds_left: how many seconds a found entry may still be a hit.
        generation: the generation of the namespace.
        seen: the generation's value when the call began.
        changes: the barrier's `changes` when the call began.
        age: how many seconds ago the entry was written, if that is known.
        ttl: how many seconds the entry stays fresh, if that is known.
        entry: the entry that was found or made.
        redis_ttl: the time to live in Redis of one that was made, in milliseconds; None for no
            limit.
        is_late: whether it computes in the background, when its input may have changed.
        batch_size: how many rows were answered together; 0 if nobody has said so.
        is_running: whether the event loop that drives the call is running; None in a thread.
    """

    binding: Bound
    data: Any
    began: float
    key: bytes | None = None
    mode: Mode | None = None
    renews: bool = False
    epoch: int = 0
    asked: float = 0.0
    stale: Any | None = None
    near: bool = False
    near_key: bytes | None = None
    answer: Any | None = None
    must_check: bool = False
    seconds_left: float = math.inf
    generation: Generation | None = None
    seen: Value = UNKNOWN
    changes: int = 0
    age: float | None = None
    ttl: float | None = None
    entry: bytes | None = None
    redis_ttl: int | None = None
    is_late: bool = False
    is_running: Callable[[], bool] | None = None
    kind: Kind | None = None
    fate: Fate | None = None
    store_seconds: float = 0.0
    write_seconds: float = 0.0
    model_seconds: float = 0.0
    entry_bytes: int = 0
    store_error: str | None = None
    undecodable: bool = False
    revalidates: bool = False
    batch_size: int = 0

    def read(self, entry: bytes, left: float | None) -> None:
        """Note an entry that was read, and how many seconds it says that it stays fresh."""
        self.entry, self.entry_bytes = entry, len(entry)
        if left is not None:
            self.ttl = left
        elif self.seconds_left < math.inf:
            self.ttl = self.seconds_left

    def read_near(self, found: Near) -> None:
        """Note that an entry of the near cache is the answer."""
        self.kind, self.near = "hit", True
        self.entry, self.entry_bytes = found.entry, len(found.entry)
        self.age = None if found.written is None else self.began - found.written
        self.ttl = None if found.ends is None else found.ends - self.began

    def made(self, entry: bytes, ttl: int | None, stale: int) -> None:
        """Note a new entry.

        Args:
            entry: the entry.
            ttl: its time to live in Redis, in milliseconds; None for no limit.
            stale: for how much of that it is past its ttl.
        """
        self.entry, self.entry_bytes, self.age = entry, len(entry), 0.0
        self.redis_ttl, self.seconds_left, self.ttl = ttl, math.inf, None
        if ttl is not None:
            self.seconds_left, self.ttl = ttl / 1000, (ttl - stale) / 1000

    def has_changed(self) -> bool:
        """Return whether the input has changed since its key was made."""
        try:
            return self.binding.keys.key_of(self.binding.canonical(self.data)) != self.key
        except NotCacheableError:
            return True

    def outcome(self, seconds: float) -> Outcome:
        """Return its outcome after the given seconds."""
        assert self.kind is not None
        binding = self.binding
        has_entry = self.kind in _FOUND or self.fate in _MADE
        fields = (
            self.kind,
            binding.qualified_name,
            binding.version,
            seconds,
            self.store_seconds,
            self.write_seconds,
            self.model_seconds,
            self.entry_bytes,
            self.fate,
            self.store_error,
            self.undecodable,
            self.mode == "refresh",
            self.near,
            self.age if has_entry else None,
            self.ttl if has_entry else None,
            1,
            self.batch_size or 1,
        )
        # A NamedTuple's own __new__ is written in Python, and takes twice as long.
        outcome: Outcome = tuple.__new__(Outcome, fields)
        return outcome

"""The state of one call of `predict`, and its outcome."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from model_cache.binding import Bound
from model_cache.observing.outcome import Fate, Kind, Outcome
from model_cache.observing.scope import Mode
from model_cache.prediction.generation import UNKNOWN, Generation, Value


class Call:
    """A prediction in progress; collects the fields of its `Outcome`.

    Attributes:
        binding: the binding of the model.
        data: the input as the model receives it: rounded, if so configured.
        key: the key of its entry; None if the cache is not used.
        mode: the caller's mode, such as bypass; or "direct", see `gates`.
        epoch: the barrier's epoch from before the binding was read.
        began: when it began, by `time.perf_counter`.
        asked: when its key was looked up.
        revalidates: whether the stale prediction answers at once.
        stale: a prediction past its ttl that was found.
        near: whether the entry came from the near cache.
        near_key: the entry's key in the near cache; None without a near cache.
        answer: the prediction, if the near cache had it.
        unchecked: an entry from the near cache that needs a check of the generation.
        seconds_left: how many seconds a found entry may still be a hit.
        generation: the generation of the namespace.
        seen: the generation's value when the call began.
        changes: the barrier's `changes` when the call began.
        batch_size: how many rows were answered together; 0 if nobody has said so.
        is_lost: whether nobody drives the call any more; None if somebody always will.
    """

    # Defaults of the class, since most calls are hits, which change few of them.
    key: bytes | None = None
    mode: Mode | None = None
    epoch: int = 0
    asked: float = 0.0
    stale: Any | None = None
    near: bool = False
    near_key: bytes | None = None
    answer: Any | None = None
    unchecked: bytes | None = None
    seconds_left: float = math.inf
    generation: Generation | None = None
    seen: Value = UNKNOWN
    changes: int = 0
    is_lost: Callable[[], bool] | None = None
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

    def __init__(self, binding: Bound, data: Any, began: float) -> None:
        self.binding = binding
        self.data = data
        self.began = began

    def outcome(self, seconds: float) -> Outcome:
        """Return its outcome after the given seconds."""
        assert self.kind is not None
        binding = self.binding
        return Outcome(
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
            1,
            self.batch_size or 1,
        )

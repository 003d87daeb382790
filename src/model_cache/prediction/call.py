"""One call of `predict`: what it asks for, and what there is to tell of it in the end."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel

from model_cache.binding import Bound
from model_cache.observing.outcome import Fate, Kind, Outcome
from model_cache.observing.scope import Mode


class Call:
    """A prediction on its way; the fields of its `Outcome` are filled in as they become known.

    Attributes:
        binding: the model.
        data: the input as the model sees it: rounded, if so configured.
        key: where its prediction is kept; None if the cache has no part in it.
        mode: what the caller asks for.
        epoch: the barrier's, from before the binding was read.
        began: when it began, by `time.perf_counter`.
        asked: when its key was looked up.
        stale: a prediction past its ttl that was found.
        is_lost: whether nobody drives it any more; None if somebody always will.
    """

    # Defaults of the class, since most calls are hits, which change few of them.
    key: bytes | None = None
    mode: Mode | None = None
    epoch: int = 0
    asked: float = 0.0
    stale: BaseModel | None = None
    is_lost: Callable[[], bool] | None = None
    kind: Kind | None = None
    fate: Fate | None = None
    store_seconds: float = 0.0
    write_seconds: float = 0.0
    model_seconds: float = 0.0
    entry_bytes: int = 0
    store_error: str | None = None
    undecodable: bool = False

    def __init__(self, binding: Bound, data: BaseModel, began: float) -> None:
        self.binding = binding
        self.data = data
        self.began = began

    def outcome(self, seconds: float) -> Outcome:
        """Return what came of it, after so many seconds."""
        assert self.kind is not None
        return Outcome(
            self.kind,
            self.binding.qualified_name,
            self.binding.version,
            seconds,
            self.store_seconds,
            self.write_seconds,
            self.model_seconds,
            self.entry_bytes,
            self.fate,
            self.store_error,
            self.undecodable,
            self.mode == "refresh",
        )

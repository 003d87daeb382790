"""What came of one prediction: the record that counters, hooks and callers get."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal[
    "hit", "shared", "stale", "miss", "uncacheable", "unavailable", "bypass", "error", "off"
]
Fate: TypeAlias = Literal[
    "stored", "queued", "skipped", "lossy", "too_large", "write_failed", "dropped"
]


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
        near: whether a hit came from the near cache, in this process.
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
    near: bool = False

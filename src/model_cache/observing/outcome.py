"""The outcome of one prediction: the record that counters, hooks and callers receive."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal[
    "hit",
    "shared",
    "stale",
    "miss",
    "uncacheable",
    "unavailable",
    "bypass",
    "direct",
    "error",
    "off",
]
Fate: TypeAlias = Literal[
    "stored", "queued", "skipped", "lossy", "too_large", "write_failed", "dropped"
]


class Outcome(NamedTuple):
    """The outcome of one prediction.

    Attributes:
        kind: "hit": from the cache. "shared": the result of a concurrent caller with the same
            input. "stale": an entry past its ttl, because the model raised. "miss": computed.
            Computed without the cache: "uncacheable", the input has no key; "unavailable", the
            store failed; "bypass", the caller used `bypass()`; "direct", the cache does not pay
            at present, see the option `adaptive`; "off", the cache is turned off. "error": the
            model raised.
        model: the model's qualified name.
        version: the model's version.
        seconds: the total time of the prediction.
        store_seconds: the part spent on the store, reading and writing.
        write_seconds: the part of `store_seconds` spent on writing.
        model_seconds: the part spent on the model.
        entry_bytes: the size of the entry that was found or created; 0 if there is none.
        fate: what happened to a computed prediction: "stored"; "queued" for a write in the
            background; "skipped" because of `cache_if`, `do_not_store()`, or a ttl of 0 or
            an invalid one; "lossy", storing would change it; "too_large"; "write_failed";
            "dropped" because the cache was purged or the model reloaded meanwhile. None if it was
            not meant to be stored.
        store_error: why the store failed, as one word ("timeout", "connection", "circuit_open",
            or the code of an error reply); None if it did not fail.
        undecodable: whether the store held something that is not a valid entry.
        refreshed: whether the prediction was made inside `refresh()`.
        near: whether a hit came from the near cache, in this process.
        age: how many seconds ago the entry was written; 0.0 if it is new. Known for entries that
            this process wrote, as long as they are in its near cache; else None.
        ttl: how many seconds the entry has left, negative if it is past its ttl. None if it has
            no ttl, or if it is unknown: a hit in Redis knows it with `near_cache`,
            `stale_if_error` or `stale_while_revalidate`, without which it would cost a command.
        rows: how many rows of a table it describes; its times and sizes are those of one row, on
            average.
        batch_size: how many rows were answered together: by the model, for a computed one; else
            for the caller. 1 for a single prediction.
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
    age: float | None = None
    ttl: float | None = None
    rows: int = 1
    batch_size: int = 1

"""The counters of a decorator, and the snapshot that `stats()` returns."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, fields

from model_cache.forks import renew_after_fork
from model_cache.observing.outcome import Outcome

_COUNTERS = {
    "hit": "hits",
    "shared": "shared",
    "stale": "stale",
    "miss": "misses",
    "uncacheable": "uncacheable",
    "unavailable": "unavailable",
    "bypass": "bypassed",
    "error": "errors",
}
_MOST_NEAR = 4096
_UNSTORED = ("skipped", "lossy", "too_large")


@dataclass(frozen=True)
class Stats:
    """What a decorator has done in this process since it was created; an immutable snapshot.

    Every prediction counts as exactly one of: hit, shared, stale, miss, uncacheable, unavailable,
    bypassed, error; except those made while the cache is turned off.

    Attributes:
        hits: answered from the cache.
        shared: answered with the result of a concurrent caller with the same input.
        stale: answered with an entry past its ttl because the model raised.
        misses: computed because the cache held no usable entry.
        uncacheable: computed without the cache because the input has no key.
        unavailable: computed (or, with `on_error="raise"`, failed) because the store failed.
        bypassed: computed without the cache because the caller used `bypass()`.
        errors: the model raised, and there was no stale entry to answer with.
        undecodable: lookups that found something that is not a valid entry.
        stored: entries written.
        bytes_stored: the size of these entries, without keys.
        skipped: predictions not stored because of `cache_if`, `do_not_store()`, or their ttl.
        lossy: predictions not stored because storing would change them.
        too_large: predictions not stored because their entry exceeds `max_entry_bytes`.
        write_failures: entries that could not be written.
        revalidated: stale entries that were computed anew in the background.
        near_hits: hits from the near cache, in this process; part of `hits`.
        hit_seconds: the total time of the hits.
        model_seconds: the total time of the model for the misses.
        store: the state of the circuit breaker: "closed" while requests go through, "open" while
            it blocks them, "partly_open" while it blocks some nodes of a cluster, "read_only"
            while reads work and the last write was refused, "off" if the cache is turned off.
    """

    hits: int = 0
    shared: int = 0
    stale: int = 0
    misses: int = 0
    uncacheable: int = 0
    unavailable: int = 0
    bypassed: int = 0
    errors: int = 0
    undecodable: int = 0
    stored: int = 0
    bytes_stored: int = 0
    skipped: int = 0
    lossy: int = 0
    too_large: int = 0
    write_failures: int = 0
    near_hits: int = 0
    revalidated: int = 0
    hit_seconds: float = 0.0
    model_seconds: float = 0.0
    store: str = "closed"

    @property
    def predictions(self) -> int:
        """All predictions."""
        answered = self.hits + self.shared + self.stale
        uncached = self.uncacheable + self.unavailable + self.bypassed
        return answered + self.misses + uncached + self.errors

    @property
    def hit_ratio(self) -> float:
        """The share of predictions that were hits; 0.0 before the first prediction."""
        return self.hits / self.predictions if self.predictions else 0.0

    @property
    def seconds_saved(self) -> float:
        """The model's mean time for a miss, times the hits, less the time of the hits."""
        if not self.misses:
            return 0.0
        return self.hits * self.model_seconds / self.misses - self.hit_seconds


def added_up(many: Iterable[Stats], store: str) -> Stats:
    """Return the sum of several snapshots, with the state of their store."""
    snapshots = list(many)
    names = [field.name for field in fields(Stats) if field.name != "store"]
    sums = {name: sum(getattr(each, name) for each in snapshots) for name in names}
    return Stats(**sums, store=store)


class Counters:
    """Thread-safe counters."""

    def __init__(self) -> None:
        self._values: dict[str, float] = {f.name: 0 for f in fields(Stats) if f.name != "store"}
        self._near: deque[float] = deque()
        self._lock = threading.RLock()  # a signal handler may predict while this thread counts
        renew_after_fork(self)

    def add(self, **amounts: float) -> None:
        """Add to counters by name."""
        with self._lock:
            for name, amount in amounts.items():
                self._values[name] += amount

    def count(self, outcome: Outcome) -> None:
        """Count a prediction."""
        kind, values = outcome.kind, self._values
        if kind == "off":
            return
        with self._lock:
            values[_COUNTERS[kind]] += outcome.rows
            if kind == "hit":
                values["hit_seconds"] += outcome.seconds * outcome.rows
                if outcome.near:
                    values["near_hits"] += outcome.rows
                return
            if kind == "miss":
                values["model_seconds"] += outcome.model_seconds
            if outcome.undecodable:
                values["undecodable"] += 1
            if outcome.fate in _UNSTORED:
                values[outcome.fate] += 1

    def near_hit(self, seconds: float) -> None:
        """Count a hit of the near cache; they are added up later, since they are many."""
        near = self._near
        near.append(seconds)
        if len(near) >= _MOST_NEAR:
            self._add_up()

    def _add_up(self) -> None:
        count, seconds, near = 0, 0.0, self._near
        with suppress(IndexError):
            while True:
                seconds += near.popleft()
                count += 1
        self.add(hits=count, near_hits=count, hit_seconds=seconds)

    def snapshot(self, store: str) -> Stats:
        """Return the values of this moment."""
        self._add_up()
        with self._lock:
            return Stats(store=store, **self._values)  # type: ignore[arg-type]

    def after_fork(self) -> None:
        """Begin at zero: the counts are the parent's."""
        self._near = deque()
        self._lock = threading.RLock()
        self._values = dict.fromkeys(self._values, 0)

"""The counters of a decorator, and the snapshot that `stats()` returns."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from weakref import WeakMethod

from model_cache.forks import renew_after_fork
from model_cache.observing.costs import (
    UNKNOWN_TIMES,
    ModelTimes,
    break_even,
    model_times,
    seconds_saved,
)
from model_cache.observing.intervals import highest_share
from model_cache.observing.outcome import Outcome

_COUNTERS = {
    "hit": "hits",
    "shared": "shared",
    "stale": "stale",
    "miss": "misses",
    "uncacheable": "uncacheable",
    "unavailable": "unavailable",
    "bypass": "bypassed",
    "direct": "direct",
    "error": "errors",
}
_MOST_WAITING = 4096
_UNSTORED = ("skipped", "lossy", "too_large")


@dataclass(frozen=True)
class Stats:
    """What a decorator has done in this process since it was created; an immutable snapshot.

    Every prediction counts as exactly one of: hit, shared, stale, miss, uncacheable, unavailable,
    bypassed, direct, error; except those made while the cache is turned off.

    Attributes:
        hits: answered from the cache.
        shared: answered with the result of a concurrent caller with the same input.
        stale: answered with an entry past its ttl because the model raised.
        misses: computed because the cache held no usable entry.
        uncacheable: computed without the cache because the input has no key.
        unavailable: computed (or, with `on_error="raise"`, failed) because the store failed.
        bypassed: computed without the cache because the caller used `bypass()`.
        direct: computed without the cache because it does not pay at present; see `adaptive`.
        errors: the model raised, and there was no stale entry to answer with.
        undecodable: lookups that found something that is not a valid entry.
        stored: entries written.
        bytes_stored: the size of these entries, without keys.
        skipped: predictions not stored because of `cache_if`, `do_not_store()`, or their ttl.
        lossy: predictions not stored because storing would change them.
        too_large: predictions not stored because their entry exceeds `max_entry_bytes`.
        write_failures: entries that could not be written.
        revalidated: stale entries that were computed again in the background.
        verified: hits that were computed again, in the background, and compared.
        wrong: those of them that differed from what the model answers now.
        near_hits: hits from the near cache, in this process; part of `hits`.
        hit_seconds: the total time of the hits.
        miss_seconds: the total time of the misses, with the model's.
        model_seconds: the total time of the model for the misses.
        batch_hits: hits among the rows of batches and tables; part of `hits`.
        batch_misses: misses that the model computed together with others; part of `misses`.
        batch_model_seconds: the model's time for these; part of `model_seconds`.
        recorded: requests written to the folder of the option `record`.
        unrecorded: requests of sampled keys that were not, because writing failed or fell behind,
            or because they can't be written as JSON.
        store: the state of the circuit breaker: "closed" while requests go through, "open" while
            it blocks them, "partly_open" while it blocks some nodes of a cluster, "read_only"
            while reads work and the last write was refused, "off" if the cache is turned off,
            "wrong_entries" if too many hits were wrong, so that entries are not served.
        fleet: the mean times of the misses of all processes, including those that have ended, as
            this one has last read them; see the option `fleet_stats`.
        parts: what this is the sum of, if of more than one version or model.
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
    verified: int = 0
    wrong: int = 0
    hit_seconds: float = 0.0
    model_seconds: float = 0.0
    direct: int = 0
    batch_hits: int = 0
    batch_misses: int = 0
    miss_seconds: float = 0.0
    batch_model_seconds: float = 0.0
    recorded: int = 0
    unrecorded: int = 0
    store: str = "closed"
    fleet: ModelTimes = field(default=UNKNOWN_TIMES, repr=False)
    parts: tuple[Stats, ...] = field(default=(), repr=False)

    @property
    def predictions(self) -> int:
        """All predictions."""
        answered = self.hits + self.shared + self.stale
        uncached = self.uncacheable + self.unavailable + self.bypassed + self.direct
        return answered + self.misses + uncached + self.errors

    @property
    def hit_ratio(self) -> float:
        """The share of predictions that were hits; 0.0 before the first prediction."""
        return self.hits / self.predictions if self.predictions else 0.0

    @property
    def wrong_share(self) -> float:
        """The share of verified hits that were wrong; 0.0 before the first."""
        return self.wrong / self.verified if self.verified else 0.0

    @property
    def highest_wrong_share(self) -> float:
        """The share of wrong hits that 95 of 100 such samples would not exceed; 1.0 before any.

        The exact upper bound of Clopper and Pearson, one-sided: 0 wrong of 300 is at most 1%.
        """
        return highest_share(self.wrong, self.verified)

    @property
    def lookup_hit_ratio(self) -> float:
        """The share of hits among hits and misses; 0.0 before the first of them."""
        looked_up = self.hits + self.misses
        return self.hits / looked_up if looked_up else 0.0

    @property
    def seconds_saved(self) -> float:
        """The model time that the hits saved, less the time that they took.

        A hit counts as the model's mean time for a miss: of a single prediction, or of a row of a
        batch. A process without misses of its own goes by those of the fleet.
        """
        if self.parts:
            return sum(part.seconds_saved for part in self.parts)
        return seconds_saved(self, model_times(self).or_else(self.fleet))

    @property
    def break_even(self) -> float | None:
        """The `lookup_hit_ratio` above which the cache saves time.

        From the measured times of hits, of misses, and of the model. `math.inf` if hits take
        longer than the model; None before the first miss. With several versions or models, that
        of all together.
        """
        return break_even(self, model_times(self).or_else(self.fleet))

    @property
    def pays(self) -> bool | None:
        """Whether the cache saves time at present; None before the first miss."""
        least = self.break_even
        return None if least is None else self.lookup_hit_ratio >= least

    def _repr_html_(self) -> str:
        from model_cache.observing.notebook import table

        return table({"": self})


# What can be added up.
COUNTS = tuple(each.name for each in fields(Stats) if each.name not in ("store", "fleet", "parts"))


class StatsByModel(dict[str, Stats]):
    """Counters by `name/version`, which a notebook shows as a table."""

    def _repr_html_(self) -> str:
        from model_cache.observing.notebook import table

        return table(self)


def added_up(many: Iterable[Stats], store: str) -> Stats:
    """Return the sum of several snapshots, with the state of their store."""
    snapshots = list(many)
    store = next((each.store for each in snapshots if each.store == "wrong_entries"), store)
    parts = tuple(part for each in snapshots for part in (each.parts or (each,)))
    if len(parts) == 1:
        return replace(parts[0], store=store)
    sums = {name: sum(getattr(each, name) for each in parts) for name in COUNTS}
    return Stats(**sums, store=store, parts=parts)


class VersionCounters:
    """The counters of one version of a model; thread-safe.

    Attributes:
        fleet: the times of the fleet's misses, once they have been read.
    """

    def __init__(self, owner: Counters) -> None:
        self._owner = owner
        self.fleet = UNKNOWN_TIMES
        self.start_over()

    def start_over(self) -> None:
        """Begin at zero."""
        self._values: dict[str, float] = dict.fromkeys(COUNTS, 0)
        # Seconds of frequent kinds, added up later: a lock for each would take longer.
        self._hits: deque[float] = deque()
        self._near: deque[float] = deque()
        self._direct: deque[float] = deque()

    def add(self, **amounts: float) -> None:
        """Add to counters by name."""
        with self._owner.lock:
            self._add(amounts)
        self._owner.has_counted()

    def _add(self, amounts: dict[str, float]) -> None:
        for name, amount in amounts.items():
            self._values[name] += amount

    def count(self, outcome: Outcome) -> None:
        """Count a prediction."""
        kind, rows, values = outcome.kind, outcome.rows, self._values
        if kind == "hit" and outcome.batch_size == 1:
            self._later(self._near if outcome.near else self._hits, outcome.seconds)
            return
        if kind == "off":
            return
        with self._owner.lock:
            values[_COUNTERS[kind]] += rows
            if kind == "hit":
                values["hit_seconds"] += outcome.seconds * rows
                if outcome.near:
                    values["near_hits"] += rows
                values["batch_hits"] += rows
            elif kind == "miss":
                values["miss_seconds"] += outcome.seconds * rows
                values["model_seconds"] += outcome.model_seconds * rows
                if outcome.batch_size > 1:
                    values["batch_misses"] += rows
                    values["batch_model_seconds"] += outcome.model_seconds * rows
            if outcome.undecodable:
                values["undecodable"] += 1
            if outcome.fate in _UNSTORED:
                values[outcome.fate] += 1
        self._owner.has_counted()

    def near_hit(self, seconds: float) -> None:
        """Count a hit of the near cache."""
        self._later(self._near, seconds)

    def predicted_directly(self, seconds: float) -> None:
        """Count a prediction by `adaptive` without the cache."""
        self._later(self._direct, seconds)

    def _later(self, waiting: deque[float], seconds: float) -> None:
        waiting.append(seconds)
        if len(waiting) >= _MOST_WAITING or self._owner.is_idle:
            self._add_up()

    def _add_up(self) -> None:
        hits, seconds = _drained(self._hits)
        near, near_seconds = _drained(self._near)
        direct, _ = _drained(self._direct)
        if hits or near or direct:
            self.add(
                hits=hits + near,
                near_hits=near,
                hit_seconds=seconds + near_seconds,
                direct=direct,
            )

    def snapshot(self, store: str = "closed") -> Stats:
        """Return the values of this moment."""
        self._add_up()
        with self._owner.lock:
            return Stats(store=store, fleet=self.fleet, **self._values)  # type: ignore[arg-type]


class Counters:
    """Thread-safe counters, by version of the model.

    Attributes:
        lock: hold it while changing values.
        is_idle: whether nobody is going to collect what is counted next.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a signal handler may predict while this thread counts
        self.is_idle = False
        self._collect: Callable[[], None] | None = None
        self._state: Callable[[], Callable[[], str | None] | None] = lambda: None
        self._versions: dict[tuple[str, str], VersionCounters] = {}
        renew_after_fork(self)

    def of(self, model: str, version: str) -> VersionCounters:
        """Return the counters of one version of a model."""
        found = self._versions.get((model, version))
        if found is None:
            found = self._versions.setdefault((model, version), VersionCounters(self))
        return found

    def count(self, outcome: Outcome) -> None:
        """Count a prediction."""
        model, version = outcome.model, outcome.version
        (self._versions.get((model, version)) or self.of(model, version)).count(outcome)

    def collected_by(self, collect: Callable[[], None]) -> None:
        """Call `collect` after the next count, and again after each time that it is idle."""
        self._collect = collect
        self.is_idle = True

    def report_state(self, state: Callable[[], str | None]) -> None:
        """Ask a method for what snapshots say of the store; None for the store's own state."""
        # Weak, since it refers to the model, and counts that wait to be sent outlive that.
        self._state = WeakMethod(state)

    def has_counted(self) -> None:
        """Have the counts collected, unless somebody is about to."""
        if self.is_idle and self._collect is not None:
            self._collect()

    def by_version(self) -> Mapping[tuple[str, str], VersionCounters]:
        """Return the counters by qualified name and version."""
        return self._versions.copy()

    def snapshot(self, store: str) -> Stats:
        """Return the values of this moment."""
        state = self._state()
        store = (state() if state is not None else None) or store
        return added_up((each.snapshot(store) for each in self.by_version().values()), store)

    def after_fork(self) -> None:
        """Begin at zero: the counts are the parent's."""
        self.lock = threading.RLock()
        self.is_idle = self._collect is not None
        for each in self._versions.values():
            each.start_over()


def _drained(waiting: deque[float]) -> tuple[int, float]:
    """Empty a queue of times; return how many there were, and their sum."""
    count, seconds = 0, 0.0
    with suppress(IndexError):
        while True:
            seconds += waiting.popleft()
            count += 1
    return count, seconds

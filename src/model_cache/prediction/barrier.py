"""The effect of `purge()` and `refresh()` on predictions in progress in this process.

Both are barriers: results computed before them are not served after them. A computation that a
barrier overtakes is neither stored nor shared with later callers. All decorators of a process that
use the same store share one barrier, since they may share a namespace.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from weakref import WeakValueDictionary, ref

from model_cache.forks import renew_after_fork
from model_cache.prediction.generation import Generations
from model_cache.prediction.near import NearCache
from model_cache.protocols import Clock

# For this many seconds, a write that timed out may still reach the server.
_LATE_WRITE_SECONDS = 60.0
# More than the rows of any one call, since an older entry is returned for a key that is dropped.
_MOST_KEYS = 1_000_000
# For this many seconds after a change of its primary, a replica may have older entries.
_LONGEST_LAG = 60.0
_MOST_REPLACED = 4096


class Computation:
    """A prediction on its way from the model to the store.

    Attributes:
        key: the key of its entry.
        is_valid: whether no purge and no refresh has overtaken it.
        is_purged: whether a purge has. A refresh overwrites the entry of an overtaken write.
        is_writing: whether a write is in progress.
        ended_at: when it ended, by the barrier's clock; None until then.
    """

    __slots__ = ("__weakref__", "ended_at", "is_purged", "is_valid", "is_writing", "key")

    def __init__(self, key: bytes, is_valid: bool) -> None:
        self.key = key
        self.is_valid = is_valid
        self.is_purged = False
        self.is_writing = False
        self.ended_at: float | None = None


class Barrier:
    """Tracks the computations in this process and invalidates them on a purge or refresh.

    Args:
        clock: seconds, as `time.perf_counter`.
        sleep: waits for the given seconds.

    Attributes:
        epoch: how many purges have begun. Read it before the binding is read: what is computed
            with a binding from before a purge counts as begun before it.
        distrusted: the keys that `distrusts`, each with the time until which it does.
        changes: counts the beginnings and ends of purges and refreshes.
        generations: the generations of the store's namespaces.
    """

    def __init__(
        self, clock: Clock = time.perf_counter, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.epoch = 0
        self.changes = 0
        self.clock = clock
        self.generations = Generations()
        self._near_caches: list[ref[NearCache]] = []
        self._sleep = sleep
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Drop the computations, which belong to the parent."""
        self._lock = threading.RLock()
        # Weak, so that an interrupted computation disappears on its own.
        self._computations: set[ref[Computation]] = set()
        self._overtaken_writes: list[ref[Computation]] = []
        # Keys of writes with an unknown result, each with the time of the write ...
        self._late_writes: OrderedDict[bytes, float] = OrderedDict()
        # ... and those that a barrier has overtaken, each with the time until which it counts.
        self.distrusted: OrderedDict[bytes, float] = OrderedDict()
        # The times until which replicas may have older entries: of single keys, and of all.
        self._replaced: OrderedDict[bytes, float] = OrderedDict()
        self._purged_until = -math.inf

    def has_near_cache(self, near: NearCache) -> None:
        """Register a near cache in front of the store."""
        with self._lock:
            self._near_caches = [*self._living_near_caches(), ref(near)]

    def _living_near_caches(self) -> list[ref[NearCache]]:
        return [each for each in self._near_caches if each() is not None]

    def _clear_near_caches(self) -> None:
        for each in self._near_caches:
            near = each()
            if near is not None:
                near.clear()

    def begin(self, key: bytes, epoch: int, *, refreshes: bool = False) -> Computation:
        """Register a computation.

        Args:
            key: the key of the entry.
            epoch: the barrier's epoch when the prediction was requested.
            refreshes: whether it overtakes all others for this key.
        """
        with self._lock:
            if refreshes:
                self.overtake([key])
            computation = Computation(key, epoch == self.epoch)
            computations = self._computations
            computations.add(ref(computation, computations.discard))
        return computation

    def overtake(self, keys: Collection[bytes]) -> None:
        """Invalidate the computations for some keys, before a refresh of all of them begins."""
        if not keys:
            return
        with self._lock:
            self.changes += 1
            self._overtake(frozenset(keys).__contains__, self._late_writes.keys() & keys)

    def end(self, computation: Computation) -> None:
        """Record the end of a computation."""
        computation.is_writing = False
        computation.ended_at = self.clock()
        self._computations.discard(ref(computation))  # equal, as both refer to it

    def may_write(self, computation: Computation) -> bool:
        """Return whether the entry may be written; call `end` afterwards."""
        with self._lock:
            computation.is_writing = computation.is_valid
            return computation.is_writing

    def changed(self) -> int:
        """Record the end of a refresh; return the new number of changes."""
        with self._lock:
            self.changes += 1
            return self.changes

    def unless_changed(self, changes: int, act: Callable[[], object]) -> None:
        """Call `act` if no purge and no refresh has begun or ended since `changes` was read."""
        with self._lock:
            if changes == self.changes:
                act()

    @property
    def has_overtaken_writes(self) -> bool:
        """Whether a write that a barrier has overtaken may still be in progress."""
        return bool(self._overtaken_writes)

    def is_held_up(self, computation: Computation) -> bool:
        """Return whether an overtaken computation is still writing to the same key."""
        with self._lock:  # or it could lose a write that is overtaken meanwhile
            self._overtaken_writes = _still_writing(self._overtaken_writes)
        return any(
            (other := each()) is not None and other.key == computation.key
            for each in self._overtaken_writes
        )

    def write_may_be_late(self, computation: Computation) -> None:
        """Record a failed write that may still reach the server, or was not erased again."""
        with self._lock:
            if computation.is_valid and not computation.is_purged:
                now = self.clock()
                _drop_before(self._late_writes, now - _LATE_WRITE_SECONDS)
                _remember(self._late_writes, computation.key, now, _MOST_KEYS)
            else:
                self.distrust(computation.key)

    def distrust(self, key: bytes) -> None:
        """Ignore the entry of a key until it is replaced when no late write can arrive any more."""
        with self._lock:
            self._ignore(key, _LATE_WRITE_SECONDS)
            # No near cache has it, and nothing that is being read now enters one.
            self.changes += 1
            self._clear_near_caches()

    def refresh_failed(self, key: bytes) -> None:
        """Ignore an older entry that a refresh could not replace; see `LookUps.refresh_failed`."""
        with self._lock:
            self._ignore(key, _LATE_WRITE_SECONDS if key in self._late_writes else 0.0)

    def _ignore(self, key: bytes, seconds: float) -> None:
        self._late_writes.pop(key, None)
        until = max(self.clock() + seconds, self.distrusted.get(key, 0.0))
        _remember(self.distrusted, key, until, _MOST_KEYS)

    def replaced(self, key: bytes) -> None:
        """Record that an entry was written or erased; it is trusted if no late write can arrive."""
        if key in self.distrusted:
            with self._lock:
                if self.distrusted.get(key, math.inf) <= self.clock():
                    del self.distrusted[key]

    def distrusts(self, key: bytes) -> bool:
        """Whether an entry may be from before a barrier, so that it must be computed anew."""
        return key in self.distrusted

    def replaces(self, key: bytes) -> None:
        """Record that a refresh or a forget changes an entry; called before and after it."""
        with self._lock:
            if len(self._replaced) >= _MOST_REPLACED:
                self.purged()  # no entry is read from a replica then; readers take no lock
                self._replaced.clear()
            _remember(self._replaced, key, self.clock() + _LONGEST_LAG, _MOST_REPLACED)

    def purged(self) -> None:
        """Record that a purge has deleted its entries."""
        self._purged_until = self.clock() + _LONGEST_LAG

    def replica_may_lag(self, key: bytes) -> bool:
        """Whether a replica may still have an entry from before a barrier in this process."""
        now = self.clock()
        return now < self._purged_until or now < self._replaced.get(key, -math.inf)

    def purge(self, holds: Callable[[bytes], bool], wait: float) -> None:
        """Invalidate the computations of a namespace and wait for their writes.

        Args:
            holds: whether a key is in the namespace.
            wait: the most seconds to wait. Entries of slower writes are distrusted.
        """
        with self._lock:
            self.epoch += 1
            self.changes += 1
            overtaken = self._overtake(holds, list(filter(holds, self._late_writes)))
            _mark_purged(overtaken)
        deadline = self.clock() + wait
        while any(one.is_writing for one in overtaken) and self.clock() < deadline:
            self._sleep(0.001)
        with self._lock:
            self.changes += 1
            self._distrust_late(overtaken)

    def _distrust_late(self, overtaken: list[Computation]) -> None:
        for one in overtaken:
            if one.is_writing:
                self.distrust(one.key)

    def _under_way(self) -> list[Computation]:
        references = list(self._computations)
        return [one for reference in references if (one := reference()) is not None]

    def _overtake(
        self, holds: Callable[[bytes], bool], late: Collection[bytes]
    ) -> list[Computation]:
        """Invalidate the computations for some keys.

        Args:
            holds: whether a key is one of them.
            late: the keys among them of writes that may arrive late.

        Returns:
            The computations with a write in progress.
        """
        overtaken = [one for one in self._under_way() if holds(one.key)]
        for one in overtaken:
            one.is_valid = False
        now = self.clock()
        for key in late:
            if now <= self._late_writes[key] + _LATE_WRITE_SECONDS:
                self.distrust(key)
        writing = [one for one in overtaken if one.is_writing]
        self._overtaken_writes = [*self._overtaken_writes, *map(ref, writing)]
        return writing


def _still_writing(computations: list[ref[Computation]]) -> list[ref[Computation]]:
    return [each for each in computations if (other := each()) is not None and other.is_writing]


def _mark_purged(computations: list[Computation]) -> None:
    for one in computations:
        one.is_purged = True


def _drop_before(table: OrderedDict[bytes, float], time: float) -> None:
    while table and next(iter(table.values())) < time:
        table.popitem(last=False)


def _remember(table: OrderedDict[bytes, float], key: bytes, time: float, most: int) -> None:
    table[key] = time
    table.move_to_end(key)
    if len(table) > most:
        table.popitem(last=False)


_barriers: WeakValueDictionary[str, Barrier] = WeakValueDictionary()


def barrier_at(place: str) -> Barrier:
    """Return this process's barrier for a store.

    Args:
        place: identifies the store.
    """
    barrier = _barriers.get(place)
    if barrier is None:
        barrier = _barriers.setdefault(place, Barrier())
    return barrier

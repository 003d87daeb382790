"""Single-flight: when many callers need the same prediction at once, one of them computes it.

The first caller leads a flight; the others wait for it to land. This only saves work; correctness
never depends on it: a caller that has waited long enough computes on its own, and if the leader
fails or has nothing to share, the others stop waiting. The drivers implement the waiting.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias
from weakref import ref

from model_cache.forks import renew_after_fork
from model_cache.prediction.barrier import Computation
from model_cache.protocols import Clock

# How many recently landed entries to keep, for callers whose lookup just missed them; more while
# they are being written, within these bytes.
_MOST_RECENT = 64
_MOST_RECENT_BYTES = 4 * 2**20
# For this many seconds, an entry that has landed but is not written yet answers callers. Its write
# may never end because its task was cancelled, or may be queued while another process purges.
_LONGEST_WRITE = 1.0
# After this many consecutive flights without an entry to share, callers do not wait.
_MOST_FRUITLESS = 3
# The least seconds that a caller waits, however fast the model has been.
_LEAST_PATIENCE = 0.5


@dataclass(slots=True)
class Landed:
    """How a flight ended.

    Attributes:
        entry: the entry, if there is one to share.
        failed: whether the leader got no prediction.
        abandoned: whether the leader was interrupted or cancelled, so that another caller may lead.
        asked: when the entry was asked for, if the leader found it in the store instead of
            computing it. A purge may have begun and ended since then.
    """

    entry: bytes | None = None
    failed: bool = False
    abandoned: bool = False
    asked: float = math.inf


FAILED = Landed(failed=True)
ABANDONED = Landed(failed=True, abandoned=True)

Notify: TypeAlias = Callable[[Landed], object]


class Landing:
    """The followers' side of a flight.

    Attributes:
        computation: the leader's computation.
        landed: how it ended; None until then.
        leader: a weak reference to the flight, which an interrupted leader drops. There is no
            finalizer to notice that, since a soft time limit raised in a finalizer is lost.
        is_running: for a leader in an event loop, whether the loop is running; else None.
    """

    leader: Callable[[], Flight | None]

    def __init__(
        self, table: SingleFlight, computation: Computation, is_running: Callable[[], bool] | None
    ) -> None:
        self.computation = computation
        self.landed: Landed | None = None
        self.is_running = is_running
        self.table = table  # whose lock also protects this, and is renewed after a fork
        self._waiting: list[Notify] = []

    def subscribe(self, notify: Notify) -> None:
        """Call `notify` once when the flight lands, from any thread; now if it has landed."""
        with self.table.lock:
            if self.landed is None:
                self._waiting.append(notify)
                return
        notify(self.landed)

    def is_abandoned(self) -> bool:
        """Return whether the leader has dropped the flight, or is lost, so that it never lands."""
        if self.landed is not None:
            return False
        return self.leader() is None or (self.is_running is not None and not self.is_running())


class Flight:
    """A computation that others wait for, owned by its leader."""

    def __init__(self, landing: Landing) -> None:
        self.landing = landing
        landing.leader = ref(self)

    @property
    def has_landed(self) -> bool:
        """Whether it has ended."""
        return self.landing.landed is not None

    def land(self, landed: Landed) -> None:
        """End the flight and wake the waiting callers; only the first landing counts."""
        self.landing.table.land(self.landing, landed)


class SingleFlight:
    """The flights of one process.

    Args:
        mode: "off" if each caller computes on its own.
        clock: seconds, as the barrier's.

    Attributes:
        lock: protects the flights, and who waits for them.
    """

    def __init__(
        self,
        mode: Literal["process", "fleet", "off"] = "process",
        clock: Clock = time.perf_counter,
    ) -> None:
        self._is_off = mode == "off"
        self._clock = clock
        self._slowest = 0.0  # seconds of the slowest recent model call, decaying
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Drop the flights, whose leaders belong to the parent."""
        self.lock = threading.RLock()
        self._landings: dict[bytes, Landing] = {}
        self._recent: dict[bytes, _Recent] = {}  # oldest first
        self._recent_bytes = 0
        self._fruitless = 0

    def join(
        self,
        computation: Computation,
        since: float,
        is_running: Callable[[], bool] | None = None,
    ) -> Flight | Landing | Landed | None:
        """Join the flight for a computation's key.

        Args:
            computation: the caller's own computation, in case it has to compute.
            since: when the caller looked up its key, by the clock.
            is_running: for a caller in an event loop, whether the loop is running; else None.

        Returns:
            A flight to lead; a landing to wait for; a flight that has just landed; or None, to
            compute alone.
        """
        key = computation.key
        if self._is_off or not computation.is_valid:
            return None
        with self.lock:
            if (recent := self._recent.get(key)) and recent.is_usable(since):
                return recent.landed
            if self._fruitless >= _MOST_FRUITLESS:
                return None
            known = self._landings.get(key)
            if known is not None and known.computation.is_valid and not known.is_abandoned():
                return known
            flight = Flight(Landing(self, computation, is_running))
            self._landings[key] = flight.landing
            return flight

    def land(self, landing: Landing, landed: Landed) -> None:
        """End a flight; see `Flight.land`."""
        with self.lock:
            if landing.landed is not None:
                return
            if self._landings.get(landing.computation.key) is landing:
                del self._landings[landing.computation.key]
                self._note(landing.computation, landed)
            landing.landed = landed
            waiting, landing._waiting = landing._waiting, []
        for notify in waiting:
            notify(landed)

    def leave(self, landing: Landing) -> None:
        """Stop waiting for a slow flight; the next caller leads a new one."""
        with self.lock:
            if self._landings.get(landing.computation.key) is landing:
                del self._landings[landing.computation.key]

    def shared(self, entry: bytes | None) -> None:
        """Record whether a computation outside a flight had an entry to share."""
        self._fruitless = 0 if entry is not None else self._fruitless + 1

    def model_took(self, seconds: float) -> None:
        """Record how long a model call took."""
        self._slowest = max(seconds, 0.9 * self._slowest)

    def patience(self, wait: float) -> float:
        """Return how long to wait for another caller's computation.

        Args:
            wait: the most seconds, and the result before the first model call.
        """
        if not self._slowest:
            return wait
        return min(wait, _LEAST_PATIENCE + 3 * self._slowest)

    def _note(self, computation: Computation, landed: Landed) -> None:
        if landed.failed:
            return
        entry, recent, key = landed.entry, self._recent, computation.key
        self.shared(entry)
        if (older := recent.pop(key, None)) is not None:
            self._recent_bytes -= older.size
        if entry is None or len(entry) > _MOST_RECENT_BYTES:
            return
        now = self._clock()
        recent[key] = _Recent(computation, landed, len(entry), now + _LONGEST_WRITE)
        self._recent_bytes += len(entry)
        while len(recent) > _MOST_RECENT or self._recent_bytes > _MOST_RECENT_BYTES:
            key, oldest = next(iter(recent.items()))
            if self._recent_bytes <= _MOST_RECENT_BYTES and oldest.is_being_written(now):
                break  # and so are all later ones
            del recent[key]
            self._recent_bytes -= oldest.size


@dataclass(slots=True, eq=False)
class _Recent:
    """An entry that has just landed.

    Attributes:
        computation: its computation.
        landed: the entry.
        size: its bytes.
        until: until when it may answer callers before it is written.
    """

    computation: Computation
    landed: Landed
    size: int
    until: float

    def is_being_written(self, now: float) -> bool:
        """Return whether it is on its way to the store."""
        return self.computation.ended_at is None and self.computation.is_valid and now <= self.until

    def is_usable(self, since: float) -> bool:
        """Return whether it can answer a caller that looked it up at `since`."""
        if not self.computation.is_valid:
            return False
        ended_at = self.computation.ended_at
        return since <= (self.until if ended_at is None else ended_at)

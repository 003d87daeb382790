"""Single-flight: of many who need one prediction at once, one computes it, the rest wait.

In a process, by a table of flights; across processes, by a lease in the store. Either saves
work and never decides what is right: who has waited long enough computes. Whoever is inside a
flight waits for no other, so models that call cached models can't deadlock.
"""

from __future__ import annotations

import contextlib
import secrets
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextvars import ContextVar, Token
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TypeAlias

from model_cache.budget import Budget
from model_cache.errors import StoreUnavailableError
from model_cache.forks import renew_after_fork
from model_cache.protocols import Clock, Store

_inside: ContextVar[bool] = ContextVar("model_cache_inside_a_flight", default=False)

# Landed entries are kept for those whose look-up missed them by a moment.
_KEPT_LANDINGS = 64
_LARGEST_KEPT = 65_536

# Between two looks at a lease that another process holds, in seconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.05


class _Failed:
    """The leader's model raised: another may lead."""


_FAILED = _Failed()
_Outcome: TypeAlias = "bytes | _Failed | None"  # None: there is no entry to share


class _Flight:
    """One computation, for the leader and those who wait."""

    def __init__(self, table: SingleFlight, key: bytes) -> None:
        self.waiting: list[SimpleQueue[_Outcome]] = []
        self._table = table
        self._key = key
        self._landed = False

    def land(self, outcome: _Outcome, seconds: float) -> None:
        self._landed = True
        self._table.land(self._key, self, outcome, seconds)

    def end(self, outcome: _Outcome) -> None:
        """Land, if it has not landed before; then, nobody who comes later gets its entry."""
        if self._landed:
            self._table.settle(self._key)
        else:
            self.land(outcome, 0.0)


class Seat:
    """A place in a flight; a context manager around the computation, if there must be one.

    Attributes:
        entry: what another computed; None for whoever has to compute.
        leads: whether others wait for this one.
        failed: set if the model raised: another may lead.
    """

    def __init__(self, flight: _Flight | None = None, entry: bytes | None = None) -> None:
        self.entry = entry
        self.leads = flight is not None
        self.failed = False
        self._flight = flight
        self._lease: Lease | None = None

    def share(self, entry: bytes | None, seconds: float) -> None:
        """Let the others go on, with an entry if there is one.

        Args:
            entry: what they need.
            seconds: for how long it is also given to those who come later, say, until it is
                written.
        """
        if self._flight is not None:
            self._flight.land(entry, seconds)

    def hold(self, lease: Lease) -> None:
        """Take a lease, too, before computing."""
        self._lease = lease

    def __enter__(self) -> Seat:
        # Without a flight nobody waits for this one, so it may wait for others.
        self._token: Token[bool] = _inside.set(_inside.get() or self._flight is not None)
        if self._lease is not None:
            try:
                self.entry = self._lease.acquire()
            except BaseException:  # interrupted while it waited
                self.__exit__(*sys.exc_info())
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _inside.reset(self._token)
        if self._flight is not None:
            outcome = _FAILED if kind is not None or self.failed else self.entry
            self._flight.end(outcome)
        if self._lease is not None:
            self._lease.release()


class SingleFlight:
    """The flights of one process.

    Args:
        clock: seconds, as `time.perf_counter`.
    """

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self._clock = clock
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Forget the flights: their leaders are the parent's."""
        self._lock = threading.RLock()
        self._flights: dict[bytes, _Flight] = {}
        self._landed: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()

    def board(self, key: bytes, wait: float, since: float) -> Seat:
        """Lead the flight for a key, or wait for who does.

        Args:
            key: of the entry that is needed.
            wait: seconds to wait at most; after that, one computes alone.
            since: when the caller looked the key up, by the clock.
        """
        if _inside.get():
            return Seat()
        deadline = self._clock() + wait
        while True:
            with self._lock:
                at, entry = self._landed.get(key, (-1.0, b""))
                if at >= since:
                    return Seat(entry=entry)
                flight = self._flights.get(key)
                if flight is None:
                    flight = self._flights[key] = _Flight(self, key)
                    return Seat(flight)
                landing: SimpleQueue[_Outcome] = SimpleQueue()
                flight.waiting.append(landing)
            try:
                outcome = landing.get(timeout=max(0.0, deadline - self._clock()))
            except Empty:
                self._leave(key, flight)
                return Seat()
            if not isinstance(outcome, _Failed):
                return Seat(entry=outcome)

    def land(self, key: bytes, flight: _Flight, outcome: _Outcome, seconds: float) -> None:
        """Wake who waits, and keep an entry for who comes in the next `seconds`."""
        with self._lock:
            self._leave(key, flight)
            if isinstance(outcome, bytes) and len(outcome) <= _LARGEST_KEPT:
                self._landed[key] = (self._clock() + seconds, outcome)
                self._landed.move_to_end(key)
                if len(self._landed) > _KEPT_LANDINGS:
                    self._landed.popitem(last=False)
            waiting = list(flight.waiting)
        for landing in waiting:
            landing.put(outcome)

    def settle(self, key: bytes) -> None:
        """Keep an entry only for those who have looked it up by now: it is in the store."""
        with self._lock:
            at, entry = self._landed.get(key, (-1.0, b""))
            if at > self._clock():
                self._landed[key] = (self._clock(), entry)

    def _leave(self, key: bytes, flight: _Flight) -> None:
        """Let the next caller lead: this flight has landed, or takes too long."""
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]

    def forget(self) -> None:
        """Answer nobody who comes later by what is under way, say, since the cache was purged."""
        with self._lock:
            self._landed.clear()
            self._flights.clear()


class Lease:
    """The right to compute an entry, among all processes that share a store.

    A holder that dies loses it by itself, when its time is over.

    Args:
        store: where the lease is kept, beside the entry.
        key: of the entry.
        seconds: how long it is held at most, and waited for.
        budget: the time for questions to the store.
        is_usable: whether an entry that was found is an answer.
        sleep: waits for so many seconds.
        clock: seconds, as `time.perf_counter`.
    """

    def __init__(
        self,
        store: Store,
        key: bytes,
        seconds: float,
        budget: Budget,
        is_usable: Callable[[bytes], bool],
        sleep: Callable[[float], None] = time.sleep,
        clock: Clock = time.perf_counter,
    ) -> None:
        self._store = store
        self._key = key
        # In braces, so that in a cluster it is in the slot of the entry.
        self._name = b"{%b}:lease" % key
        self._seconds = seconds
        self._budget = budget
        self._is_usable = is_usable
        self._sleep = sleep
        self._clock = clock
        self._token = secrets.token_bytes(8)
        self._held = False

    def acquire(self) -> bytes | None:
        """Take the lease, or return the entry that its last holder stored.

        None means: compute, be it that the lease is held, or that it was waited for too long,
        or that the store does not answer.
        """
        deadline, pause = self._clock() + self._seconds, _FIRST_PAUSE
        try:
            while True:
                self._held = self._budget.spend(self._take)
                # Also once it is held: its last holder may have stored the entry since. And if
                # it is not, it may be: a request that was sent again meets its own lease.
                entry, holder = self._budget.spend(self._look)
                self._held = self._held or holder == self._token
                if entry is not None and self._is_usable(entry):
                    self.release()
                    return entry
                if self._held or self._clock() > deadline:
                    return None
                self._sleep(pause)
                pause = min(2 * pause, max(_LONGEST_PAUSE, self._seconds / 50))
        except StoreUnavailableError:
            return None

    def _take(self, timeout: float) -> bool:
        milliseconds = max(1, int(1000 * self._seconds))
        self._until = self._clock() + self._seconds
        return self._store.set_if_absent(self._name, self._token, milliseconds, timeout)

    def _look(self, timeout: float) -> list[bytes | None]:
        return self._store.get_many([self._key, self._name], timeout)

    def release(self) -> None:
        """Give the lease back, if it is held; past its time it may be another's."""
        held, self._held = self._held, False
        if held and self._clock() < self._until:
            with contextlib.suppress(StoreUnavailableError):  # it ends by itself
                self._budget.spend(lambda left: self._store.delete([self._name], left))

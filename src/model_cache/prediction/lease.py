"""Single-flight in a fleet: the right to compute an entry, among all processes of a store.

A lease is short and renewed while its holder lives, so a holder that dies is noticed within a
second. A holder that has nothing to store says so, and those who wait go on at once. Like a
flight, a lease saves work and never decides what is right.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable
from weakref import WeakSet

from model_cache.errors import StoreUnavailableError
from model_cache.forks import renew_after_fork
from model_cache.prediction.effects import Budget, Pause, Steps
from model_cache.prediction.single_flight import Landed
from model_cache.protocols import Clock, Store

_LEASE_SECONDS = 0.6
_RENEWAL_SECONDS = 0.2
# How long a holder's word that it has nothing to store counts.
_NOTICE_SECONDS = 1.0
# A lease that could not be given back is tried so often again, each time with so many seconds.
_MOST_TRIES, _TRY_SECONDS = 3, 0.2
# A thread that finds nothing to do so many times in a row ends.
_MOST_IDLE_ROUNDS = 10
# Between two looks at a lease that another process holds, in seconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.05

_TOKEN_SIZE = 8
_NOTICES = {b"unshared": Landed(), b"failed": Landed(failed=True)}


class Lease:
    """One entry's lease.

    Args:
        key: of the entry.
        budget: the time for requests to the store.
        clock: seconds, as `time.perf_counter`.
    """

    def __init__(self, key: bytes, budget: Budget, clock: Clock = time.perf_counter) -> None:
        # In braces, so that in a cluster it is in the slot of the entry.
        self.name = b"{%b}:lease" % key
        self.token = secrets.token_bytes(_TOKEN_SIZE)
        self.is_held = False
        self._key = key
        self._budget = budget
        self._clock = clock

    def acquire(self, wait: float, is_usable: Callable[[bytes], bool]) -> Steps[Landed | None]:
        """Take the lease, or return how its last holder's computation ended.

        None means: compute. The lease is held then, or was waited for too long, or the store does
        not answer.

        Args:
            wait: seconds to wait for another holder at most.
            is_usable: whether an entry that was found is an answer.
        """
        deadline, pause = self._clock() + wait, _FIRST_PAUSE
        try:
            while True:
                taken = yield from self._budget.ask(self._take)
                # Also once it is held: its last holder may have stored the entry since. And if
                # it is not, it may be: a request that was sent again meets its own lease.
                entry, holder = yield from self._budget.ask(self._look)
                self.is_held = taken or holder == self.token
                if entry is not None and is_usable(entry):
                    return Landed(entry)
                if self.is_held or self._clock() > deadline:
                    return None
                if holder in _NOTICES:
                    return _NOTICES[holder]
                yield Pause(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        except StoreUnavailableError:
            return None

    def release(self, landed: Landed) -> Callable[[Store, float], object]:
        """Return the request that gives the lease back.

        Args:
            landed: how the computation ended; without an entry, those who wait are told.
        """
        if landed.entry is not None:
            return lambda store, left: store.delete([self.name], left)
        notice = b"failed" if landed.failed else b"unshared"
        milliseconds = int(1000 * _NOTICE_SECONDS)
        return lambda store, left: store.set(self.name, notice, milliseconds, left)

    def renew(self, store: Store) -> None:
        """Hold the lease for another while."""
        store.set(self.name, self.token, _milliseconds(_LEASE_SECONDS), _RENEWAL_SECONDS)

    def _take(self, store: Store, timeout: float) -> bool:
        milliseconds = _milliseconds(_LEASE_SECONDS)
        return store.set_if_absent(self.name, self.token, milliseconds, timeout)

    def _look(self, store: Store, timeout: float) -> list[bytes | None]:
        return store.get_many([self._key, self.name], timeout)


def _milliseconds(seconds: float) -> int:
    return max(1, int(1000 * seconds))


class LeaseKeeper:
    """Renews the leases that this process holds, and gives back those that could not be.

    It works on a thread of its own, which ends when there is nothing to do.

    Args:
        store: where the leases are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Forget the leases: they are the parent's."""
        self._lock = threading.RLock()
        # Weak: nobody renews the lease of a computation that was interrupted.
        self._held: WeakSet[Lease] = WeakSet()
        self._returns: list[tuple[Callable[[Store, float], object], int]] = []
        self._renewing: Lease | None = None
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()

    def hold(self, lease: Lease) -> None:
        """Renew a lease until it is dropped."""
        with self._lock:
            self._held.add(lease)
        self._start()

    def drop(self, lease: Lease) -> bool:
        """Renew a lease no more; return whether a renewal is on its way at this moment."""
        with self._lock:
            self._held.discard(lease)
            return self._renewing is lease

    def give_back(self, request: Callable[[Store, float], object]) -> None:
        """Send a request off the path of a prediction, several times if need be."""
        with self._lock:
            self._returns.append((request, _MOST_TRIES))
        self._wake.set()
        self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            thread = threading.Thread(target=self._work, daemon=True)
            # No thread to be had, or the interpreter ends: leases then end by themselves.
            with contextlib.suppress(RuntimeError):
                thread.start()
                self._thread = thread

    def _work(self) -> None:
        idle_rounds = 0
        while True:
            self._wake.wait(_RENEWAL_SECONDS)
            self._wake.clear()
            self._give_back_all()
            for lease in list(self._held):
                self._renew(lease)
            with self._lock:
                is_idle = not self._held and not self._returns
                idle_rounds = idle_rounds + 1 if is_idle else 0
                if idle_rounds > _MOST_IDLE_ROUNDS:
                    self._thread = None
                    return

    def _renew(self, lease: Lease) -> None:
        with self._lock:
            if lease not in self._held:
                return
            self._renewing = lease
        try:
            with contextlib.suppress(StoreUnavailableError):
                lease.renew(self._store)
        finally:
            self._renewing = None

    def _give_back_all(self) -> None:
        with self._lock:
            returns, self._returns = self._returns, []
        for request, tries in returns:
            try:
                request(self._store, _TRY_SECONDS)
            except StoreUnavailableError:
                if tries > 1:
                    with self._lock:
                        self._returns.append((request, tries - 1))

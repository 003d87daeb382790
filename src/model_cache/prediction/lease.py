"""Single-flight across a fleet: a lease on computing an entry, shared through the store.

A lease is short and is renewed while its holder is alive, so a dead holder is noticed within a
second. A holder with nothing to store says so, and the waiting processes go on at once. Like a
flight, a lease only saves work; correctness never depends on it.
"""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Callable
from functools import partial
from weakref import WeakSet

from model_cache.errors import StoreUnavailableError
from model_cache.forks import renew_after_fork
from model_cache.interruptions import reraise_interruption
from model_cache.prediction.effects import Budget, Pause, Steps
from model_cache.prediction.single_flight import Landed
from model_cache.protocols import Clock, Store, Write
from model_cache.stores.threads import held_lock, start_thread

_LEASE_SECONDS = 0.6
_RENEWAL_SECONDS = 0.2
# How long a holder's note that it has nothing to store is valid.
_NOTICE_SECONDS = 1.0
# How many times to retry releasing a lease, and the timeout of each attempt in seconds.
_MOST_TRIES, _TRY_SECONDS = 3, 0.2
# The thread ends after this many consecutive rounds without work.
_MOST_IDLE_ROUNDS = 10
# A thread that has not been seen for this many seconds was interrupted before it started, or died.
_LONGEST_ROUND = 2.0
# Seconds between two checks of a lease that another process holds.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.05

_TOKEN_SIZE = 8
_NOTICES = {b"unshared": Landed(), b"failed": Landed(failed=True)}


class Lease:
    """The lease on one entry.

    Args:
        key: the key of the entry.
        budget: the time for requests to the store.
        clock: seconds, as `time.perf_counter`.
    """

    def __init__(self, key: bytes, budget: Budget, clock: Clock = time.perf_counter) -> None:
        # The braces put it in the same cluster slot as the entry.
        self.name = b"{%b}:lease" % key
        self.token = secrets.token_bytes(_TOKEN_SIZE)
        self.is_held = False
        self._key = key
        self._budget = budget
        self._clock = clock

    def acquire(self, wait: float, is_usable: Callable[[bytes], bool]) -> Steps[Landed | None]:
        """Acquire the lease, or return how its last holder's computation ended.

        None means that the caller computes: it holds the lease, or waited too long, or the store
        does not answer.

        Args:
            wait: the most seconds to wait for another holder.
            is_usable: whether an entry can be used as an answer.
        """
        deadline, pause = self._clock() + wait, _FIRST_PAUSE
        try:
            while True:
                self.is_held = True  # it may be, if this is interrupted
                taken = yield from self._budget.ask(self._take)
                # Also when it is acquired: its last holder may have stored the entry since. And
                # when it seems taken, it may be ours: a retried request finds its own lease.
                asked = self._clock()
                entry, holder = yield from self._budget.ask(self._look)
                self.is_held = taken or holder == self.token
                if entry is not None and is_usable(entry):
                    return Landed(entry, asked=asked)
                if self.is_held or self._clock() > deadline:
                    return None
                if holder in _NOTICES:
                    return _NOTICES[holder]
                yield Pause(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        except StoreUnavailableError:
            self.is_held = False
            return None

    def release(self, landed: Landed) -> Callable[[Store, float], object]:
        """Return the request that releases the lease.

        Args:
            landed: how the computation ended; without an entry, waiting processes are notified.
        """
        if landed.entry is not None:
            return lambda store, left: store.delete([self.name], left)
        notice = b"failed" if landed.failed else b"unshared"
        milliseconds = int(1000 * _NOTICE_SECONDS)
        return lambda store, left: store.set(self.name, notice, milliseconds, left)

    def give_back(self, landed: Landed) -> Callable[[Store, float], object]:
        """Return the request that releases the lease later, unless it is another's by then."""
        release = self.release(landed)

        def request(store: Store, left: float) -> None:
            if store.get_many([self.name], left) == [self.token]:
                release(store, left)

        return request

    @property
    def renewal(self) -> Write:
        """What to write to extend the lease."""
        return self.name, self.token, _milliseconds(_LEASE_SECONDS)

    def _take(self, store: Store, timeout: float) -> bool:
        milliseconds = _milliseconds(_LEASE_SECONDS)
        return store.set_if_absent(self.name, self.token, milliseconds, timeout)

    def _look(self, store: Store, timeout: float) -> list[bytes | None]:
        return store.get_many([self._key, self.name], timeout)


def _milliseconds(seconds: float) -> int:
    return max(1, int(1000 * seconds))


class LeaseKeeper:
    """Renews the leases that this process holds, and retries failed releases.

    It works on its own thread, which ends when there is nothing to do. A signal handler may
    interrupt any line, with an exception or with a prediction of its own, so only locks that are
    acquired and released in C are used, never a `threading.Event`.

    Args:
        store: the store with the leases.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Drop the leases, which belong to the parent."""
        self._lock = threading.RLock()
        # Weak, so that the lease of an interrupted computation is not renewed.
        self._held: WeakSet[Lease] = WeakSet()
        self._returns: list[tuple[Callable[[Store, float], object], int]] = []
        self._renewing: list[Lease] = []
        self._worker: object | None = None  # identifies the thread
        self._seen_at = -math.inf  # when the thread last showed that it is alive

    def hold(self, lease: Lease) -> None:
        """Renew a lease until it is dropped."""
        with self._lock:
            self._held.add(lease)
        self._start()

    def drop(self, lease: Lease) -> bool:
        """Stop renewing a lease; return whether a renewal is in progress."""
        with self._lock:
            self._held.discard(lease)
            return lease in self._renewing

    def give_back(self, request: Callable[[Store, float], object]) -> None:
        """Send a request in the background, with retries."""
        with self._lock:
            self._returns.append((request, _MOST_TRIES))
        self._start()
        try:
            self._bell.release()
        except RuntimeError as error:  # already released
            reraise_interruption(error)

    def _start(self) -> None:
        with self._lock:
            now, worker = time.monotonic(), object()
            if self._worker is not None and now < self._seen_at + _LONGEST_ROUND:
                return
            # Not an older one: gevent may have patched locks since, in a preloaded worker.
            self._bell = held_lock()  # released to wake the thread
            self._worker, self._seen_at = worker, now
            try:
                start_thread(partial(self._work, worker))
            except RuntimeError as error:
                reraise_interruption(error)
                # No more threads, or the interpreter is shutting down: the leases expire.
                self._worker = None

    def _work(self, worker: object) -> None:
        idle_rounds = 0
        while self._worker is worker:
            self._seen_at = time.monotonic()
            self._bell.acquire(timeout=_RENEWAL_SECONDS)
            self._give_back_all()
            self._renew_all()
            with self._lock:
                is_idle = not self._held and not self._returns
                idle_rounds = idle_rounds + 1 if is_idle else 0
                if idle_rounds > _MOST_IDLE_ROUNDS and self._worker is worker:
                    self._worker = None

    def _renew_all(self) -> None:
        """Renew the leases in one request: one by one, hundreds would expire meanwhile."""
        with self._lock:
            self._renewing = list(self._held)
        renewals = [lease.renewal for lease in self._renewing]
        try:
            if renewals:
                self._store.set_many(renewals, _RENEWAL_SECONDS)
        except StoreUnavailableError:
            pass  # the next round tries again
        finally:
            self._renewing = []

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

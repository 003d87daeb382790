"""Add the counts of this process to those of the fleet, on a background thread.

Nothing here is on the way of a prediction but a look at a flag. The thread waits a few seconds
after the first new count, sends all of them, and ends when there are no more. What can't be sent
because Redis is away is sent later; what may have been sent already is not sent again, so that no
prediction is counted twice. The reply has the fleet's totals, which tell a new process how long its
model takes.
"""

from __future__ import annotations

import contextlib
import logging
import time
import weakref
from collections.abc import Mapping
from functools import partial
from threading import Event

from model_cache.errors import StoreAnsweredError, StoreUnavailableError
from model_cache.exits import run_at_exit
from model_cache.forks import renew_after_fork
from model_cache.interruptions import reraise_interruption
from model_cache.keys.key import Namespace
from model_cache.observing.costs import model_times
from model_cache.observing.counters import Counters, VersionCounters
from model_cache.prediction import fleet_counts
from model_cache.prediction.background import BackgroundWriter
from model_cache.protocols import Clock, Store

logger = logging.getLogger("model_cache")

INTERVAL = 5.0
"""Seconds between the first new count and its sending."""

# After an error reply, such as NOPERM, which the next one will most likely be, too.
_PAUSE = 60.0
_PATIENCE = 1.0  # seconds to wait at exit

_Version = tuple[str, str]


class _Sender:
    """Sends the counts of one decorator.

    Args:
        counters: its counters.
        prefix: the prefix of its keys.
    """

    def __init__(self, counters: Counters, prefix: str | None) -> None:
        # Weak, since the counters refer to the sender.
        self._counters = weakref.ref(counters)
        self._prefix = prefix
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Begin at zero, as the counters do."""
        self._sent: dict[_Version, Mapping[bytes, int]] = {}

    @property
    def counters(self) -> Counters | None:
        """The counters, as long as they exist."""
        return self._counters()

    def send(self, store: Store, timeout: float) -> None:
        """Add what has been counted since the last time.

        Raises:
            StoreUnavailableError: the store failed.
        """
        counters = self._counters()
        if counters is None:
            return
        for version, counted in counters.by_version().items():
            self._send(version, counted, store, timeout)

    def _send(
        self, version: _Version, counted: VersionCounters, store: Store, timeout: float
    ) -> None:
        now = fleet_counts.amounts(counted.snapshot())
        before = self._sent.get(version, {})
        new = fleet_counts.added(now, before)
        if not new:
            return
        key = fleet_counts.statistics_key(Namespace(self._prefix, *version))
        self._sent[version] = now
        try:
            totals = store.add_counts(key, new, timeout)
        except StoreUnavailableError as error:
            if _was_not_added(error):
                self._sent[version] = before
            raise
        counted.fleet = model_times(fleet_counts.counts(totals))


def _was_not_added(error: StoreUnavailableError) -> bool:
    if isinstance(error, StoreAnsweredError):
        return True
    return error.kind == "circuit_open" or isinstance(error.__cause__, ConnectionRefusedError)


class FleetStatistics:
    """Sends the counts of all decorators of one store.

    Args:
        store: the store.
        timeout: the most seconds that sending the counts of one version may take.
        interval: seconds to wait for more counts before they are sent.
        clock: seconds, as `time.monotonic`.
    """

    def __init__(
        self,
        store: Store,
        timeout: float,
        interval: float = INTERVAL,
        clock: Clock = time.monotonic,
    ) -> None:
        self._store = store
        self._timeout = timeout
        self._interval = interval
        self._clock = clock
        self._has_failed = False
        self._paused_until = 0.0
        self._writer = BackgroundWriter(max_jobs=1, flush_seconds=_PATIENCE)
        self.after_fork()
        renew_after_fork(self)
        run_at_exit(self)  # before the writer, which would wait for the interval

    def after_fork(self) -> None:
        """Drop the counts, which the parent sends."""
        self._pending: dict[_Sender, Counters] = {}
        # Until when no other sending needs to be started. A time instead of a flag, since the
        # thread that sets it may be interrupted before it starts one.
        self._will_send_until = 0.0
        self._hurry = Event()

    def join(self, counters: Counters, prefix: str | None) -> None:
        """Send what is counted from now on."""
        counters.collected_by(partial(self._send_soon, _Sender(counters, prefix)))

    def _send_soon(self, sender: _Sender) -> None:
        counters, now = sender.counters, self._clock()
        if counters is None:
            return
        self._pending[sender] = counters
        if now >= self._will_send_until:
            self._will_send_until = now + 2 * self._interval
            # A weak reference, so that a decorator that nobody uses can be garbage-collected.
            job = partial(_send_later, weakref.ref(self), self._hurry, self._interval)
            if not self._writer.submit(job):  # no thread: one of the next counts tries again
                return
        counters.is_idle = False

    def send(self) -> None:
        """Send what has been counted; errors are logged once."""
        self._will_send_until = 0.0
        pending, self._pending = self._pending, {}
        for sender, counters in pending.items():
            counters.is_idle = True
            if self._clock() < self._paused_until:
                continue
            try:
                sender.send(self._store, self._timeout)
            except Exception as error:
                reraise_interruption(error)
                self._failed(error)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, StoreAnsweredError):
            self._paused_until = self._clock() + _PAUSE
            if not self._has_failed:
                self._has_failed = True
                with contextlib.suppress(Exception):  # from a logging handler
                    logger.info("Fleet statistics not written: %s", error)

    def flush(self) -> None:
        """Send what has been counted without waiting for more, within a second."""
        hurry = self._hurry
        hurry.set()
        self._writer.flush()
        if hurry is self._hurry:
            self._hurry = Event()

    def at_exit(self) -> None:
        """Send what has been counted, for a limited time."""
        self.flush()
        if self._pending:  # no thread could be started
            self.send()


def _send_later(reference: weakref.ref[FleetStatistics], hurry: Event, interval: float) -> None:
    hurry.wait(interval)
    statistics = reference()
    if statistics is not None:
        statistics.send()

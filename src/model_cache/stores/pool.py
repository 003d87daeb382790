"""The connections to one server: opened as needed, used by one caller at a time, kept for the next.

A connection goes back to the pool only after one whole reply with nothing left behind it.
Whatever comes in between (a time-out, Ctrl-C, a soft time limit) closes it: otherwise the next
caller would get this caller's reply. An interruption may fall anywhere: nothing here counts up
and down, and what an interrupted caller leaves behind ends by itself.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias
from weakref import finalize, ref

from model_cache.errors import StoreUnavailableError
from model_cache.forks import renew_after_fork
from model_cache.interruptions import is_interruption
from model_cache.protocols import Clock
from model_cache.stores.connection import Connection
from model_cache.stores.threads import start_thread

Connect: TypeAlias = Callable[[], Connection]
_Idle: TypeAlias = SimpleQueue[Connection | None]

# So many threads at most wait for a connect at once: one that hangs in a DNS look-up is stuck
# for as long as the resolver likes.
_MOST_OPENING = 4
# Seconds until a thread must have begun; one that was interrupted as it started never does.
_LONGEST_START = 1.0
# Seconds that one waits for a connection before one looks whether there is room for another: who
# made room may have been interrupted before it told.
_LONGEST_WAIT = 0.05
# Seconds until a connection that could not be replaced is tried again, and between two times at
# which all are closed because the server is the wrong one.
_BETWEEN_RENEWALS = 1.0

# The system's: a model may have seeded Python's own.
_random = random.SystemRandom().random


class ConnectionPool:
    """Opens connections as needed, up to a number, and keeps them.

    Args:
        connect: opens one.
        size: how many may be open; one more, for a moment, while an old one is replaced.
        clock: seconds, as `time.monotonic`.
        max_age: seconds after which a connection is replaced, less up to a quarter.
        random: a number from 0 to 1, as `random.random`; spreads the connects of a fleet.
    """

    def __init__(
        self,
        connect: Connect,
        size: int,
        clock: Clock,
        max_age: float = math.inf,
        random: Callable[[], float] = _random,
    ) -> None:
        self._connect = connect
        self._size = size
        self._clock = clock
        self._max_age = max_age
        self._random = random
        self._closing: finalize[Any, Any] | None = None
        self._retired_all = -math.inf
        self.has_connected = False
        self.has_answered = False
        """Whether a server has ever answered, the login apart."""
        self._begin()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Forget the connections: they are the parent's."""
        self._begin()

    def _begin(self) -> None:
        if self._closing is not None:
            self._closing.detach()
        # None among the idle wakes one who waits: there is room for a connection again.
        self._idle: _Idle = SimpleQueue()
        self._closing = finalize(self, _close_all, self._idle)
        # Weak: a connection whose user was interrupted at a bad moment is closed when it is
        # collected. No WeakSet: an interruption in one of its callbacks leaves a dead member.
        self._open: list[ref[Connection]] = []
        self._openings: list[_Opening] = []
        self._lock = threading.RLock()

    def exchange(self, request: bytes, replies: int, timeout: float) -> list[Any]:
        """Send a request, return its replies; opening a connection if need be, all in `timeout`.

        Raises:
            TimeoutError: the replies are not complete after `timeout` seconds.
            OSError, StoreUnavailableError: connecting failed, or the connection broke.
            hiredis.HiredisError: the server does not speak RESP.
        """
        if timeout <= 0:
            raise TimeoutError
        now = self._clock()
        idle, deadline = self._idle, now + timeout
        connection = self._take_idle(idle)
        if connection is not None:
            if connection.expires < now:
                self._renew(connection, idle)
            try:
                if not connection.is_quiet():
                    raise ConnectionResetError("closed by the server, or out of step")
                received = connection.exchange(request, replies, timeout, self._clock)
            except BaseException as error:  # a half-read reply would be the next caller's
                self._discard(connection, idle)
                if (
                    isinstance(error, TimeoutError)
                    or not isinstance(error, OSError)
                    or is_interruption(error)
                ):
                    raise
                # It went stale while it was idle, and so probably did the others.
                self.close_idle()
            else:
                idle.put(connection)
                return received
        return self._exchange_on_new(idle, request, replies, deadline)

    def _exchange_on_new(
        self, idle: _Idle, request: bytes, replies: int, deadline: float
    ) -> list[Any]:
        connection = self._wait_for_one(idle, deadline)
        left = deadline - self._clock()
        if left <= 0:
            idle.put(connection)  # for the next one
            raise TimeoutError
        try:
            received = connection.exchange(request, replies, left, self._clock)
        except BaseException:
            self._discard(connection, idle)
            raise
        self.has_answered = True
        idle.put(connection)
        return received

    def _take_idle(self, idle: _Idle) -> Connection | None:
        while True:
            try:
                connection = idle.get_nowait()
            except Empty:
                return None
            if connection is not None:
                if not connection.retired:
                    return connection
                self._discard(connection, idle)

    def _wait_for_one(self, idle: _Idle, deadline: float) -> Connection:
        """Return a new connection, or, if there may be no more, one that somebody gives back."""
        while True:
            opening = self._start_opening(idle)
            left = max(0.0, deadline - self._clock())
            try:
                if opening is not None:
                    return opening.result(left)
                connection = idle.get(timeout=min(left, _LONGEST_WAIT))
            except Empty:
                if opening is not None or left <= _LONGEST_WAIT:
                    raise TimeoutError("no connection in time") from None
                continue
            if connection is not None:
                if not connection.retired:
                    return connection
                self._discard(connection, idle)

    def _renew(self, connection: Connection, idle: _Idle) -> None:
        """Open another connection in the place of one that is old, and still serves until then."""
        connection.expires = self._clock() + _BETWEEN_RENEWALS  # if it comes to nothing
        self._start_opening(idle, replaces=connection)

    def _start_opening(self, idle: _Idle, replaces: Connection | None = None) -> _Opening | None:
        with self._lock:
            now = self._clock()
            self._openings = [each for each in self._openings if each.is_under_way(now)]
            self._open = [each for each in self._open if is_open(each())]
            under_way = len(self._openings)
            is_full = replaces is None and len(self._open) + under_way >= self._size
            if is_full or under_way >= _MOST_OPENING:
                return None
            opening = _Opening(idle, now + _LONGEST_START, replaces)
            self._openings.append(opening)
        # A thread, since no time-out bounds the resolving of a name.
        start_thread(partial(self._run, opening))
        return opening

    def _run(self, opening: _Opening) -> None:
        opening.begun = True
        result = opened(self._connect)
        if isinstance(result, Connection):
            result.expires = self._clock() + self._max_age * (1 - 0.25 * self._random())
            self.has_connected = True
        with self._lock:
            opening.done = True
            if isinstance(result, Connection):
                self._open.append(ref(result))
        opening.deliver(result)

    def _discard(self, connection: Connection, idle: _Idle) -> None:
        connection.close()
        idle.put(None)

    def close_idle(self) -> None:
        """Close the connections that nobody is using."""
        idle = self._idle
        while (connection := self._take_idle(idle)) is not None:
            self._discard(connection, idle)

    def retire(self) -> None:
        """Use no connection of now again, since they lead to the wrong server.

        At most once in a while: they may lead there for good.
        """
        now = self._clock()
        if now < self._retired_all + _BETWEEN_RENEWALS:
            return
        self._retired_all = now
        with self._lock:
            for connection in [each() for each in self._open]:
                if connection is not None:
                    connection.retired = True
        self.close_idle()

    def close(self) -> None:
        """Close the connections, each when nobody is using it; a later request opens new ones."""
        idle = self._idle
        # What is given back to the old queue goes with it.
        self._begin()
        _close_all(idle)


def opened(connect: Connect) -> Connection | Exception:
    """Return a new connection, or why there is none."""
    try:
        return connect()
    except (OSError, StoreUnavailableError) as error:
        # Without its traceback: the login is in there.
        return error.with_traceback(None)
    except BaseException as error:
        message = f"connecting raised {type(error).__name__}: {error}"
        return StoreUnavailableError(message, "connection")


def is_open(connection: Connection | None) -> bool:
    """Whether a connection is still there, and open."""
    return connection is not None and not connection.closed


def _close_all(idle: _Idle) -> None:
    try:
        while True:
            if (connection := idle.get_nowait()) is not None:
                connection.close()
    except Empty:
        return


class _Opening:
    """A connection being opened; one that comes too late goes to the idle ones.

    Args:
        idle: where they are.
        must_begin: when its thread must have begun, on the pool's clock.
        replaces: a connection in whose place it is opened, for nobody in particular.
    """

    def __init__(self, idle: _Idle, must_begin: float, replaces: Connection | None) -> None:
        self._idle = idle
        self._must_begin = must_begin
        self._replaces = replaces
        self._results: SimpleQueue[Connection | Exception] = SimpleQueue()
        self._abandoned = False
        self.begun = self.done = False

    def is_under_way(self, now: float) -> bool:
        """Whether there is a thread that opens it, or soon will be."""
        return not self.done and (self.begun or now < self._must_begin)

    def result(self, timeout: float) -> Connection:
        try:
            result = self._results.get(timeout=timeout)
        except BaseException:  # too late, or interrupted
            self._abandoned = True
            self._reclaim()
            raise
        if isinstance(result, Connection):
            return result
        raise result

    def deliver(self, result: Connection | Exception) -> None:
        if self._replaces is not None:
            if isinstance(result, Connection):
                self._replaces.retired = True
                self._idle.put(result)
            return
        self._results.put(result)
        if self._abandoned:
            self._reclaim()
        elif isinstance(result, Exception):
            self._idle.put(None)  # who waits for a free one may try for itself

    def _reclaim(self) -> None:
        try:
            result = self._results.get_nowait()
        except Empty:
            return
        self._idle.put(result if isinstance(result, Connection) else None)

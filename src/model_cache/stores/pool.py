"""A pool of connections to one server, opened on demand and used by one caller at a time.

A connection returns to the pool only after a complete reply with nothing after it. Anything else
(a timeout, Ctrl-C, a soft time limit) closes it; otherwise the next caller would read this
caller's reply. An interruption can happen on any line, so the pool keeps no counters, and whatever
an interrupted caller leaves behind cleans itself up.
"""

from __future__ import annotations

import math
import queue
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar
from weakref import finalize, ref

from model_cache.errors import StoreUnavailableError
from model_cache.forks import renew_after_fork
from model_cache.interruptions import is_interruption
from model_cache.protocols import Clock
from model_cache.stores.connection import Connection, Reached
from model_cache.stores.threads import start_thread

T = TypeVar("T")

Connect: TypeAlias = Callable[[], Connection]
_Idle: TypeAlias = queue.SimpleQueue[Connection | None]

# The most threads that connect at once: one that hangs in a DNS lookup stays there for as long
# as the resolver takes.
_MOST_OPENING = 4
# Seconds within which a thread must begin; one interrupted while starting never does.
_LONGEST_START = 1.0
# Seconds to wait for a free connection before checking again whether another may be opened: the
# caller that made room may have been interrupted before it signalled that.
_LONGEST_WAIT = 0.05
# Seconds to read replies that have probably arrived.
_SHORTEST_WAIT = 0.001
# Seconds between attempts to replace an old connection, and between closing all connections
# because they lead to the wrong server.
_BETWEEN_RENEWALS = 1.0

# Not the module's generator: a model may have seeded it.
_random = random.SystemRandom().random


class Begun(NamedTuple, Generic[T]):
    """A request that was begun.

    Attributes:
        end: waits for its replies, and returns them or what they say.
        is_sent: whether it was sent. If not, `end` also waits for a connection.
    """

    end: Callable[[], T]
    is_sent: bool


class ConnectionPool:
    """Opens connections on demand, up to a limit, and reuses them.

    Args:
        connect: opens a connection.
        size: the most open connections; briefly one more while an old one is replaced.
        clock: seconds, as `time.monotonic`.
        max_age: seconds after which a connection is replaced, shortened at random by up to a
            quarter.
        random: returns a number from 0 to 1, as `random.random`; spreads the connects of a fleet.

    Attributes:
        reached: what is known about the server.
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
        self.reached = Reached()
        self._begin()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Drop the connections, which belong to the parent."""
        self._begin()

    def _begin(self) -> None:
        if self._closing is not None:
            self._closing.detach()
        # None in the queue wakes a waiting caller: there is room for another connection.
        self._idle: _Idle = queue.SimpleQueue()
        self._closing = finalize(self, _close_all, self._idle)
        # Weak, so that a connection left behind by an interrupted caller is collected and closed.
        # Not a WeakSet: an interruption in one of its callbacks leaves a dead member.
        self._open: list[ref[Connection]] = []
        self._openings: list[_Opening] = []
        self._lock = threading.RLock()

    def exchange(self, request: bytes, replies: int, timeout: float) -> list[Any]:
        """Send a request and return its replies, within `timeout`; connect if necessary.

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
                    raise _not_quiet()
                received = connection.exchange(request, replies, timeout, self._clock)
            except BaseException as error:
                if not self._went_stale(connection, idle, error):
                    raise
            else:
                idle.put(connection)
                return received
        return self._exchange_on_new(idle, request, replies, deadline)

    def begin(self, request: bytes, replies: int, timeout: float) -> Begun[list[Any]]:
        """Send a request now, if a connection is idle; its end raises the same as `exchange`."""
        idle, deadline = self._idle, self._clock() + timeout
        connection = self._take_idle(idle)
        if connection is None or connection.expires < self._clock():
            if connection is not None:
                idle.put(connection)
            return Begun(lambda: self.exchange(request, replies, deadline - self._clock()), False)
        try:
            if not connection.is_quiet():
                raise _not_quiet()
            connection.send(request, timeout)
        except BaseException as error:
            if self._went_stale(connection, idle, error):
                return Begun(lambda: self._exchange_on_new(idle, request, replies, deadline), False)
            if isinstance(error, TimeoutError) and not is_interruption(error):
                return Begun(_time_out, True)
            raise
        return Begun(lambda: self._end(connection, idle, request, replies, deadline), True)

    def _end(
        self, connection: Connection, idle: _Idle, request: bytes, replies: int, deadline: float
    ) -> list[Any]:
        try:
            # What has arrived while another server was waited for is read in any case.
            left = max(deadline - self._clock(), _SHORTEST_WAIT)
            received = connection.receive(replies, left, self._clock)
        except BaseException as error:
            if not self._went_stale(connection, idle, error):
                raise
        else:
            idle.put(connection)
            return received
        return self._exchange_on_new(idle, request, replies, deadline)

    def _went_stale(self, connection: Connection, idle: _Idle, error: BaseException) -> bool:
        """Close a connection on which an exchange failed; return whether another may work."""
        # The next caller would read the rest of the reply.
        self._discard(connection, idle)
        if (
            isinstance(error, TimeoutError)
            or not isinstance(error, OSError)
            or is_interruption(error)
        ):
            return False
        # It went stale while idle, and so, probably, did the others.
        self.close_idle()
        return True

    def _exchange_on_new(
        self, idle: _Idle, request: bytes, replies: int, deadline: float
    ) -> list[Any]:
        if type(idle) is not queue.SimpleQueue:
            # gevent or eventlet has patched it since, as in a preloaded worker of gunicorn. A wait
            # on the old one would block all greenlets, among them the one that connects.
            self.close()
            idle = self._idle
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
        self.reached.has_answered = True
        idle.put(connection)
        return received

    def _take_idle(self, idle: _Idle) -> Connection | None:
        while True:
            try:
                connection = idle.get_nowait()
            except queue.Empty:
                return None
            if connection is not None:
                if not connection.retired:
                    return connection
                self._discard(connection, idle)

    def _wait_for_one(self, idle: _Idle, deadline: float) -> Connection:
        """Return a new connection, or, at the limit, one that another caller returns."""
        while True:
            opening = self._start_opening(idle)
            left = max(0.0, deadline - self._clock())
            try:
                if opening is not None:
                    return opening.result(left)
                connection = idle.get(timeout=min(left, _LONGEST_WAIT))
            except queue.Empty:
                if opening is not None or left <= _LONGEST_WAIT:
                    raise TimeoutError("timed out waiting for a connection") from None
                continue
            if connection is not None:
                if not connection.retired:
                    return connection
                self._discard(connection, idle)

    def _renew(self, connection: Connection, idle: _Idle) -> None:
        """Open a replacement for an old connection, which stays in use until then."""
        connection.expires = self._clock() + _BETWEEN_RENEWALS  # when to retry if this fails
        self._start_opening(idle, replaces=connection)

    def _start_opening(self, idle: _Idle, replaces: Connection | None = None) -> _Opening | None:
        with self._lock:
            now = self._clock()
            self._forget_ended(now)
            under_way = len(self._openings)
            is_full = replaces is None and len(self._open) + under_way >= self._size
            if is_full or under_way >= _MOST_OPENING:
                return None
            opening = _Opening(idle, now + _LONGEST_START, replaces)
            self._openings.append(opening)
        # On a thread, since no timeout applies to resolving a name.
        start_thread(partial(self._run, opening))
        return opening

    def _forget_ended(self, now: float) -> None:
        self._openings = [each for each in self._openings if each.is_under_way(now)]
        self._open = [each for each in self._open if is_open(each())]

    def _run(self, opening: _Opening) -> None:
        opening.begun = True
        result = opened(self._connect)
        if isinstance(result, Connection):
            result.expires = self._clock() + self._max_age * (1 - 0.25 * self._random())
            self.reached.has_connected = True
        with self._lock:
            opening.done = True
            if isinstance(result, Connection):
                self._open.append(ref(result))
        opening.deliver(result)

    def _discard(self, connection: Connection, idle: _Idle) -> None:
        connection.close()
        idle.put(None)

    def close_idle(self) -> None:
        """Close the idle connections."""
        idle = self._idle
        while (connection := self._take_idle(idle)) is not None:
            self._discard(connection, idle)

    def retire(self) -> None:
        """Stop using the current connections, since they lead to the wrong server.

        Rate-limited: new connections may lead to the same server.
        """
        now = self._clock()
        if now < self._retired_all + _BETWEEN_RENEWALS:
            return
        self._retired_all = now
        with self._lock:
            self._retire_open()
        self.close_idle()

    def _retire_open(self) -> None:
        for connection in [each() for each in self._open]:
            if connection is not None:
                connection.retired = True

    def close(self) -> None:
        """Close each connection as soon as it is idle; a later request opens new ones."""
        idle = self._idle
        # A connection returned to the old queue is collected with it.
        self._begin()
        _close_all(idle)


def opened(connect: Connect) -> Connection | Exception:
    """Return a new connection, or the error."""
    try:
        return connect()
    except (OSError, StoreUnavailableError) as error:
        # Without its traceback, which contains the login.
        return error.with_traceback(None)
    except BaseException as error:
        message = f"connecting raised {type(error).__name__}: {error}"
        return StoreUnavailableError(message, "connection")


def _not_quiet() -> OSError:
    return ConnectionResetError("closed by the server, or unexpected data")


def _time_out() -> list[Any]:
    raise TimeoutError


def is_open(connection: Connection | None) -> bool:
    """Return whether a connection still exists and is open."""
    return connection is not None and not connection.closed


def _close_all(idle: _Idle) -> None:
    try:
        while True:
            if (connection := idle.get_nowait()) is not None:
                connection.close()
    except queue.Empty:
        return


class _Opening:
    """A connection being opened; if it arrives after its caller timed out, it becomes idle.

    Args:
        idle: the queue of idle connections.
        must_begin: when its thread must have begun, on the pool's clock.
        replaces: the connection that it replaces; no caller waits for it then.
    """

    def __init__(self, idle: _Idle, must_begin: float, replaces: Connection | None) -> None:
        self._idle = idle
        self._must_begin = must_begin
        self._replaces = replaces
        self._results: queue.SimpleQueue[Connection | Exception] = queue.SimpleQueue()
        self._abandoned = False
        self.begun = self.done = False

    def is_under_way(self, now: float) -> bool:
        """Return whether a thread is opening it, or is about to."""
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
        try:
            raise result
        finally:
            del result  # its traceback refers to this frame

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
            self._idle.put(None)  # a caller waiting for a free one may now open its own

    def _reclaim(self) -> None:
        try:
            result = self._results.get_nowait()
        except queue.Empty:
            return
        self._idle.put(result if isinstance(result, Connection) else None)

"""How one event loop reaches one server: by one multiplexed connection.

A connection is opened on a thread of its own, as for threads, since resolving, TLS and the login
may block; all replies are then read by the loop. Each caller has its own time-out. A connection
that does not answer is replaced: it takes no more requests, and callers that still wait on it
go on waiting.
"""

from __future__ import annotations

import copy
import math
import random
import time
from asyncio import AbstractEventLoop, Future, TimerHandle
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from model_cache.stores.connection import Connection, Reached
from model_cache.stores.multiplexed import Exchange, MultiplexedConnection
from model_cache.stores.pool import Connect, opened
from model_cache.stores.threads import start_thread

# A connect that hangs, say in a DNS lookup, must not keep out one that would succeed.
_MOST_DIALS, _BETWEEN_DIALS = 4, 1.0
# Between its turns, a busy loop releases the GIL for so short a time that CPython's other threads
# can miss it for seconds. While a connection is being opened, the loop sleeps from time to time.
_BETWEEN_SLEEPS, _SLEEP = 0.005, 0.0001
# Seconds until a connection that could not be replaced is tried again.
_BETWEEN_RENEWALS = 1.0
# Seconds past its caller's deadline that a reply may be missing before its connection is replaced.
_LONGEST_OVERDUE = 1.0
# Time-outs are noticed this many seconds late at most, so that few looks notice many.
_RESOLUTION = 0.002
# Seconds after which somebody looks again, in case that a look was interrupted.
_SECOND_LOOK = 0.05
# A loop that was held up has not seen the replies yet: it gets this many seconds to read them.
_GRACE = 0.01

# The system's: a model may have seeded Python's own.
_random = random.SystemRandom().random


class _Dial:
    """A connection being opened.

    Attributes:
        began: when, by the loop's clock.
        is_done: whether its thread has ended. The loop is told then, but may be interrupted.
    """

    def __init__(self, began: float) -> None:
        self.began = began
        self.is_done = False


class Link:
    """What the tasks of one event loop share: a connection, or the wait for one.

    Args:
        loop: the loop, whose thread alone may use this.
        connect: opens a connection; it may block.
        reached: what is known about the server.
        max_age: seconds after which a connection is replaced, less up to a quarter.
        random: a number from 0 to 1, as `random.random`.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        connect: Connect,
        reached: Reached,
        *,
        max_age: float = math.inf,
        random: Callable[[], float] = _random,
    ) -> None:
        self.loop = loop
        self._connect = connect
        self._reached = reached
        self._max_age = max_age
        self._random = random
        self._current: MultiplexedConnection | None = None
        self._retired: list[MultiplexedConnection] = []  # until their last reply
        self._waiting: list[Exchange] = []  # for a connection
        self._dials: list[_Dial] = []
        self._is_closed = False
        # All that wait, in order; some of the oldest may have their reply.
        self._asked: deque[Exchange] = deque()
        self._timers: tuple[TimerHandle, ...] = ()
        self._timer_at = math.inf

    def exchange(self, request: bytes, replies: int, timeout: float) -> Future[list[Any]]:
        """Return the future of the replies to a request.

        It is done within `timeout` seconds, if necessary with a `TimeoutError`.
        """
        now = self.loop.time()
        future: Future[list[Any]] = self.loop.create_future()
        deadline = now + timeout
        exchange = Exchange(future, request, replies, deadline, now)
        asked = self._asked
        while asked and asked[0].future.done():
            asked.popleft()
        asked.append(exchange)
        connection = self._usable(now)
        if connection is None:
            self._waiting.append(exchange)
            self._dial(now)
        else:
            connection.send(exchange)
        if deadline < self._timer_at:
            self._look_at(deadline)
        return future

    def retire(self) -> None:
        """Use the connection of now for no more requests."""
        if self._current is not None:
            self._retire(self._current)

    def close(self) -> None:
        """Close the connections; callers that still wait get an error."""
        self._is_closed = True
        for connection in self._connections():
            connection.close()
        self._fail_waiting(ConnectionAbortedError("closed by this process"))
        self._stop_looking()

    def abandon(self) -> None:
        """Close the sockets alone: the loop is closed, or another process's."""
        self._is_closed = True
        for connection in self._connections():
            connection.abandon()

    def answered(self) -> None:
        self._reached.has_answered = True

    def broken(
        self, connection: MultiplexedConnection, unanswered: Iterable[Exchange], error: Exception
    ) -> None:
        if connection is self._current:
            self._current = None
        elif connection in self._retired:
            self._retired.remove(connection)
        # One reconnect at once, if the server may just have closed it: each request may be sent
        # twice without harm.
        may_resend = isinstance(error, OSError) and connection.answered_at and not self._is_closed
        # The server may have closed it because of the first of them. If that is sent last, the
        # others have their replies before it breaks the next connection, too.
        exchanges = deque(unanswered)
        exchanges.rotate(-1)
        for exchange in exchanges:
            if exchange.future.done():
                continue
            if may_resend and not exchange.was_resent:
                exchange.restart()
                self._waiting.append(exchange)
            else:
                exchange.fail(copy.copy(error))
        if self._waiting:
            self._dial(self.loop.time())

    def _connections(self) -> list[MultiplexedConnection]:
        return [*self._retired, *([] if self._current is None else [self._current])]

    def _usable(self, now: float) -> MultiplexedConnection | None:
        connection = self._current
        if connection is None or connection.closed:
            self._current = None
            return None
        pending = connection.pending
        if pending and pending[0].deadline + _LONGEST_OVERDUE < now:
            self._retire(connection)
            return None
        if connection.expires < now:
            connection.expires = now + _BETWEEN_RENEWALS  # if it can't be replaced
            self._dial(now)
        return connection

    def _retire(self, connection: MultiplexedConnection) -> None:
        if connection is self._current:
            self._current = None
            self._retired.append(connection)
        connection.retire()

    def _dial(self, now: float) -> None:
        latest = now - _BETWEEN_DIALS
        dials = [each for each in self._dials if not each.is_done or each.began > latest]
        self._dials = dials
        if dials and (dials[-1].began > latest or len(dials) >= _MOST_DIALS):
            return
        dial = _Dial(now)
        try:
            start_thread(partial(self._open, dial))
        except RuntimeError as error:  # no more threads
            self._fail_waiting(error)
            return
        dials.append(dial)
        self.loop.call_soon(self._let_run, dial)

    def _let_run(self, dial: _Dial) -> None:
        """Let the thread of a dial have the GIL regularly; the newest dial's sleeps serve all."""
        if dial.is_done or dial not in self._dials[-1:]:
            return
        self.loop.call_later(_BETWEEN_SLEEPS, self._let_run, dial)
        time.sleep(_SLEEP)

    def _open(self, dial: _Dial) -> None:
        """Open a connection, on a thread of its own."""
        result = opened(self._connect)
        dial.is_done = True
        try:
            self.loop.call_soon_threadsafe(self._opened, dial, result)
        except RuntimeError:  # the loop is closed
            if isinstance(result, Connection):
                result.close()

    def _opened(self, dial: _Dial, result: Connection | Exception) -> None:
        if dial in self._dials:
            self._dials.remove(dial)
        if isinstance(result, Exception):
            if self._current is None:
                self._fail_waiting(result)
            return
        self._reached.has_connected = True
        if self._is_closed:
            result.close()
            return
        now = self.loop.time()
        expires = now + self._max_age * (1 - 0.25 * self._random())
        before = self._current
        self._current = connection = MultiplexedConnection(result, self.loop, self, expires)
        if before is not None:
            self._retired.append(before)
            before.retire()
        waiting, self._waiting = self._waiting, []
        for exchange in waiting:
            if exchange.future.done():
                continue
            if connection.closed:
                self._waiting.append(exchange)
            else:
                exchange.sent_at = now
                connection.send(exchange)

    def _fail_waiting(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, []
        for exchange in waiting:
            exchange.fail(copy.copy(error))

    def _look_at(self, moment: float, *, is_late: bool = False) -> None:
        """Look at a moment which callers have waited too long."""
        call_at, again = self.loop.call_at, moment + _SECOND_LOOK
        # Twice, since a signal handler may raise in the first look.
        timers = (
            call_at(moment, self._look, moment, is_late),
            call_at(again, self._look, again, True),
        )
        self._stop_looking()
        self._timers, self._timer_at = timers, moment

    def _stop_looking(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers, self._timer_at = (), math.inf

    def _look(self, due: float, is_late: bool) -> None:
        now = self.loop.time()
        if now > due + _GRACE and not is_late:
            self._look_at(now + _GRACE, is_late=True)
            return
        nearest = math.inf
        for exchange in self._asked:
            if exchange.future.done():
                continue
            if exchange.deadline <= now:
                exchange.fail(TimeoutError())
            else:
                nearest = min(nearest, exchange.deadline)
        self._asked = deque(each for each in self._asked if not each.future.done())
        self._waiting = [each for each in self._waiting if not each.future.done()]
        for connection in self._connections():
            if connection.retired or connection.is_silent(now):
                self._retire(connection)
        if nearest < math.inf and not self._is_closed:
            self._look_at(max(nearest, now + _RESOLUTION))
        else:
            self._stop_looking()

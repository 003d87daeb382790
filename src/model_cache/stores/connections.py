"""Connections to Redis: opened by redis-py, then used directly, and only one request at a time.

A connection goes back to the pool only after one whole reply with nothing left behind it.
Whatever comes in between (a time-out, Ctrl-C, a soft time limit) closes it: otherwise the next
caller would get this caller's reply. Keys and entries are unknown here.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias
from weakref import WeakSet, finalize

import hiredis

from model_cache.forks import renew_after_fork
from model_cache.protocols import Clock

_INCOMPLETE = object()
_BUFFER_SIZE = 65_536
_ONE_SEGMENT = 1400  # bytes that are sent without waiting for the other side
# So many threads at most wait for a connect at once: one that hangs in a DNS look-up is stuck
# for as long as the resolver likes.
_MOST_OPENING = 4


class ErrorReply(Exception):  # noqa: N818 - the protocol's own word for it
    """An error that the server replied; hiredis returns it as a value."""

    @property
    def code(self) -> str:
        """The reply's first word: OOM, READONLY, WRONGTYPE, ..."""
        return str(self).partition(" ")[0]


class Connection:
    """One connection: a request, its whole reply; then the next."""

    def __init__(self, client: Any) -> None:
        client.connect()
        self._client = client
        # redis-py has no public name for the socket; reading from it here, with a reader of
        # our own, halves the CPU of a request, and lets the time-out bound the whole reply.
        self._socket: Any = client._sock
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._timeout: float | None = None
        self._buffer = bytearray(_BUFFER_SIZE)
        self._reader: Any = hiredis.Reader(replyError=ErrorReply, notEnoughData=_INCOMPLETE)

    def exchange(self, request: bytes, replies: int, timeout: float, clock: Clock) -> list[Any]:
        """Send a request and return its replies.

        Args:
            request: one or more commands.
            replies: how many they are.
            timeout: seconds until they must be complete.
            clock: seconds, as `time.monotonic`.

        Raises:
            TimeoutError: they are not.
            OSError: the connection is broken.
        """
        deadline = clock() + timeout
        if timeout != self._timeout:  # to set it is a system call
            self._limit(timeout)
        self._socket.sendall(request)
        if len(request) > _ONE_SEGMENT:
            self._limit(deadline - clock())
        reader, buffer = self._reader, self._buffer
        received: list[Any] = []
        while True:
            size = self._socket.recv_into(buffer)
            if size == 0:
                raise ConnectionResetError("closed by the server")
            reader.feed(buffer, 0, size)
            while (reply := reader.gets()) is not _INCOMPLETE:
                received.append(reply)
            if len(received) >= replies:
                break
            self._limit(deadline - clock())
        if len(received) > replies or reader.has_data():
            raise ConnectionResetError("the server sent more than was asked for")
        return received

    def is_quiet(self) -> bool:
        """Whether nothing has come since the last reply: no stray reply, and no end."""
        return not self._poll.poll(0)

    def _limit(self, timeout: float) -> None:
        if timeout <= 0:
            raise TimeoutError
        self._socket.settimeout(timeout)
        self._timeout = timeout

    def close(self) -> None:
        """Close the socket."""
        self._client.disconnect()


Connect: TypeAlias = Callable[[], Connection]


class ConnectionPool:
    """Opens connections as needed, up to a number, and keeps them.

    Args:
        connect: opens one.
        size: how many may be open.
        clock: seconds, as `time.monotonic`.
    """

    def __init__(self, connect: Connect, size: int, clock: Clock) -> None:
        self._connect = connect
        self._size = size
        self._clock = clock
        self.has_answered = False
        """Whether a server has ever answered, the login apart."""
        self._closing: finalize[Any, Any] | None = None
        self._begin()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Forget the connections: they are the parent's."""
        self._begin()

    def _begin(self) -> None:
        if self._closing is not None:
            self._closing.detach()
        # None among the idle wakes one who waits: there is room for a connection again.
        self._idle: SimpleQueue[Connection | None] = SimpleQueue()
        # Before the sockets' own finalizers, which warn of what was not closed.
        self._closing = finalize(self, _close_all, self._idle)
        # Weak: a connection whose user was interrupted at a bad moment is closed when it is
        # collected, and must not take up room for ever.
        self._open: WeakSet[Connection] = WeakSet()
        self._opening: WeakSet[_Opening] = WeakSet()
        self._lock = threading.RLock()

    def exchange(self, request: bytes, replies: int, timeout: float) -> list[Any]:
        """Send a request, return its replies; opening a connection if need be, all in `timeout`.

        Raises:
            TimeoutError: the replies are not complete after `timeout` seconds.
            OSError, redis.RedisError: connecting failed, or the connection broke.
        """
        if timeout <= 0:
            raise TimeoutError
        idle, deadline = self._idle, self._clock() + timeout
        connection = self._take_idle(idle)
        if connection is not None:
            try:
                if not connection.is_quiet():
                    raise ConnectionResetError("closed by the server, or out of step")
                received = connection.exchange(request, replies, timeout, self._clock)
            except BaseException as error:  # a half-read reply would be the next caller's
                self._discard(connection, idle)
                if isinstance(error, TimeoutError) or not isinstance(error, OSError):
                    raise
                # It went stale while it was idle, and so probably did the others.
                self.close_idle()
            else:
                idle.put(connection)
                return received
        return self._exchange_on_new(idle, request, replies, deadline)

    def _exchange_on_new(
        self,
        idle: SimpleQueue[Connection | None],
        request: bytes,
        replies: int,
        deadline: float,
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

    def _take_idle(self, idle: SimpleQueue[Connection | None]) -> Connection | None:
        try:
            while (connection := idle.get_nowait()) is None:
                pass
        except Empty:
            return None
        return connection

    def _wait_for_one(self, idle: SimpleQueue[Connection | None], deadline: float) -> Connection:
        """Return a new connection, or, if there may be no more, one that somebody gives back."""
        while True:
            opening = self._start_opening(idle)
            left = max(0.0, deadline - self._clock())
            try:
                if opening is not None:
                    return opening.result(left)
                connection = idle.get(timeout=left)
            except Empty:
                raise TimeoutError("no connection in time") from None
            if connection is not None:
                return connection

    def _start_opening(self, idle: SimpleQueue[Connection | None]) -> _Opening | None:
        with self._lock:
            under_way = len(self._opening)
            if under_way >= _MOST_OPENING or len(self._open) + under_way >= self._size:
                return None
            opening = _Opening(idle)
            self._opening.add(opening)
        # A thread, since no time-out bounds the resolving of a name. A daemon, since it must
        # not hold up the end of the process. From here on it alone keeps `opening` alive.
        threading.Thread(target=self._run, args=(opening,), daemon=True).start()
        return opening

    def _run(self, opening: _Opening) -> None:
        result: Connection | Exception
        try:
            result = self._connect()
        except Exception as error:
            result = error
        with self._lock:
            self._opening.discard(opening)
            if isinstance(result, Connection):
                self._open.add(result)
        opening.deliver(result)

    def _discard(self, connection: Connection, idle: SimpleQueue[Connection | None]) -> None:
        with self._lock:
            self._open.discard(connection)
        connection.close()
        idle.put(None)

    def close_idle(self) -> None:
        """Close the connections that nobody is using."""
        idle = self._idle
        while (connection := self._take_idle(idle)) is not None:
            self._discard(connection, idle)

    def close(self) -> None:
        """Close the connections, each when nobody is using it; a later request opens new ones."""
        idle = self._idle
        # What is given back to the old queue goes with it.
        self._begin()
        _close_all(idle)


def _close_all(idle: SimpleQueue[Connection | None]) -> None:
    try:
        while True:
            if (connection := idle.get_nowait()) is not None:
                connection.close()
    except Empty:
        return


class _Opening:
    """A connection being opened; one that comes too late goes to the idle ones."""

    def __init__(self, idle: SimpleQueue[Connection | None]) -> None:
        self._idle = idle
        self._results: SimpleQueue[Connection | Exception] = SimpleQueue()
        self._abandoned = False

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

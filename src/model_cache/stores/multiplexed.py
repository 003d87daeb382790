"""One connection to Redis that all tasks of an event loop share.

Requests are written as they come, and replies are matched to them in order. The reply of a caller
that was cancelled or timed out is read and dropped. Anything that could put requests and replies
out of step closes the connection: an exception while writing or reading, a reply too many.
"""

from __future__ import annotations

import contextlib
import ssl
from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

from model_cache.interruptions import is_interruption, reraise_interruption
from model_cache.stores.connection import INCOMPLETE, Connection, make_reader

_BUFFER_SIZE = 65_536
# What a socket raises that is not ready.
_NOT_READY = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Exchange:
    """A request, and the future of its replies.

    Args:
        future: gets the list of replies.
        request: the commands.
        owed: how many replies are expected.
        deadline: when its caller gives up, by the loop's clock.
        sent_at: when it is handed to a connection.

    Attributes:
        received: the replies so far.
        was_resent: whether the first connection broke.
    """

    was_resent = False

    def __init__(
        self, future: Future[list[Any]], request: bytes, owed: int, deadline: float, sent_at: float
    ) -> None:
        self.future = future
        self.request = request
        self.owed = owed
        self.deadline = deadline
        self.sent_at = sent_at
        self.received: list[Any] = []

    def restart(self) -> None:
        """Drop the replies so far, because the request is sent again."""
        self.was_resent = True
        self.received = []

    def fail(self, error: Exception) -> None:
        """Raise an error in the caller, if it still waits."""
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # a caller that has gone is no reason to log


class Listener(Protocol):
    """Hears what becomes of a connection."""

    def answered(self) -> None:
        """The server sent its first reply."""
        ...

    def broken(
        self, connection: MultiplexedConnection, unanswered: Iterable[Exchange], error: Exception
    ) -> None:
        """The connection is closed."""
        ...


class MultiplexedConnection:
    """A connection in the hands of one event loop, whose thread alone may use it.

    Args:
        connection: connected and logged in.
        loop: the loop.
        listener: hears what becomes of it.
        expires: when to replace it, by the loop's clock.

    Attributes:
        pending: the exchanges without a complete reply, the oldest first.
        answered_at: when the last reply was complete, by the loop's clock; 0.0 before the first.
        retired: whether it takes no more requests, and closes after the last reply.
        closed: whether it is closed.
    """

    def __init__(
        self, connection: Connection, loop: AbstractEventLoop, listener: Listener, expires: float
    ) -> None:
        self.expires = expires
        self.pending: deque[Exchange] = deque()
        self.answered_at = 0.0
        self.retired = self.closed = False
        self._connection = connection  # which closes its socket when it is collected
        self._socket = connection.socket
        self._socket.setblocking(False)
        self._encrypted = self._socket if isinstance(self._socket, ssl.SSLSocket) else None
        self._loop = loop
        self._listener = listener
        self._reader = make_reader()
        self._buffer = bytearray(_BUFFER_SIZE)
        self._outgoing = bytearray()
        self._owed = 0  # replies
        self._is_flush_due = self._is_writer = False
        loop.add_reader(self._socket.fileno(), self._read)

    def send(self, exchange: Exchange) -> None:
        """Write a request; its future gets the reply."""
        try:
            is_idle = not self.pending
            self.pending.append(exchange)
            self._owed += exchange.owed
            if is_idle and self.answered_at and not self._connection.is_quiet():
                raise ConnectionResetError("closed by the server, or out of step")
            # At once if nobody waits for it to be: one write for all requests of a turn.
            sent = self._write(exchange.request) if is_idle and not self._outgoing else 0
            if sent < len(exchange.request):
                self._outgoing += exchange.request[sent:] if sent else exchange.request
                if not self._is_flush_due:
                    self._is_flush_due = True
                    self._loop.call_soon(self._flush)
        except BaseException as error:
            self._fail(error)

    def retire(self) -> None:
        """Take no more requests, and close after the last reply that somebody waits for."""
        self.retired = True
        if not any(not exchange.future.done() for exchange in self.pending):
            self.close()

    def is_silent(self, now: float) -> bool:
        """Whether no reply came for as long as the oldest caller waited."""
        if not self.pending:
            return False
        oldest = self.pending[0]
        patience = oldest.deadline - oldest.sent_at
        return oldest.deadline <= now and self.answered_at + patience <= now

    def close(self) -> None:
        """Close it; callers that still wait get an error."""
        self._end(ConnectionAbortedError("closed by this process"))

    def abandon(self) -> None:
        """Close the socket alone: the loop is closed, or another process's."""
        self.closed = True
        self._connection.close()

    def _write(self, data: bytes | bytearray) -> int:
        try:
            return self._socket.send(data)
        except _NOT_READY:
            return 0
        except ConnectionError as error:
            reraise_interruption(error)
            # It ends when the replies have been read that the server has sent before.
            self._loop.call_soon(self._read)
            return len(data)

    def _flush(self) -> None:
        if self.closed:
            return
        try:
            outgoing = self._outgoing
            if outgoing:
                del outgoing[: self._write(outgoing)]
            self._is_flush_due = bool(outgoing)
            if self._is_flush_due != self._is_writer:
                self._is_writer = self._is_flush_due
                if self._is_writer:
                    self._loop.add_writer(self._socket.fileno(), self._flush)
                else:
                    self._loop.remove_writer(self._socket.fileno())
        except BaseException as error:
            self._fail(error)

    def _read(self) -> None:
        try:
            if self.closed:  # by an end that was interrupted
                self._stop_watching()
                return
            self._read_all()
            if self.retired and not self.pending:
                self.close()
        except BaseException as error:
            self._fail(error)

    def _read_all(self) -> None:
        has_looked_again = False
        while (size := self._received()) > 0:
            self._reader.feed(self._buffer, 0, size)
            self._hand_out()
            # Decrypted bytes that are left do not wake the loop.
            if self._encrypted is not None and self._encrypted.pending():
                continue
            # uvloop calls this once after a reset, also if there were replies to read before it.
            if has_looked_again or not self.pending:
                break
            has_looked_again = True
        if size == 0:
            raise ConnectionResetError("closed by the server")

    def _received(self) -> int:
        """Return how many bytes came: 0 at the end, -1 if none did."""
        try:
            return self._socket.recv_into(self._buffer)
        except _NOT_READY:
            return -1

    def _hand_out(self) -> None:
        replies = list(iter(self._reader.gets, INCOMPLETE))
        if not replies:
            return
        if not self.answered_at:
            self._listener.answered()
        self.answered_at = self._loop.time()
        self._owed -= len(replies)
        if self._owed < 0:  # before any is handed out: whose are they?
            raise ConnectionResetError("the server sent more than was asked for")
        pending = self.pending
        for reply in replies:
            exchange = pending[0]
            exchange.received.append(reply)
            if len(exchange.received) == exchange.owed:
                pending.popleft()
                if not exchange.future.done():
                    exchange.future.set_result(exchange.received)

    def _fail(self, error: BaseException) -> None:
        """Close it since requests and replies may be out of step."""
        if isinstance(error, Exception) and not is_interruption(error):
            self._end(error)
            return
        self._end(ConnectionAbortedError("interrupted"))
        try:
            raise error
        finally:
            del error  # its traceback refers to this frame

    def _end(self, error: Exception) -> None:
        if self.closed:
            return
        self.closed = True
        self._stop_watching()
        self._connection.close()
        unanswered, self.pending = self.pending, deque()
        self._listener.broken(self, unanswered, error)

    def _stop_watching(self) -> None:
        with contextlib.suppress(RuntimeError, OSError, ValueError):  # the loop is closed
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())

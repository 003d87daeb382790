"""One connection to Redis: send a request, read its complete reply, then the next request.

If an exchange raises, close the connection. Otherwise the next caller would read the rest of the
previous reply.
"""

from __future__ import annotations

import contextlib
import math
import select
import selectors
import socket
from collections.abc import Callable
from typing import Any

import hiredis

from model_cache.protocols import Clock

INCOMPLETE = object()
"""What a reader returns while it has no complete reply."""

_BUFFER_SIZE = 65_536
_ONE_SEGMENT = 1400  # bytes that can be sent without waiting for the server
_LONGEST_TEXT = 200
_TIMER = 0.001  # seconds; sockets wait for whole milliseconds, rounded up

# A server may send any word as an error code; only these become metric labels.
_KINDS = frozenset({
    "ASK", "BUSY", "CLUSTERDOWN", "CROSSSLOT", "DENIED", "ERR", "LOADING", "MASTERDOWN", "MISCONF",
    "MOVED", "NOAUTH", "NOPERM", "NOREPLICAS", "OOM", "READONLY", "TRYAGAIN", "WRONGPASS",
    "WRONGTYPE",
})  # fmt: skip


class ErrorReply(Exception):  # noqa: N818 - the protocol's own term
    """An error reply; hiredis returns it as a value."""

    @property
    def code(self) -> str:
        """The reply's first word: OOM, READONLY, WRONGTYPE, ..."""
        return str(self).partition(" ")[0]

    @property
    def kind(self) -> str:
        """The code if it is a well-known one, else "other"."""
        return self.code if self.code in _KINDS else "other"


def printable(reply: object) -> str:
    """Return a reply shortened and without control characters, for a log line."""
    text = str(reply) if isinstance(reply, ErrorReply) else repr(reply)  # str(b"") fails under -bb
    text = text[:_LONGEST_TEXT]
    return "".join(character if character.isprintable() else " " for character in text)


def command_of(*words: bytes) -> bytes:
    """Return a command encoded as RESP."""
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


def make_reader() -> Any:
    """Return a parser of replies; it returns `INCOMPLETE` when there is none."""
    return hiredis.Reader(replyError=ErrorReply, notEnoughData=INCOMPLETE)


class Connection:
    """One connection.

    Attributes:
        socket: the socket, connected, encrypted and logged in.
        expires: when the pool should replace it, on the pool's clock.
        retired: whether it must not be used again.
        closed: whether it is closed.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.expires = math.inf
        self.retired = self.closed = False
        self.socket = sock
        self._has_input = _input_check(sock)
        self._timeout = -1.0  # of the socket; not set yet
        self._buffer = bytearray(_BUFFER_SIZE)
        # Our own reader takes less CPU time than redis-py's, and lets the timeout cover the whole
        # reply.
        self._reader = make_reader()

    def exchange(self, request: bytes, replies: int, timeout: float, clock: Clock) -> list[Any]:
        """Send a request and return its replies.

        Args:
            request: one or more commands.
            replies: the number of replies to expect.
            timeout: seconds to wait for all of them.
            clock: seconds, as `time.monotonic`.

        Raises:
            TimeoutError: the replies are not complete in time.
            OSError: the connection is broken.
            hiredis.HiredisError: the server does not speak RESP.
        """
        deadline = clock() + timeout
        self.send(request, timeout)
        if len(request) > _ONE_SEGMENT:
            self._limit(deadline - clock())
        return self._receive(replies, deadline, clock)

    def send(self, request: bytes, timeout: float) -> None:
        """Send a request; call `receive` next. It raises the same as `exchange`."""
        if not timeout <= self._timeout <= timeout + _TIMER:  # setting it is a system call
            self._limit(timeout)
        self.socket.sendall(request)

    def receive(self, replies: int, timeout: float, clock: Clock) -> list[Any]:
        """Return the replies to the request that was sent; see `exchange`."""
        self._limit(timeout)
        return self._receive(replies, clock() + timeout, clock)

    def _receive(self, replies: int, deadline: float, clock: Clock) -> list[Any]:
        reader, buffer = self._reader, self._buffer
        received: list[Any] = []
        while True:
            size = self.socket.recv_into(buffer)
            if size == 0:
                raise ConnectionResetError("closed by the server")
            reader.feed(buffer, 0, size)
            while len(received) < replies and (reply := reader.gets()) is not INCOMPLETE:
                received.append(reply)
            if len(received) == replies:
                break
            self._limit(deadline - clock())
        if reader.has_data():
            raise ConnectionResetError("the server sent more replies than expected")
        return received

    def is_quiet(self) -> bool:
        """Return whether nothing has arrived since the last reply, not even the end of stream."""
        return not self._has_input(0)

    def _limit(self, timeout: float) -> None:
        if timeout <= 0:
            raise TimeoutError
        self.socket.settimeout(timeout)
        self._timeout = timeout

    def close(self) -> None:
        """Close the socket."""
        self.closed = True
        with contextlib.suppress(OSError):
            self.socket.close()

    # Closes a connection that an interruption left behind, without a ResourceWarning.
    __del__ = close


class Reached:
    """What is known about a server, for better error messages.

    Attributes:
        has_connected: whether any attempt to connect has succeeded.
        has_answered: whether the server has ever answered a request, other than the login.
    """

    def __init__(self) -> None:
        self.has_connected = self.has_answered = False


def _input_check(sock: socket.socket) -> Callable[[float], Any]:
    """Return a function that waits up to the given seconds for something to read."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return poll.poll
    # Windows has no poll, and eventlet removes it.
    selector = selectors.DefaultSelector()
    selector.register(sock, selectors.EVENT_READ)
    return selector.select

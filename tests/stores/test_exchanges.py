"""One exchange with a server over a connection, byte by byte."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from model_cache.stores.connection import Connection

PING = b"*1\r\n$4\r\nPING\r\n"


@pytest.fixture
def ends() -> Iterator[tuple[Connection, socket.socket]]:
    """A connection, and the server's end of it."""
    ours, servers = socket.socketpair()
    connection = Connection(ours)
    with servers:
        yield connection, servers
    connection.close()


def test_the_timeout_covers_all_parts_of_a_reply(ends: tuple[Connection, socket.socket]) -> None:
    connection, server = ends
    now = [100.0]

    def clock() -> float:
        if len(now) > 1:  # the first part has arrived
            server.sendall(b"NG\r\n")
        now.append(now[-1] + 6.0)
        return now[-2]

    server.sendall(b"+PO")
    with pytest.raises(TimeoutError):
        connection.exchange(PING, 1, 5.0, clock)


def test_the_timeout_covers_the_sending_of_a_large_request(
    ends: tuple[Connection, socket.socket],
) -> None:
    connection, server = ends
    times = iter([100.0, 106.0])
    server.sendall(b"+PONG\r\n")
    with pytest.raises(TimeoutError):
        connection.exchange(PING * 200, 1, 5.0, lambda: next(times))


def test_a_reply_in_parts_is_one_reply(ends: tuple[Connection, socket.socket]) -> None:
    connection, server = ends
    now = [100.0]

    def clock() -> float:
        if len(now) > 1:
            server.sendall(b"NG\r\n")
        now.append(now[-1] + 4.0)
        return now[-2]

    server.sendall(b"+PO")
    assert connection.exchange(PING, 1, 5.0, clock) == [b"PONG"]
    assert connection.is_quiet()


def test_a_reply_that_nobody_asked_for_breaks_the_connection(
    ends: tuple[Connection, socket.socket],
) -> None:
    connection, server = ends
    for unasked in (b"+PONG\r\n+PONG\r\n", b"+PONG\r\n+PO"):
        server.sendall(unasked)
        with pytest.raises(ConnectionResetError, match="more replies than expected"):
            connection.exchange(PING, 1, 5.0, lambda: 0.0)


def test_a_closed_connection_says_so(ends: tuple[Connection, socket.socket]) -> None:
    connection, server = ends
    assert not connection.closed
    connection.close()
    assert connection.closed
    assert server.recv(1) == b""

"""Stores at real servers, and at servers with scripted replies."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from model_cache.stores.server import RedisStore
from model_cache.stores.url import Endpoint, parse_url
from tests.servers import Server

TIMEOUT = 5.0  # generous: the machine may be busy


class InALoop:
    """A store for event loops, with the methods of one for threads."""

    def __init__(
        self, store: Any, make: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    ) -> None:
        self._store = store
        self._runner = asyncio.Runner(loop_factory=make)

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any) -> Any:
            return await getattr(self._store, name)(*arguments)

        return lambda *arguments: self._runner.run(call(*arguments))

    def close(self) -> None:
        async def close() -> None:
            self._store.close()

        with self._runner:
            self._runner.run(close())


def store_at(url: str, **options: Any) -> RedisStore:
    return RedisStore(parse_url("url", url), **options)


def store_on(server: Server, **options: Any) -> RedisStore:
    return store_at(server.url, **options)


def trickle(connection: socket.socket, _: bytes) -> None:
    for byte in b"$100\r\n" + b"x" * 100 + b"\r\n":
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


@contextlib.contextmanager
def scripted(answers: Callable[[socket.socket, bytes], None]) -> Iterator[Endpoint]:
    """A server that does to each request what a broken one, or a liar, might."""
    listener = socket.create_server(("127.0.0.1", 0))
    open_ones: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while request := connection.recv(65_536):
                answers(connection, request)
            connection.close()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                open_ones.append(connection)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield Endpoint("127.0.0.1", listener.getsockname()[1])
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        for end in (listener, *open_ones):
            end.close()


@contextlib.contextmanager
def server_that(answers: Callable[[socket.socket, bytes], None]) -> Iterator[RedisStore]:
    """A store at a scripted server."""
    with (
        scripted(answers) as endpoint,
        contextlib.closing(RedisStore(endpoint)) as store,
    ):
        yield store

"""The server ends a connection that tasks of a loop share: only what it refuses is lost."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from typing import Any

import pytest

from model_cache.errors import StoreUnavailableError
from model_cache.stores.server import AsyncRedisStore
from tests.servers import running_server
from tests.stores.opened import TIMEOUT, scripted
from tests.stores.test_multiplexed import check, loop, store_at, store_on

__all__ = ["loop"]


def test_a_request_that_ends_its_connection_fails_alone(loop: Any) -> None:
    def answers(connection: socket.socket, request: bytes) -> None:
        for command in request.split(b"*")[1:]:
            if b"poison" in command:
                connection.shutdown(socket.SHUT_RDWR)
                return
            connection.sendall(b"$5\r\nentry\r\n")

    async def poisoned(store: AsyncRedisStore) -> None:
        assert await store.get(b"key", TIMEOUT) == b"entry"
        keys = [b"poison", *[b"key"] * 20]
        asked = [store.get(key, TIMEOUT) for key in keys]
        first, *others = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(first, StoreUnavailableError)
        assert others == [b"entry"] * 20

    with scripted(answers) as endpoint:
        check(loop, store_on(endpoint), poisoned)


def test_replies_that_came_before_the_end_of_a_connection_are_not_lost(loop: Any) -> None:
    async def too_large(store: AsyncRedisStore) -> None:
        await store.set(b"key", b"entry", None, TIMEOUT)
        for _ in range(20):
            large = asyncio.ensure_future(store.set(b"large", bytes(3_000_000), None, TIMEOUT))
            others = []
            for _ in range(50):  # some are written when the server has ended the connection
                others.append(asyncio.ensure_future(store.get(b"key", TIMEOUT)))
                await asyncio.sleep(0.0001)
            assert await asyncio.gather(*others) == [b"entry"] * 50
            with pytest.raises(StoreUnavailableError):
                await large

    with running_server("--proto-max-bulk-len", "1mb") as server:
        check(loop, store_at(server.url), too_large)


def test_a_reset_right_behind_a_reply_is_noticed(loop: Any) -> None:
    asked, is_blocked = [0], threading.Event()

    def answers(connection: socket.socket, request: bytes) -> None:
        for _ in range(request.count(b"GET")):
            asked[0] += 1
            if asked[0] == 2:
                assert is_blocked.wait(10)
            elif asked[0] == 3:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()
                return
            connection.sendall(b"$5\r\nentry\r\n")

    async def reset(store: AsyncRedisStore) -> None:
        assert await store.get(b"key", TIMEOUT) == b"entry"
        both = [asyncio.ensure_future(store.get(b"key", TIMEOUT)) for _ in range(2)]
        for _ in range(3):  # until both are written
            await asyncio.sleep(0)
        is_blocked.set()
        time.sleep(0.1)  # so that the loop sees the reply and the reset at once
        assert await asyncio.gather(*both) == [b"entry"] * 2

    with scripted(answers) as endpoint:
        check(loop, store_on(endpoint), reset)


def test_a_reply_is_not_lost_if_the_next_request_can_not_be_written(loop: Any) -> None:
    asked, is_blocked, is_reset = [0], threading.Event(), threading.Event()

    def answers(connection: socket.socket, request: bytes) -> None:
        asked[0] += 1
        if asked[0] == 2:
            assert is_blocked.wait(10)
        if asked[0] <= 2:
            connection.sendall(b"$5\r\nentry\r\n")
        if asked[0] >= 2:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            is_reset.set()

    async def reset(store: AsyncRedisStore) -> None:
        assert await store.get(b"key", TIMEOUT) == b"entry"
        both = []
        for _ in range(2):
            both.append(asyncio.ensure_future(store.get(b"key", TIMEOUT)))
            await asyncio.sleep(0)  # the first is written, and the second about to be
        is_blocked.set()
        assert is_reset.wait(10)
        first, second = await asyncio.gather(*both, return_exceptions=True)
        assert first == b"entry"
        assert isinstance(second, StoreUnavailableError)

    with scripted(answers) as endpoint:
        check(loop, store_on(endpoint), reset)

"""A store's connections: shared, replaced, interrupted, and never those of a parent."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

import pytest
import redis

from model_cache.errors import StoreUnavailableError
from model_cache.stores.server import RedisStore, SendingRedisStore
from model_cache.stores.url import Endpoint
from tests.servers import Server, free_port, running_server
from tests.signals import signals_every
from tests.stores.opened import TIMEOUT, server_that, store_at, store_on

Ask = Callable[[RedisStore], list[bytes | None]]


def test_threads_share_connections_up_to_the_limit() -> None:
    def work(number: int) -> bool:
        key = b"key%d" % number
        store.set(key, key * 100, None, 10.0)
        return store.get(key, 10.0) == key * 100

    # A server of its own: connections of other tests may still be closing.
    with running_server() as server, server.client() as client:
        store = store_on(server, max_connections=3)
        before = client.info("clients")["connected_clients"]
        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(work, range(500)))
        assert 1 <= client.info("clients")["connected_clients"] - before <= 3
        store.close()


def test_callers_that_wait_at_the_limit_get_the_connection_that_is_returned(
    server: Server, client: redis.Redis
) -> None:
    store = store_on(server, max_connections=1)
    before = client.info("stats")["total_connections_received"]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: store.get(b"key", 10.0), range(200))) == {None}
    assert client.info("stats")["total_connections_received"] - before <= 2
    store.close()


def alone(store: RedisStore) -> list[bytes | None]:
    return store.get_many([b"key"], TIMEOUT)


def with_other_servers(store: RedisStore) -> list[bytes | None]:
    return SendingRedisStore(store).get_many([b"key"], TIMEOUT).end()


@pytest.mark.parametrize("ask", [alone, with_other_servers])
def test_a_connection_that_went_stale_is_replaced_at_once(
    server: Server, client: redis.Redis, ask: Ask
) -> None:
    store = store_on(server)
    for _ in range(20):
        store.set(b"key", b"x", None, TIMEOUT)
        client.client_kill_filter(skipme=True, _type="normal")
        assert ask(store) == [b"x"]
    store.close()


def test_a_server_started_again_is_found_again() -> None:
    with running_server() as server:
        store = store_on(server)
        store.set(b"key", b"x", None, TIMEOUT)
        server.kill()
        with pytest.raises(StoreUnavailableError) as raised:
            store.get(b"key", TIMEOUT)
        assert raised.value.kind == "connection"
        server.start()
        assert store.get(b"key", TIMEOUT) is None
        store.close()


def test_a_caller_that_waits_for_a_connection_notices_that_connecting_failed() -> None:
    store = RedisStore(Endpoint("127.0.0.1", free_port()))

    def get(_: int) -> str:
        try:
            store.get(b"key", 30.0)
        except StoreUnavailableError as error:
            return error.kind
        return "answered"

    started = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(get, range(16))) == {"connection"}
    assert time.monotonic() - started < 10


WITHOUT_POLL = """
import select, selectors, sys
del select.poll, select.epoll
selectors.DefaultSelector = selectors.SelectSelector
from model_cache.stores.url import parse_url
from model_cache.stores.connection import Connection
from model_cache.stores.server import RedisStore, SendingRedisStore
store = RedisStore(parse_url("url", sys.argv[1]))
store.set(b"key", b"entry", None, 5.0)
for _ in range(3):
    assert store.get(b"key", 5.0) == b"entry"
store.execute(5.0, b"CLIENT", b"KILL", b"SKIPME", b"no", b"TYPE", b"normal")
assert store.get(b"key", 5.0) == b"entry"
store.close()
"""


def test_it_works_without_poll(server: Server) -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_POLL, server.url], check=True, timeout=60)


class Interrupted(BaseException):
    """What a signal handler raises: Ctrl-C, a worker's soft time limit."""


def test_an_interruption_never_leaves_anothers_reply_behind(server: Server) -> None:
    store = store_on(server, max_connections=2)
    keys = [b"key%d" % number for number in range(50)]
    for key in keys:
        store.set(key, key * 50, None, TIMEOUT)
    armed = False

    def interrupt(_: int, frame: FrameType | None) -> None:
        # Not in a finalizer that happens to run: what is raised there is lost.
        if armed and frame is not None and "stores" in frame.f_code.co_filename:
            raise Interrupted

    interruptions = wrong = 0
    with signals_every(0.0007, interrupt):
        for number in range(6000):
            key = keys[number % 50]
            try:
                armed = True
                found = store.get(key, 5.0)
                armed = False
            except Interrupted:
                armed = False
                interruptions += 1
            else:
                wrong += found != key * 50
    assert wrong == 0
    assert interruptions > 20
    gc.collect()
    # Not one place in the pool was lost for good.
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda key: store.get(key, 5.0), keys)) == [key * 50 for key in keys]
    store.close()


@pytest.mark.parametrize("ask", [alone, with_other_servers])
def test_what_a_server_has_sent_unasked_answers_nobody(ask: Ask) -> None:
    first = True

    def answers(connection: socket.socket, _: bytes) -> None:
        nonlocal first
        connection.sendall(b"$5\r\nright\r\n")
        if first:
            first = False
            assert has_read.wait(TIMEOUT)
            connection.sendall(b"$5\r\nwrong\r\n")
            is_sent.set()

    has_read, is_sent = threading.Event(), threading.Event()
    with server_that(answers) as store:
        for _ in range(2):
            assert ask(store) == [b"right"]
            has_read.set()
            assert is_sent.wait(TIMEOUT)


def test_a_forked_child_opens_connections_of_its_own(server: Server) -> None:
    store = store_on(server)
    for number in range(20):
        store.set(b"key%d" % number, b"v%d" % number, None, TIMEOUT)
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            right = all(
                store.get(b"key%d" % number, 10.0) == b"v%d" % number
                for _ in range(100)
                for number in range(20)
            )
            os._exit(0 if right else 1)
        children.append(child)
    for _ in range(100):
        for number in range(20):
            assert store.get(b"key%d" % number, 10.0) == b"v%d" % number
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    store.close()


def test_a_fork_while_threads_are_busy_does_no_harm(server: Server) -> None:
    store = store_on(server, max_connections=4)
    store.set(b"key", b"value", None, TIMEOUT)
    done = threading.Event()

    def work() -> int:
        wrong = 0
        while not done.is_set():
            wrong += store.get(b"key", 10.0) != b"value"
        return wrong

    with ThreadPoolExecutor(3) as pool:
        working = [pool.submit(work) for _ in range(3)]
        for _ in range(10):
            child = os.fork()
            if child == 0:
                os._exit(0 if store.get(b"key", 10.0) == b"value" else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        done.set()
        assert [work.result() for work in working] == [0, 0, 0]
    store.close()


def test_a_unix_socket_is_one_more_address(tmp_path: Path) -> None:
    path = f"{tmp_path}/redis.sock"
    with running_server("--unixsocket", path):
        store = store_at(f"unix://{path}?db=2")
        store.set(b"key", b"x", None, TIMEOUT)
        assert store.get(b"key", TIMEOUT) == b"x"
        store.close()

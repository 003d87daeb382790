"""A store whose server refuses, hangs or lies fails in time, and says why."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import hiredis
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from model_cache.errors import ConfigurationError, StoreUnavailableError, WriteRefusedError
from model_cache.stores.connection import Connection
from model_cache.stores.server import RedisStore
from model_cache.stores.url import Endpoint, parse_url
from tests.servers import Server, free_port, running_server
from tests.stores.opened import TIMEOUT, scripted, server_that, store_on, trickle

Open: TypeAlias = Callable[[Endpoint], Any]


def test_a_refused_port_fails_at_once(open_store: Open) -> None:
    store = open_store(Endpoint("127.0.0.1", free_port()))
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1") as raised:
        store.get(b"key", 10.0)
    assert raised.value.kind == "connection"
    assert time.monotonic() - started < 5


def test_a_name_that_does_not_resolve_fails_in_time(open_store: Open) -> None:
    store = open_store(Endpoint("no-such-host.invalid"))
    with pytest.raises(StoreUnavailableError):
        store.get(b"key", 0.5)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_no_time_left_is_a_time_out_that_costs_no_connection(
    open_store: Open, seconds: float
) -> None:
    with running_server() as server, server.client() as client:
        store = open_store(parse_url("url", server.url))
        store.get(b"key", TIMEOUT)
        before = client.info("stats")["total_connections_received"]
        with pytest.raises(StoreUnavailableError) as raised:
            store.get(b"key", seconds)
        assert raised.value.kind == "timeout"
        store.get(b"key", TIMEOUT)
        assert client.info("stats")["total_connections_received"] == before


def test_a_frozen_server_costs_the_timeout_and_no_more(open_store: Open) -> None:
    with running_server() as server:
        store = open_store(parse_url("url", server.url))
        store.set(b"key", b"x", None, TIMEOUT)
        server.freeze()
        for _ in range(3):
            started = time.monotonic()
            with pytest.raises(StoreUnavailableError) as raised:
                store.get(b"key", 0.2)
            assert raised.value.kind == "timeout"
            assert time.monotonic() - started < 1.0
        server.thaw()
        store.set(b"other", b"y", None, TIMEOUT)
        assert store.get(b"key", TIMEOUT) == b"x"
        assert store.get(b"other", TIMEOUT) == b"y"


def test_a_reply_that_trickles_in_is_bounded_as_a_whole(open_store: Open) -> None:
    with scripted(trickle) as endpoint:
        store, started = open_store(endpoint), time.monotonic()
        with pytest.raises(StoreUnavailableError) as raised:
            store.get(b"key", 0.3)
        assert raised.value.kind == "timeout"
        assert time.monotonic() - started < 1.0


@pytest.mark.parametrize(
    "reply",
    [
        b"$5\r\nab",  # cut in the middle, and closed
        b"$5\r\nhello\r\n$5\r\nother\r\n",  # one more than was asked for
        b":1\r\n",
        b"*1\r\n$1\r\nx\r\n",
        b"+PONG\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-NOAUTH Authentication required.\r\n",
        b"-ERR max number of clients reached\r\n",
        b"\x00" * 100,
        b"$-5\r\n",
        b"$99999999999999999999\r\n",
    ],
)
def test_a_reply_that_is_not_an_entry_is_a_failure(reply: bytes, open_store: Open) -> None:
    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(reply)
        connection.shutdown(socket.SHUT_RDWR)

    with scripted(answer) as endpoint:
        store = open_store(endpoint)
        if reply == b"+PONG\r\n":  # bytes: the entry's own business
            assert store.get(b"key", TIMEOUT) == b"PONG"
            return
        for _ in range(2):
            with pytest.raises(StoreUnavailableError):
                store.get(b"key", TIMEOUT)


def test_a_reset_is_a_failure_of_the_connection(open_store: Open) -> None:
    def reset(connection: socket.socket, _: bytes) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    with scripted(reset) as endpoint:
        store = open_store(endpoint)
        for _ in range(3):
            with pytest.raises(StoreUnavailableError) as raised:
                store.get(b"key", TIMEOUT)
            assert raised.value.kind == "connection"


def test_a_reply_that_comes_twice_does_not_reach_the_next_caller() -> None:
    received, sent = threading.Event(), threading.Event()

    def twice(connection: socket.socket, request: bytes) -> None:
        reply = b"$%d\r\n%b\r\n" % (len(request), request)
        connection.sendall(reply)
        received.wait(10)
        connection.sendall(reply)
        sent.set()

    with server_that(twice) as store:
        for number in range(5):
            entry = store.get(b"key%d" % number, TIMEOUT)
            assert entry is not None
            assert b"key%d" % number in entry
            received.set()
            assert sent.wait(10)
            received.clear()
            sent.clear()


def test_an_encrypted_key_is_refused_and_not_asked_for(
    authority: tuple[trustme.CA, Path], tmp_path: Path
) -> None:
    certificate = authority[0].issue_cert("client")
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    path = tmp_path / "client.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    chain = tmp_path / "chain.pem"
    chain.write_bytes(certificate.cert_chain_pems[0].bytes())
    with pytest.raises(ConfigurationError, match="encrypted"):
        RedisStore(parse_url("url", f"rediss://localhost?ssl_certfile={chain}&ssl_keyfile={path}"))


@pytest.mark.parametrize("reply", [b"-MOVED 1 nonsense\r\n", b"-MOVED\r\n", b"-ASK 1 h:999999\r\n"])
def test_a_malformed_redirection_is_a_failure(reply: bytes, open_store: Open) -> None:
    with scripted(lambda connection, _: connection.sendall(reply)) as endpoint:
        store = open_store(endpoint)
        with pytest.raises(StoreUnavailableError):
            store.get(b"key", TIMEOUT)
        with pytest.raises(StoreUnavailableError):
            store.set(b"key", b"x", None, TIMEOUT)


def test_a_cluster_that_is_taken_for_one_server_says_so(open_store: Open) -> None:
    with (
        scripted(lambda c, _: c.sendall(b"-MOVED 1 127.0.0.1:7000\r\n")) as endpoint,
        pytest.raises(StoreUnavailableError, match=r"redis\+cluster://"),
    ):
        open_store(endpoint).get(b"key", TIMEOUT)


def test_the_kinds_of_errors_are_few_and_their_texts_short(open_store: Open) -> None:
    numbers = iter(range(1000))

    def lie(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"-E%d \x1b[31m%b\r\n" % (next(numbers), b"x" * 5000))

    kinds = set()
    with scripted(lie) as endpoint:
        store = open_store(endpoint)
        for call, *arguments in (
            (store.get, b"key"),
            (store.set, b"key", b"x", None),
            (store.delete, [b"key"]),
        ):
            for _ in range(5):
                with pytest.raises(StoreUnavailableError) as raised:
                    call(*arguments, TIMEOUT)
                kinds.add(raised.value.kind)
                assert len(str(raised.value)) < 300
                assert str(raised.value).isprintable()
    assert kinds == {"other"}


def test_nothing_else_leaves_the_store_when_its_own_code_fails(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_on(server)
    for error in (TypeError("no"), KeyError("no"), MemoryError(), hiredis.ProtocolError("no")):

        def fails(*_: object, raised: Exception = error) -> None:
            raise raised

        with monkeypatch.context() as patch:
            patch.setattr(Connection, "exchange", fails)
            with pytest.raises(StoreUnavailableError) as caught:
                store.get(b"key", TIMEOUT)
            assert caught.value.kind == "connection"
    assert store.get(b"key", TIMEOUT) is None
    store.close()


def test_a_write_that_is_refused_says_so_and_reading_goes_on(open_store: Open) -> None:
    with running_server("--maxmemory-policy", "noeviction") as server:
        store = open_store(parse_url("url", server.url))
        with server.client() as admin:
            admin.config_set("maxmemory", "1")
        with pytest.raises(WriteRefusedError) as raised:
            store.set(b"key", b"x", None, TIMEOUT)
        assert raised.value.kind == "OOM"
        assert store.get(b"nothing", TIMEOUT) is None

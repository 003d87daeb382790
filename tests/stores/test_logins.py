"""Logins, and what is said of one that is refused."""

from __future__ import annotations

import socket
import time
import traceback
from dataclasses import replace

import pytest
from pydantic import SecretStr

from model_cache.errors import StoreUnavailableError, WriteRefusedError
from model_cache.stores.server import RedisStore
from tests.servers import running_server
from tests.stores.opened import TIMEOUT, server_that, store_at
from tests.waiting import poll


def test_a_login_may_take_longer_than_a_prediction() -> None:
    def slowly(connection: socket.socket, request: bytes) -> None:
        if b"AUTH" in request:
            time.sleep(0.3)
            connection.sendall(b"+OK\r\n")
        else:
            connection.sendall(b"$1\r\nx\r\n")

    with server_that(slowly) as slow:
        endpoint = replace(slow._endpoint, password=SecretStr("pw"))
        store = RedisStore(endpoint)
        with pytest.raises(StoreUnavailableError):
            store.get(b"key", 0.05)
        poll(lambda: not store._pool._idle.empty())
        assert store.get(b"key", 0.05) == b"x"
        store.close()


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (b"-ERR max number of clients reached", "max number of clients reached"),
        (b"-DENIED Redis is running in protected mode because ...", "DENIED: protected mode"),
        (b"-WRONGPASS invalid username-password pair or user is disabled.", "user is disabled"),
    ],
)
def test_a_refused_login_names_the_known_reason(reply: bytes, says: str) -> None:
    with server_that(lambda connection, _: connection.sendall(reply + b"\r\n")) as server:
        endpoint = replace(server._endpoint, password=SecretStr("hunter2"))
        store = RedisStore(endpoint)
        with pytest.raises(StoreUnavailableError, match=says):
            store.get(b"key", TIMEOUT)


def test_a_login_without_a_user_is_enough_before_redis_6() -> None:
    def old(connection: socket.socket, request: bytes) -> None:
        if b"AUTH" not in request:
            connection.sendall(b"$1\r\nx\r\n")
        elif request.startswith(b"*3"):
            connection.sendall(b"-ERR wrong number of arguments for 'auth' command\r\n")
        else:
            connection.sendall(b"+OK\r\n")

    with server_that(old) as server:
        endpoint = replace(server._endpoint, username="h", password=SecretStr("secret"))
        store = RedisStore(endpoint)
        assert store.get(b"key", TIMEOUT) == b"x"
        store.close()


def test_a_login_is_used_and_a_wrong_one_named() -> None:
    with running_server("--requirepass", "secret") as server:
        good = store_at(f"redis://:secret@127.0.0.1:{server.port}/1")
        good.set(b"key", b"x", None, TIMEOUT)
        assert good.get(b"key", TIMEOUT) == b"x"
        with server.client(password="secret") as client:
            client.acl_setuser(
                "cache", enabled=True, passwords=["+pw"], keys=["*"], commands=["+get", "+select"]
            )
        for url, kind in (
            (f"redis://:wrong@127.0.0.1:{server.port}", "WRONGPASS"),
            (f"redis://127.0.0.1:{server.port}", "NOAUTH"),
        ):
            with pytest.raises(StoreUnavailableError) as raised:
                store_at(url).get(b"key", TIMEOUT)
            assert raised.value.kind == kind
            assert "wrong@" not in str(raised.value)
        user = store_at(f"redis://cache:pw@127.0.0.1:{server.port}/1")
        assert user.get(b"key", TIMEOUT) == b"x"
        with pytest.raises(WriteRefusedError) as refused:
            user.set(b"key", b"y", None, TIMEOUT)
        assert refused.value.kind == "NOPERM"
        good.close()
        user.close()


@pytest.mark.parametrize("password", ["hunter2secret", "hunter2\nsecret", "hunter2" + 200 * "x"])
def test_a_server_that_repeats_the_password_does_not_get_it_into_a_message(password: str) -> None:
    def repeat(connection: socket.socket, request: bytes) -> None:
        words = request.replace(b"\r\n", b" ").replace(b"\n", b" ")[:128]
        connection.sendall(b"-ERR unknown command 'AUTH', with args beginning with: %b\r\n" % words)

    with server_that(repeat) as server:
        store = RedisStore(replace(server._endpoint, password=SecretStr(password)))
        with pytest.raises(StoreUnavailableError) as raised:
            store.get(b"key", TIMEOUT)
        assert "hunter2" not in "".join(traceback.format_exception(raised.value))
        assert "login refused by the server (ERR)" in str(raised.value)

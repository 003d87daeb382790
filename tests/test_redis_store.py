"""Redis as a store: the contract, the connections, and failures."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import hiredis
import pytest
import redis
import trustme
from cryptography.hazmat.primitives import serialization
from pydantic import SecretStr

from model_cache.errors import ConfigurationError, StoreUnavailableError, WriteRefusedError
from model_cache.stores.connection import Connection
from model_cache.stores.server import RedisStore
from model_cache.stores.url import Endpoint, parse_url
from tests.servers import Server, free_port, running_server
from tests.signals import signals_every
from tests.tls import tls_in_front_of

TIMEOUT = 5.0  # generous: the machine may be busy


def store_at(url: str, **options: Any) -> RedisStore:
    return RedisStore(parse_url("url", url), **{"timeout": 5.0, **options})


def store_on(server: Server, **options: Any) -> RedisStore:
    return store_at(server.url, **options)


@pytest.fixture
def store(server: Server) -> Iterator[RedisStore]:
    store = store_on(server)
    yield store
    store.close()


def test_what_is_set_is_got(store: RedisStore, client: redis.Redis) -> None:
    for entry in (b"", b"x", bytes(range(256)), b"\r\n$3\r\n", b"y" * 3_000_000):
        store.set(b"key", entry, None, TIMEOUT)
        assert store.get(b"key", TIMEOUT) == entry
        assert client.get("key") == entry
    assert store.get(b"nothing", TIMEOUT) is None


def test_a_ttl_is_in_milliseconds(store: RedisStore, client: redis.Redis) -> None:
    store.set(b"key", b"x", 60_000, TIMEOUT)
    assert 50_000 < client.pttl("key") <= 60_000


def test_many_are_got_and_set_at_once(store: RedisStore, client: redis.Redis) -> None:
    entries = [(b"%d" % number, b"v%d" % number, None) for number in range(1000)]
    store.set_many(entries, TIMEOUT)
    client.rpush("list", "x")
    keys = [key for key, _, _ in entries]
    assert store.get_many([*keys, b"none", b"list"], TIMEOUT) == [
        *[entry for _, entry, _ in entries],
        None,
        None,
    ]
    assert store.get_many([], TIMEOUT) == []
    store.set_many([], TIMEOUT)


def test_scan_finds_and_delete_counts(store: RedisStore) -> None:
    keys = {b"a/%d" % number for number in range(2500)}
    store.set_many([(key, b"", None) for key in keys | {b"b/1"}], TIMEOUT)
    assert set(store.scan(b"a/*", TIMEOUT)) == keys
    assert store.delete([*keys, b"none"], TIMEOUT) == 2500
    assert store.get(b"b/1", TIMEOUT) == b""
    assert store.delete([], TIMEOUT) == 0


def test_a_key_of_another_type_is_a_miss_and_is_overwritten(
    store: RedisStore, client: redis.Redis
) -> None:
    client.rpush("key", "x")
    assert store.get(b"key", TIMEOUT) is None
    store.set(b"key", b"entry", None, TIMEOUT)
    assert store.get(b"key", TIMEOUT) == b"entry"


def test_a_closed_store_opens_again(store: RedisStore, client: redis.Redis) -> None:
    store.set(b"key", b"x", None, TIMEOUT)
    before = client.info("clients")["connected_clients"]
    store.close()
    poll(lambda: client.info("clients")["connected_clients"] == before - 1)
    assert store.get(b"key", TIMEOUT) == b"x"


def poll(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_threads_share_connections_up_to_the_limit(server: Server, client: redis.Redis) -> None:
    store = store_on(server, max_connections=3)
    before = client.info("clients")["connected_clients"]

    def work(number: int) -> bool:
        key = b"key%d" % number
        store.set(key, key * 100, None, 10.0)
        return store.get(key, 10.0) == key * 100

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(500)))
    assert 1 <= client.info("clients")["connected_clients"] - before <= 3
    store.close()


def test_a_connection_that_went_stale_is_replaced_at_once(
    server: Server, client: redis.Redis
) -> None:
    store = store_on(server)
    for _ in range(20):
        store.set(b"key", b"x", None, TIMEOUT)
        client.client_kill_filter(skipme=True, _type="normal")
        assert store.get(b"key", TIMEOUT) == b"x"
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


def test_a_refused_port_fails_at_once() -> None:
    store = RedisStore(Endpoint("127.0.0.1", free_port()))
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1") as raised:
        store.get(b"key", 10.0)
    assert raised.value.kind == "connection"
    assert time.monotonic() - started < 5


def test_a_name_that_does_not_resolve_fails_in_time() -> None:
    store = RedisStore(Endpoint("no-such-host.invalid"))
    with pytest.raises(StoreUnavailableError):
        store.get(b"key", 0.5)


def test_a_frozen_server_costs_the_timeout_and_no_more() -> None:
    with running_server() as server:
        store = store_on(server, timeout=0.2)
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
        store.close()


@contextlib.contextmanager
def server_that(
    answers: Callable[[socket.socket, bytes], None],
) -> Iterator[RedisStore]:
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
    store = RedisStore(Endpoint("127.0.0.1", listener.getsockname()[1]), timeout=TIMEOUT)
    try:
        yield store
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        for end in (listener, *open_ones):
            end.close()
        store.close()


def trickle(connection: socket.socket, _: bytes) -> None:
    for byte in b"$100\r\n" + b"x" * 100 + b"\r\n":
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def test_a_reply_that_trickles_in_is_bounded_as_a_whole() -> None:
    with server_that(trickle) as store:
        started = time.monotonic()
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
def test_a_reply_that_is_not_an_entry_is_a_failure(reply: bytes) -> None:
    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(reply)
        connection.shutdown(socket.SHUT_RDWR)

    with server_that(answer) as store:
        if reply == b"+PONG\r\n":  # bytes: the entry's own business
            assert store.get(b"key", TIMEOUT) == b"PONG"
            return
        for _ in range(2):
            with pytest.raises(StoreUnavailableError):
                store.get(b"key", TIMEOUT)


def test_a_reply_that_comes_twice_does_not_reach_the_next_caller() -> None:
    def twice(connection: socket.socket, request: bytes) -> None:
        reply = b"$%d\r\n%b\r\n" % (len(request), request)
        connection.sendall(reply)
        time.sleep(0.01)  # so that it does not come with the first
        connection.sendall(reply)

    with server_that(twice) as store:
        for number in range(5):
            entry = store.get(b"key%d" % number, TIMEOUT)
            assert entry is not None
            assert b"key%d" % number in entry
            time.sleep(0.03)


def test_a_login_may_take_longer_than_a_prediction() -> None:
    def slowly(connection: socket.socket, request: bytes) -> None:
        if b"AUTH" in request:
            time.sleep(0.3)
            connection.sendall(b"+OK\r\n")
        else:
            connection.sendall(b"$1\r\nx\r\n")

    with server_that(slowly) as slow:
        endpoint = replace(slow._endpoint, password=SecretStr("pw"))
        store = RedisStore(endpoint, timeout=0.05)
        with pytest.raises(StoreUnavailableError):
            store.get(b"key", 0.05)
        poll(lambda: not store._pool._idle.empty())
        assert store.get(b"key", 0.05) == b"x"
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
def test_a_malformed_redirection_is_a_failure(reply: bytes) -> None:
    with server_that(lambda connection, _: connection.sendall(reply)) as store:
        with pytest.raises(StoreUnavailableError):
            store.get(b"key", TIMEOUT)
        with pytest.raises(StoreUnavailableError):
            store.set(b"key", b"x", None, TIMEOUT)


def test_a_cluster_that_is_taken_for_one_server_says_so() -> None:
    with (
        server_that(lambda c, _: c.sendall(b"-MOVED 1 127.0.0.1:7000\r\n")) as store,
        pytest.raises(StoreUnavailableError, match=r"redis\+cluster://"),
    ):
        store.get(b"key", TIMEOUT)


@pytest.mark.parametrize("password", ["hunter2secret", "hunter2\nsecret", "hunter2" + 200 * "x"])
def test_a_server_that_repeats_the_password_does_not_get_it_into_a_message(password: str) -> None:
    def repeat(connection: socket.socket, request: bytes) -> None:
        words = request.replace(b"\r\n", b" ").replace(b"\n", b" ")[:128]
        connection.sendall(b"-ERR unknown command 'AUTH', with args beginning with: %b\r\n" % words)

    with server_that(repeat) as server:
        store = RedisStore(replace(server._endpoint, password=SecretStr(password)), timeout=TIMEOUT)
        with pytest.raises(StoreUnavailableError) as raised:
            store.get(b"key", TIMEOUT)
        assert "hunter2" not in "".join(traceback.format_exception(raised.value))
        assert "login refused by the server (ERR)" in str(raised.value)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (b"-ERR max number of clients reached", "max number of clients reached"),
        (b"-DENIED Redis is running in protected mode because ...", "DENIED: protected mode"),
        (b"-WRONGPASS invalid username-password pair or user is disabled.", "user is disabled"),
    ],
)
def test_why_a_login_was_refused_is_said_if_it_is_known(reply: bytes, says: str) -> None:
    with server_that(lambda connection, _: connection.sendall(reply + b"\r\n")) as server:
        endpoint = replace(server._endpoint, password=SecretStr("hunter2"))
        store = RedisStore(endpoint, timeout=TIMEOUT)
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
        store = RedisStore(endpoint, timeout=TIMEOUT)
        assert store.get(b"key", TIMEOUT) == b"x"
        store.close()


def test_the_kinds_of_errors_are_few_and_their_texts_short() -> None:
    numbers = iter(range(1000))

    def lie(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"-E%d \x1b[31m%b\r\n" % (next(numbers), b"x" * 5000))

    kinds = set()
    with server_that(lie) as store:
        for call in (
            lambda: store.get(b"key", TIMEOUT),
            lambda: store.set(b"key", b"x", None, TIMEOUT),
            lambda: store.delete([b"key"], TIMEOUT),
        ):
            for _ in range(5):
                with pytest.raises(StoreUnavailableError) as raised:
                    call()
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


WITHOUT_POLL = """
import select, selectors, sys
del select.poll, select.epoll
selectors.DefaultSelector = selectors.SelectSelector
from model_cache.stores.url import parse_url
from model_cache.stores.connection import Connection
from model_cache.stores.server import RedisStore
store = RedisStore(parse_url("url", sys.argv[1]))
store.set(b"key", b"entry", None, 5.0)
for _ in range(3):
    assert store.get(b"key", 5.0) == b"entry"
store.execute(5.0, b"CLIENT", b"KILL", b"SKIPME", b"no", b"TYPE", b"normal")
assert store.get(b"key", 5.0) == b"entry"
store.close()
"""


def test_it_works_where_there_is_no_poll(server: Server) -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_POLL, server.url], check=True, timeout=60)


def test_a_write_that_is_refused_says_so_and_reading_goes_on() -> None:
    with running_server("--maxmemory-policy", "noeviction") as server:
        store = store_on(server)
        with server.client() as admin:
            admin.config_set("maxmemory", "1")
        with pytest.raises(WriteRefusedError) as raised:
            store.set(b"key", b"x", None, TIMEOUT)
        assert raised.value.kind == "OOM"
        assert store.get(b"nothing", TIMEOUT) is None
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


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return authority, path


def test_tls_checks_the_certificate_and_the_hosts_name(
    server: Server, authority: tuple[trustme.CA, Path]
) -> None:
    ca, path = authority
    with (
        tls_in_front_of(server, ca, "localhost") as right,
        tls_in_front_of(server, ca, "elsewhere") as other,
    ):
        store = store_at(f"rediss://localhost:{right}?ssl_ca_certs={path}")
        store.set(b"key", b"x" * 100_000, None, 5.0)
        assert store.get(b"key", 5.0) == b"x" * 100_000
        store.close()
        refused = (
            f"rediss://localhost:{right}",  # not signed by anyone the system knows
            f"rediss://localhost:{other}?ssl_ca_certs={path}",
        )
        for url in refused:
            with pytest.raises(StoreUnavailableError, match=r"(?i)certificate"):
                store_at(url).get(b"key", 5.0)
        accepted = (
            f"rediss://localhost:{right}?ssl_cert_reqs=none",
            f"rediss://localhost:{other}?ssl_ca_certs={path}&ssl_check_hostname=false",
        )
        for url in accepted:
            store = store_at(url)
            assert store.get(b"key", 5.0) == b"x" * 100_000
            store.close()


def test_a_file_that_is_not_a_certificate_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    with pytest.raises(ConfigurationError, match="can't be loaded"):
        store_at(f"rediss://localhost?ssl_ca_certs={path}")


def test_a_unix_socket_is_one_more_address(tmp_path: Path) -> None:
    path = f"{tmp_path}/redis.sock"
    with running_server("--unixsocket", path):
        store = store_at(f"unix://{path}?db=2")
        store.set(b"key", b"x", None, TIMEOUT)
        assert store.get(b"key", TIMEOUT) == b"x"
        store.close()

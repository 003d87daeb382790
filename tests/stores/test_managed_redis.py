"""Managed Redis: host names that move, logins that expire, addresses behind NAT."""

from __future__ import annotations

import copy
import datetime as dt
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

from model_cache import ConfigurationError, RedisCachingDecorator, Stats, StoreUnavailableError
from model_cache.errors import WriteRefusedError
from model_cache.stores import dialing
from model_cache.stores.opening import compose
from model_cache.stores.server import RedisStore, SendingRedisStore
from model_cache.stores.url import parse_url
from tests.faults.load import Load, wait_until
from tests.faults.topologies import running_node_behind_nat
from tests.models import FunctionModel, charge, person
from tests.servers import Server, free_port, running_server
from tests.stored import entries
from tests.tls import tls_in_front_of
from tests.waiting import poll

TIMEOUT = 5.0  # generous: the machine may be busy


class Name:
    """The name cache.test, and which server it leads to."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._real = socket.getaddrinfo

    def resolve(self, host: Any, port: Any, *details: Any, **more: Any) -> Any:
        if host == "cache.test":
            host, port = "127.0.0.1", self.server.port
        return self._real(host, port, *details, **more)


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> Iterator[Name]:
    with running_server() as server:
        name = Name(server)
        monkeypatch.setattr(socket, "getaddrinfo", name.resolve)
        yield name


def entries_on(server: Server) -> int:
    with server.client() as client:
        return len(entries(client))


def predicts_new_inputs(decorator: RedisCachingDecorator) -> Callable[[], Stats]:
    ages = iter(range(1_000_000))

    def predict() -> Stats:
        data = person(age=next(ages))
        assert decorator.predict(data) == charge(data)
        stats: Stats = decorator.stats()
        return stats

    return predict


def is_over(number: Callable[[], int], least: int) -> bool:
    return number() > least


def test_a_primary_that_became_a_replica_is_left_for_the_one_with_its_name(
    name: Name, server: Server
) -> None:
    with RedisCachingDecorator(host="cache.test", timeout=TIMEOUT) as decorator:
        predict = predicts_new_inputs(decorator.set_model(FunctionModel()))
        predict()
        assert entries_on(name.server) == 1
        with name.server.client() as client:
            client.replicaof("127.0.0.1", str(free_port()))
        predict()
        assert decorator.stats().store == "read_only"
        name.server = server

        def moved() -> bool:
            predict()
            return entries_on(server) > 0

        wait_until(moved, "entries go to the new primary")
        wait_until(lambda: predict().store == "closed", "it takes writes")


def test_a_replica_is_left_at_most_once_a_second(server: Server, client: redis.Redis) -> None:
    now = 100.0
    store = RedisStore(parse_url("url", server.url), clock=lambda: now)

    def after_a_write() -> object:
        with pytest.raises(WriteRefusedError):
            store.set(b"key", b"x", None, TIMEOUT)
        return store.execute(TIMEOUT, b"CLIENT", b"ID")

    before = store.execute(TIMEOUT, b"CLIENT", b"ID")
    client.replicaof("127.0.0.1", str(free_port()))
    try:
        first = after_a_write()
        assert first != before
        assert after_a_write() == first
        now += 1.0
        assert after_a_write() != first
    finally:
        client.replicaof("NO", "ONE")
        store.close()


def test_a_name_that_moves_is_followed_while_the_old_server_lives_on(
    name: Name, server: Server
) -> None:
    options: dict[str, Any] = {"max_connection_age": 1, "timeout": TIMEOUT}
    with RedisCachingDecorator(host="cache.test", **options) as decorator:
        predict = predicts_new_inputs(decorator.set_model(FunctionModel()))
        predict()
        name.server = server

        def moved() -> bool:
            predict()
            return entries_on(server) > 0

        wait_until(moved, "entries go to the new server")
        assert decorator.stats().unavailable == 0


def test_an_old_connection_serves_until_its_successor_is_there(server: Server) -> None:
    now = 100.0
    store = RedisStore(
        parse_url("url", server.url),
        max_connections=1,
        max_connection_age=60,
        clock=lambda: now,
    )

    def connection() -> int:
        number = store.execute(TIMEOUT, b"CLIENT", b"ID")
        assert isinstance(number, int)
        return number

    first = connection()
    now += 40
    assert connection() == first
    now += 21
    assert connection() == first  # the last time
    poll(lambda: connection() != first)
    assert len({connection() for _ in range(10)}) == 1
    with server.client() as client:
        poll(lambda: str(first) not in [each["id"] for each in client.client_list()])
    store.close()


def test_an_old_connection_is_replaced_if_it_is_used_together_with_other_servers(
    server: Server, client: redis.Redis
) -> None:
    now = 100.0
    store = RedisStore(parse_url("url", server.url), max_connection_age=60, clock=lambda: now)
    first = store.execute(TIMEOUT, b"CLIENT", b"ID")
    now += 61

    def is_replaced() -> bool:
        assert SendingRedisStore(store).get_many([b"key"], TIMEOUT).end() == [None]
        return str(first) not in [each["id"] for each in client.client_list()]

    poll(is_replaced)
    store.close()


def test_an_old_connection_serves_on_if_there_can_be_no_other(server: Server) -> None:
    now, refusals = 100.0, 0
    store = RedisStore(parse_url("url", server.url), max_connection_age=60, clock=lambda: now)

    def refuses() -> Any:
        nonlocal refusals
        refusals += 1
        raise ConnectionRefusedError

    store.set(b"key", b"entry", None, TIMEOUT)
    store._pool._connect = refuses
    for _ in range(3):
        now += 61
        before = refusals
        assert store.get(b"key", TIMEOUT) == b"entry"
        wait_until(partial(is_over, lambda: refusals, before), "it is tried again")
    store.close()


class Rotating:
    """Logins that are valid for a while only, as IAM's."""

    def __init__(self) -> None:
        self.password = "first"
        self.calls = 0

    def get_credentials(self) -> tuple[str, str]:
        self.calls += 1
        return "app", self.password


PROVIDER = Rotating()


def test_a_login_that_is_renewed_costs_no_prediction() -> None:
    with running_server() as server, server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", ">first", "~*", "+@all")
        provider = Rotating()
        decorator = RedisCachingDecorator(
            url=server.url, credential_provider=provider, max_connection_age=1, timeout=TIMEOUT
        )
        load = Load(decorator)
        try:
            wait_until(load.is_warm, "each input is a hit")
            for password in ("second", "third"):
                admin.execute_command("ACL", "SETUSER", "app", f">{password}")
                before, provider.password = provider.password, password
                calls = provider.calls
                wait_until(
                    partial(is_over, lambda: provider.calls, calls + 2), "logins are renewed"
                )
                admin.execute_command("ACL", "SETUSER", "app", f"<{before}")
                admin.execute_command("CLIENT", "KILL", "USER", "app")  # as Entra ID does
            since = time.perf_counter()
            wait_until(lambda: load.is_warm(since), "each input is a hit again")
        finally:
            load.stop()
            decorator.close()
        assert decorator.stats().unavailable <= 2  # a login was under way when it was killed
        assert all(tally.failed == tally.wrong == 0 for tally in load.tallies)


@pytest.mark.parametrize("given", [f"{__name__}:PROVIDER", f"{__name__}:Rotating", PROVIDER])
def test_a_provider_is_an_object_or_an_import_path(given: Any) -> None:
    with running_server() as server, server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", ">first", "~*", "+@all")
        admin.execute_command("ACL", "SETUSER", "default", "off")
        with RedisCachingDecorator(url=server.url, credential_provider=given) as decorator:
            decorator.set_model(FunctionModel())
            again = copy.deepcopy(decorator)
            for each in (decorator, again):
                each.predict(person())
                assert each.stats().unavailable == 0
            again.close()
            shown = str(decorator._configuration).replace("verify_first", "")
            assert "first" not in shown


def test_redis_pys_own_providers_fit() -> None:
    provider = redis.UsernamePasswordCredentialProvider(password="secret")
    with running_server("--requirepass", "secret") as server:
        decorator = RedisCachingDecorator(url=server.url, credential_provider=provider)
        with decorator.set_model(FunctionModel()):
            decorator.predict(person())
            assert decorator.stats().unavailable == 0


class NoCredentialsError(Exception):
    pass


class Failing:
    def get_credentials(self) -> tuple[str]:
        raise NoCredentialsError("unable to locate credentials")


class Slow:
    def __init__(self, gate: threading.Event) -> None:
        self._gate = gate

    def get_credentials(self) -> tuple[str]:
        assert self._gate.wait(TIMEOUT)
        return ("secret",)


def test_a_provider_that_raises_makes_the_store_unavailable(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisCachingDecorator(url=server.url, credential_provider=Failing()) as decorator:
        predict = predicts_new_inputs(decorator.set_model(FunctionModel()))
        for _ in range(5):
            predict()
        assert decorator.stats().unavailable == 5
    assert "NoCredentialsError: unable to locate credentials" in caplog.text


def test_a_slow_provider_costs_the_timeout_and_is_used_when_it_answers() -> None:
    gate = threading.Event()
    with running_server("--requirepass", "secret") as server:
        decorator = RedisCachingDecorator(url=server.url, credential_provider=Slow(gate))
        with decorator.set_model(FunctionModel()):
            predict = predicts_new_inputs(decorator)
            predict()
            assert decorator.stats().unavailable == 1
            gate.set()
            wait_until(lambda: predict().stored, "entries are stored")


@pytest.mark.parametrize(
    ("options", "option", "says"),
    [
        ({"credential_provider": 1}, "credential_provider", "get_credentials"),
        ({"credential_provider": "no.such:thing"}, "credential_provider", "can't import"),
        ({"credential_provider": "json:dumps"}, "credential_provider", "get_credentials"),
        ({"credential_provider": f"{__name__}:Slow"}, "credential_provider", "no arguments"),
        ({"credential_provider": PROVIDER, "password": "x"}, "credential_provider", "a username"),
        (
            {"credential_provider": PROVIDER, "url": "redis://:x@localhost"},
            "credential_provider",
            "can't be combined with a username or password",
        ),
        (
            {"credential_provider": PROVIDER, "url": "embedded://"},
            "credential_provider",
            "no login",
        ),
        ({"address_map": 1}, "address_map", "expected a mapping"),
        ({"address_map": "no.such:thing"}, "address_map", "can't import"),
        ({"address_map": {"a": "b:1"}}, "address_map", "expected host:port, got 'a'"),
        ({"address_map": {"a:1": "b:99999"}}, "address_map", "expected host:port, got 'b:99999'"),
        ({"address_map": {"a:1": "x@b:1"}}, "address_map", "expected host:port, got 'x@b:1'"),
        ({"max_connection_age": 0}, "max_connection_age", "0"),
        ({"max_connection_age": "x"}, "max_connection_age", "'x'"),
    ],
)
def test_bad_options_say_what_is_wrong(options: dict[str, Any], option: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        RedisCachingDecorator(**options)
    assert raised.value.option == option
    assert says in str(raised.value)


def test_an_age_may_be_endless_or_a_timedelta() -> None:
    RedisCachingDecorator(max_connection_age=None)
    RedisCachingDecorator(max_connection_age=dt.timedelta(minutes=1))


def test_a_cluster_behind_nat_is_reached_by_an_address_map(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running_node_behind_nat() as (server, announced):
        here = f"127.0.0.1:{server.port}"

        def translate(address: tuple[str, int]) -> tuple[str, int]:
            return ("127.0.0.1", server.port) if address[1] != server.port else address

        for address_map in ({announced: here}, translate):
            decorator = RedisCachingDecorator(
                url=f"redis+cluster://{here}", address_map=address_map, timeout=TIMEOUT
            )
            with decorator.set_model(FunctionModel()):
                decorator.predict(person())
                decorator.predict(person())
                stats = decorator.stats()
                assert (stats.hits + stats.misses, stats.unavailable) == (2, 0)
        assert not caplog.records
        decorator = RedisCachingDecorator(url=f"redis+cluster://{here}", timeout=TIMEOUT)
        with decorator.set_model(FunctionModel()):
            for _ in range(5):
                decorator.predict(person())
            assert decorator.stats().unavailable == 5
        assert announced in caplog.text
        assert "address_map" in caplog.text


def test_an_address_map_that_raises_makes_the_store_unavailable(server: Server) -> None:
    def fails(address: tuple[str, int]) -> tuple[str, int]:
        raise KeyError(address)

    store = compose(
        parse_url("url", server.url), lambda _: None, timeout=TIMEOUT, address_map=fails
    )
    with pytest.raises(StoreUnavailableError, match="address_map raised KeyError"):
        store.get(b"key", TIMEOUT)


def test_a_certificate_whose_file_is_removed_is_used_on(tmp_path: Path) -> None:
    authority, path = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    with (
        running_node_behind_nat() as (server, announced),
        tls_in_front_of(server, authority, "localhost") as port,
    ):
        decorator = RedisCachingDecorator(
            url=f"rediss+cluster://localhost:{port}?ssl_ca_certs={path}",
            address_map={announced: f"localhost:{port}"},
            timeout=TIMEOUT,
        )
        with decorator.set_model(FunctionModel()):
            path.unlink()
            decorator.predict(person())
            decorator.predict(person())
            assert (decorator.stats().hits, decorator.stats().unavailable) == (1, 0)


def test_an_invalid_certificate_is_refused_for_a_cluster_too(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    with pytest.raises(ConfigurationError, match="can't be loaded"):
        RedisCachingDecorator(url=f"rediss+cluster://localhost?ssl_ca_certs={path}")


def test_tls_to_a_plain_port_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialing, "_CONNECT_TIMEOUT", 0.1)
    url = parse_url("url", f"rediss://localhost:{server.port}?ssl_cert_reqs=none")
    for timeout in (0.01, TIMEOUT):
        store = RedisStore(url)
        with pytest.raises(StoreUnavailableError, match="does not use TLS"):
            store.get(b"key", timeout)

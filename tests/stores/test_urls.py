"""Urls and options in the forms that platforms and templates use."""

from __future__ import annotations

import socket
import ssl
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis.connection

from model_cache import ConfigurationError, RedisCachingDecorator
from model_cache.errors import StoreUnavailableError
from model_cache.options.config import Config
from model_cache.stores.server import RedisStore
from model_cache.stores.tls import TLS
from model_cache.stores.url import Endpoint, parse_url
from tests.models import FunctionModel
from tests.servers import Server, running_server

FILE = __file__


def parse(environment: dict[str, str] | None = None, **given: Any) -> Config:
    options = {**RedisCachingDecorator(enabled=False)._options, "enabled": True, **given}
    return Config.parse(options, (environment or {}).get)


# Of redis-py and Celery, in urls that they share with this library.
FOREIGN = (
    "health_check_interval=30",
    "socket_timeout=5",
    "socket_connect_timeout=5",
    "max_connections=20",
    "decode_responses=true",
    "retry_on_timeout=true",
    "protocol=3",
    "client_name=web",
    "visibility_timeout=3600",
    "ssl_min_version=771",
    "global_keyprefix=app",
    "&".join(f"{name}=1" for name in redis.connection.URL_QUERY_ARGUMENT_PARSERS if name != "db"),
)


@pytest.mark.parametrize("query", FOREIGN)
@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_parameters_of_redis_py_and_celery_are_ignored_with_one_warning(
    scheme: str, query: str
) -> None:
    if scheme == "redis":
        query = "&".join(each for each in query.split("&") if "ssl_check" not in each)
    url = f"{scheme}://cache:7/3?{query}"
    for given in ({"url": url}, {"environment": {"REDIS_URL": url}}):
        with pytest.warns(UserWarning, match="ignored in the Redis url") as warned:
            endpoint = parse(**given).endpoint
        assert (endpoint.host, endpoint.port, endpoint.database) == ("cache", 7, 3)
        assert len(warned) == 1
        assert query.partition("=")[0] in str(warned[0].message)


def test_the_warning_names_the_option_to_use_instead() -> None:
    with pytest.warns(
        UserWarning,
        match=r"'socket_timeout', 'max_connections'; use the option 'max_connections' or 'timeout'",
    ):
        parse_url("url", "redis://h?socket_timeout=5&max_connections=20")


def test_the_warning_comes_once_in_a_process() -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("default")
        for _ in range(3):
            RedisCachingDecorator(url="redis://h?client_name=once")
    assert len(warned) == 1


def test_an_unknown_parameter_is_an_error_in_the_option_and_ignored_in_redis_url() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'db'"):
        parse(url="redis://h?dbb=1")
    with pytest.warns(UserWarning, match="1 unknown parameter"):
        assert parse({"REDIS_URL": "redis://h?dbb=1"}).endpoint.host == "h"
    # A part of a password, though, is no parameter.
    for password in ("a?b", "a?b=c", "a?db=1&b"):
        with pytest.raises(ConfigurationError, match="%3F"):
            parse({"REDIS_URL": f"redis://:1{password}@h"})


def test_redis_url_is_read_as_redis_py_reads_it() -> None:
    assert parse({"REDIS_URL": "redis://h/1?db=2"}).endpoint.database == 2
    assert parse({"REDIS_URL": "redis://h/1?db="}).endpoint.database == 1
    assert parse({"REDIS_URL": "redis://h?db=3&db=4"}).endpoint.database == 3


def test_tls_options_in_redis_url_without_tls_are_ignored() -> None:
    with pytest.warns(UserWarning, match="'ssl_cert_reqs'"):
        assert parse({"REDIS_URL": "redis://h?ssl_cert_reqs=none"}).endpoint.tls is None
    with pytest.raises(ConfigurationError, match="ssl_cert_reqs needs TLS: use rediss://"):
        parse(url="redis://h?ssl_cert_reqs=none")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("CERT_NONE", "none"),
        ("none", "none"),
        ("None", "none"),
        ("CERT_REQUIRED", "required"),
        ("required", "required"),
        ("CERT_OPTIONAL", "required"),
        ("optional", "required"),
    ],
)
def test_cert_reqs_are_understood_as_celery_and_redis_py_write_them(
    written: str, meant: str
) -> None:
    in_url = parse_url("url", f"rediss://h?ssl_cert_reqs={written}").tls
    as_option = parse(url="rediss://h", ssl_cert_reqs=written).endpoint.tls
    assert in_url == as_option == TLS(cert_reqs=meant, check_hostname=meant == "required")


def test_further_parameters_are_translated() -> None:
    assert parse(url="rediss://h", ssl_cert_reqs=ssl.CERT_NONE).endpoint.tls == TLS(
        cert_reqs="none", check_hostname=False
    )
    for value in ("false", "0", "no", "False"):
        tls = parse_url("url", f"rediss://h?ssl_check_hostname={value}").tls
        assert tls == TLS(check_hostname=False)
    assert parse_url("url", "redis://h?virtual_host=/4").database == 4
    assert parse_url("url", "valkeys://h:7/1") == parse_url("url", "rediss://h:7/1")
    assert parse_url("url", "valkey://h:7/1") == parse_url("url", "redis://h:7/1")
    assert parse_url("url", "redis+socket:///run/redis.sock?virtual_host=1") == parse_url(
        "url", "unix:///run/redis.sock?db=1"
    )
    assert parse_url("url", "redis://h?username=u&password=p") == parse_url("url", "redis://u:p@h")


def test_tls_options_stand_next_to_a_url_or_a_host() -> None:
    options: dict[str, Any] = {
        "ssl_ca_certs": FILE,
        "ssl_certfile": Path(FILE),
        "ssl_keyfile": FILE,
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": "false",
    }
    expected = TLS(FILE, FILE, FILE, "required", check_hostname=False)
    assert parse({"REDIS_URL": "rediss://h"}, **options).endpoint.tls == expected
    assert parse(url="rediss+cluster://h", **options).endpoint.tls == expected
    assert parse(host="h", **options).endpoint.tls == expected
    assert parse(url=f"rediss://h?ssl_ca_certs={FILE}", ssl_check_hostname=False).endpoint.tls == (
        TLS(FILE, check_hostname=False)
    )
    assert parse(host="h").endpoint.tls is None


@pytest.mark.parametrize(
    ("given", "option", "hint"),
    [
        ({"url": "redis://h", "ssl_ca_certs": FILE}, "ssl_ca_certs", "rediss"),
        ({"url": "unix:///s", "ssl_ca_certs": FILE}, "ssl_ca_certs", "rediss"),
        ({"url": "embedded://", "ssl_cert_reqs": "none"}, "ssl_cert_reqs", "rediss"),
        ({"ssl_ca_certs": "/no/such"}, "ssl_ca_certs", "an existing file, got '/no/such'"),
        ({"ssl_ca_certs": 7}, "ssl_ca_certs", "an existing file, got 7"),
        ({"ssl_certfile": FILE}, "ssl_certfile", "needs ssl_keyfile"),
        ({"ssl_keyfile": FILE}, "ssl_keyfile", "needs ssl_certfile"),
        ({"ssl_cert_reqs": "maybe"}, "ssl_cert_reqs", "'maybe'"),
        ({"ssl_check_hostname": "maybe"}, "ssl_check_hostname", "'maybe'"),
        (
            {"url": f"rediss://h?ssl_ca_certs={FILE}", "ssl_ca_certs": FILE},
            "ssl_ca_certs",
            "twice",
        ),
        ({"url": '"redis://h"'}, "url", "quotes"),
        ({"url": "'redis://h'"}, "url", "quotes"),
        ({"url": "sentinel://h:26379"}, "url", "use redis+sentinel://host:26379/service"),
        ({"url": "tcp://172.17.0.2:6379"}, "url", "Docker sets"),
        ({"port": "tcp://10.0.0.11:6379"}, "port", "Kubernetes and Docker set REDIS_PORT"),
        ({"url": "redis://:a b@h"}, "url", "whitespace"),
        ({"url": "redis://:a\nb@h"}, "url", "whitespace"),
        ({"password": "from-a-file\n"}, "password", "line break"),
        ({"key_secret": "from-a-file\n"}, "key_secret", "line break"),
        ({"host": FunctionModel()}, "host", "set_model(model)"),
        ({"host": FunctionModel}, "host", "set_model(model)"),
        ({"model": FunctionModel()}, "model", "set_model(model)"),
    ],
)
def test_errors_about_what_platforms_add_say_how_to_fix_it(
    given: dict[str, Any], option: str, hint: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        RedisCachingDecorator(**given)
    assert raised.value.option == option
    assert hint in str(raised.value)


def test_a_model_in_the_first_place_is_named() -> None:
    with pytest.raises(ConfigurationError, match="set_model"):
        RedisCachingDecorator(FunctionModel())


def test_white_space_around_a_url_does_not_count() -> None:
    assert parse(url=" redis://h:7/1\n").endpoint == parse_url("url", "redis://h:7/1")


def test_quotes_around_a_password_are_warned_of() -> None:
    with pytest.warns(UserWarning, match="password: the value is in quotes") as warned:
        RedisCachingDecorator(password='"s3cret"')
    assert "s3cret" not in str(warned[0].message)


def test_numbers_and_flags_are_taken_as_text() -> None:
    config = parse(
        host="h",
        port="6380",
        database=" 2\n",
        ttl="86400",
        stale_if_error="1e3",
        timeout="0.1",
        single_flight="false",
        reduced_precision_fields=["x", "y"],
        number_of_places={"x": "2", "y": "-1"},
        use_compression="True",
        max_connections="10",
        max_entry_bytes="1000",
        integrity="true",
        enabled="false",
        proxied="False",
    )
    assert (config.endpoint.port, config.endpoint.database) == (6380, 2)
    assert (config.ttl, config.stale_if_error) == (86_400_000, 1_000_000)
    assert config.timeout == 0.1
    assert config.single_flight == "off"
    assert config.places == {"x": 2, "y": -1}
    assert config.compressor is not None
    assert (config.max_connections, config.max_entry_bytes) == (10, 1000)
    assert (config.integrity, config.enabled) == (True, False)
    assert parse(reduced_precision="true", number_of_places="2").places == 2
    assert parse(use_compression="false").compressor is None
    assert parse(single_flight_wait=".5").single_flight_wait == 0.5


@pytest.mark.parametrize("value", ["", " ", "1h", "nan", "inf", "1_0", "0x10", "1,5", "٣", "1e400"])
def test_other_strings_are_not_numbers(value: str) -> None:
    for option in ("port", "timeout", "ttl"):
        with pytest.raises(ConfigurationError, match=f"^{option}: expected .*, got '{value}'"):
            parse(None, **{option: value})


@contextmanager
def answering(reply: bytes) -> Iterator[int]:
    """Serve a port that answers the first bytes of each connection, then waits for its end."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(reply)
                    while reply and connection.recv(4096):
                        pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


TLS_ALERT = b"\x15\x03\x01\x00\x02\x02\x46"
NO_TLS = "the server does not use TLS: use redis:// instead of rediss://"
ANY_TLS = "the server requires TLS: use rediss:// instead of redis://"


@pytest.mark.parametrize(
    ("url", "reply", "hint"),
    [
        ("rediss://127.0.0.1:{}?ssl_cert_reqs=none", b"-ERR unknown command\r\n", NO_TLS),
        ("redis://127.0.0.1:{}", TLS_ALERT, ANY_TLS),
        ("redis://:pw@127.0.0.1:{}", TLS_ALERT, ANY_TLS),
        # The server closes the connection, and its alert is lost.
        ("redis://127.0.0.1:{}", b"", "if the server requires TLS, use rediss://"),
        ("redis://:pw@127.0.0.1:{}", b"", "if the server requires TLS"),
    ],
)
def test_a_scheme_that_does_not_fit_the_server_is_named(url: str, reply: bytes, hint: str) -> None:
    with answering(reply) as port:
        store = RedisStore(parse_url("url", url.format(port)))
        with pytest.raises(StoreUnavailableError) as raised:
            store.get(b"key", 5.0)
        store.close()
    assert hint in str(raised.value)


def test_a_plain_server_that_waits_for_the_end_of_a_tls_handshake_is_named(server: Server) -> None:
    store = RedisStore(parse_url("url", f"rediss://127.0.0.1:{server.port}"))
    with pytest.raises(StoreUnavailableError, match="does not use TLS"):
        store.get(b"key", 0.2)
    store.close()


def test_a_server_that_has_answered_gets_no_advice_about_tls() -> None:
    with running_server() as server:
        store = RedisStore(parse_url("url", server.url))
        store.get(b"key", 5.0)
        server.kill()
        with pytest.raises(StoreUnavailableError) as raised:
            store.get(b"key", 5.0)
        store.close()
    assert "TLS" not in str(raised.value)


def test_reads_go_to_replicas_on_request_only() -> None:
    assert not parse_url("url", "redis+cluster://a").replicas
    assert not Endpoint().replicas
    assert parse_url("url", "redis+cluster://a?replicas=true").replicas


def test_what_a_server_says_of_passwords_is_masked() -> None:
    url = "redis+sentinel://user:first@host/service?sentinel_password=second"
    assert parse_url("url", url).masked("no first, no second") == "no ***, no ***"

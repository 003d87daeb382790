"""Invalid options raise an error that names the option, its value and what is allowed."""

from __future__ import annotations

import inspect
import socket
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr

from model_cache import ConfigurationError, ModelCacheError, RedisCachingDecorator
from model_cache.options.config import Config
from model_cache.stores.url import Address, Endpoint, parse_url
from tests.models import FunctionModel, person
from tests.servers import Server


def options(**given: Any) -> dict[str, Any]:
    """Return the decorator's default options, updated with the given ones."""
    return {**RedisCachingDecorator(enabled=False)._options, "enabled": True, **given}


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"serder": "Json"}, "serder", "did you mean 'JSON'?"),
    ({"serder": "pickle"}, "serder", "package.module:name"),
    ({"serder": None}, "serder", "None"),
    ({"serder": "no_such_package.module:name"}, "serder", "can't import"),
    ({"serder": "json:dumps"}, "serder", "does not implement Serder"),
    ({"use_compression": "gzip"}, "use_compression", "unknown compressor 'gzip'"),
    ({"use_compression": "snapy"}, "use_compression", "did you mean 'snappy'?"),
    ({"use_compression": 1}, "use_compression", "true, false, or a compressor's name, got 1"),
    ({"prefix": ""}, "prefix", "''"),
    ({"prefix": 7}, "prefix", "7"),
    ({"host": ""}, "host", "''"),
    ({"host": "redis://:pw@localhost"}, "host", "use the option 'url' for a url"),
    ({"port": "9" * 5000}, "port", "whole number"),
    ({"ttl": 10**400}, "ttl", "seconds"),
    ({"timeout": 10**400}, "timeout", "seconds"),
    ({"url": "redis://h/" + "9" * 5000}, "url", "whole number"),
    ({"serder": "tests.entries.test_serders:Reversed"}, "serder", "does not implement"),
    ({"cache_if": "asyncio:sleep"}, "cache_if", "that is not async"),
    ({"single_flight": "yes"}, "single_flight", "'process' or 'fleet' or 'off'"),
    ({"single_flight_wait": 0}, "single_flight_wait", "0"),
    ({"write": "later"}, "write", "'foreground' or 'background'"),
    ({"stale_if_error": 60}, "stale_if_error", "needs a ttl"),
    ({"proxied": "yes"}, "proxied", "'yes'"),
    ({"proxied": True, "database": 1}, "proxied", "database 0 only, got 1"),
    ({"proxied": True, "url": "redis+cluster://a"}, "proxied", "can't be combined"),
    ({"port": "6379x"}, "port", "expected a whole number from 1 to 65,535, got '6379x'"),
    ({"port": 0}, "port", "0"),
    ({"port": 65_536}, "port", "65536"),
    ({"port": True}, "port", "True"),
    ({"database": -1}, "database", "-1"),
    ({"database": "one"}, "database", "'one'"),
    ({"hashing_fields": []}, "hashing_fields", "empty"),
    ({"hashing_fields": "age"}, "hashing_fields", "a list of field names"),
    ({"hashing_fields": [1]}, "hashing_fields", "1"),
    ({"hashing_fields": ["a..b"]}, "hashing_fields", "'a..b'"),
    ({"ignored_fields": []}, "ignored_fields", "empty"),
    ({"hashing_fields": ["age"], "ignored_fields": ["bmi"]}, "ignored_fields", "hashing_fields"),
    ({"reduced_precision_fields": ["bmi"]}, "reduced_precision_fields", "number_of_places"),
    ({"number_of_places": 1}, "number_of_places", "reduced_precision_fields"),
    ({"reduced_precision_fields": [], "number_of_places": 1}, "reduced_precision_fields", "empty"),
    ({"reduced_precision": True}, "reduced_precision", "number_of_places"),
    (
        {"reduced_precision": True, "reduced_precision_fields": ["bmi"], "number_of_places": 1},
        "reduced_precision",
        "can't be combined",
    ),
    ({"reduced_precision": "yes", "number_of_places": 1}, "reduced_precision", "'yes'"),
    ({"reduced_precision_fields": ["a"], "number_of_places": 1.5}, "number_of_places", "1.5"),
    ({"reduced_precision_fields": ["a"], "number_of_places": True}, "number_of_places", "True"),
    ({"reduced_precision_fields": ["a"], "number_of_places": 400}, "number_of_places", "400"),
    (
        {"reduced_precision_fields": ["a"], "number_of_places": {"b": 1}},
        "number_of_places",
        "'",
    ),
    ({"url": "localhost:6379"}, "url", "redis://localhost:6379/0"),
    ({"url": 6379}, "url", "6379"),
    ({"url": "http://localhost"}, "url", "scheme 'http'"),
    ({"url": "redi://localhost"}, "url", "did you mean 'redis'?"),
    ({"url": "redis://localhost:port"}, "url", "port"),
    ({"url": "redis://localhost:99999"}, "url", "port"),
    ({"url": "redis://[::1"}, "url", "malformed"),
    ({"url": "redis://localhost?db="}, "url", "empty or given twice"),
    ({"url": "embedded://", "password": "pw"}, "password", "with the embedded server"),
    ({"url": "redis://localhost:0"}, "url", "a port from 1 to 65535"),
    ({"url": "redis://a:1,b:2"}, "url", "redis+cluster://"),
    ({"url": "redis+cluster://a:1,b:x"}, "url", "a port from 1 to 65535"),
    ({"url": "redis+cluster://a/1"}, "url", "only database 0"),
    ({"url": "redis+cluster://a?replicas=maybe"}, "url", "maybe"),
    ({"url": "redis+sentinel://a:1"}, "url", "expected the service's name"),
    ({"url": "redis+sentinel://a:1/service/x"}, "url", "whole number"),
    ({"url": "redis+sentinel://a/s?sentinel_pasword=x"}, "url", "sentinel_password"),
    ({"url": "redis+claster://a"}, "url", "did you mean 'redis+cluster'?"),
    ({"url": "redis://localhost/zero"}, "url", "whole number"),
    ({"url": "redis://localhost/-1"}, "url", "whole number"),
    ({"url": "redis://localhost/0?db=1"}, "url", "twice"),
    ({"url": "redis://localhost?tiemout=1"}, "url", "unknown parameter"),
    ({"url": "redis://localhost?ssl_ca_certs=x"}, "url", "rediss"),
    ({"url": "redis://user@localhost"}, "url", "no password"),
    ({"url": "redis://localhost#x"}, "url", "%23"),
    ({"url": "rediss://localhost?ssl_ca_certs=/no/such/file"}, "url", "/no/such/file"),
    ({"url": "rediss://localhost?ssl_cert_reqs=maybe"}, "url", "maybe"),
    ({"url": "rediss://localhost?ssl_check_hostname=maybe"}, "url", "maybe"),
    ({"url": "unix://"}, "url", "absolute"),
    ({"url": "unix://socket"}, "url", "absolute"),
    ({"url": "embedded://host"}, "url", "takes no host"),
    ({"url": "redis://localhost", "host": "localhost"}, "url", "host"),
    ({"url": "redis://localhost", "port": 6379}, "url", "port"),
    ({"url": "redis://:a@localhost", "password": "b"}, "password", "twice"),
    ({"username": "me"}, "username", "needs a password"),
    ({"username": 7, "password": "b"}, "username", "7"),
    ({"password": ""}, "password", "non-empty"),
    ({"ttl": 0}, "ttl", "0"),
    ({"ttl": -1}, "ttl", "-1"),
    ({"ttl": 0.0001}, "ttl", "0.0001"),
    ({"ttl": timedelta(days=36_500)}, "ttl", "seconds"),
    ({"ttl": float("nan")}, "ttl", "nan"),
    ({"ttl": "1h"}, "ttl", "'1h'"),
    ({"ttl": True}, "ttl", "True"),
    ({"timeout": 0}, "timeout", "0"),
    ({"timeout": None}, "timeout", "None"),
    ({"timeout": float("inf")}, "timeout", "inf"),
    ({"timeout": 61}, "timeout", "61"),
    ({"on_error": "ignore"}, "on_error", "'predict' or 'raise'"),
    ({"revision": ""}, "revision", "''"),
    ({"revision": []}, "revision", "[]"),
    ({"revision": 7}, "revision", "7"),
    ({"revision": __file__}, "revision", "use a list"),
    ({"integrity": "yes"}, "integrity", "'yes'"),
    ({"key_secret": ""}, "key_secret", "non-empty"),
    ({"key_secret": 7}, "key_secret", "string"),
    ({"max_entry_bytes": 0}, "max_entry_bytes", "0"),
    ({"near_cache": 0}, "near_cache", "to 1,000,000,000, or null for no near cache, got 0"),
    ({"max_connections": 0}, "max_connections", "0"),
    ({"max_connections": 1.5}, "max_connections", "1.5"),
    ({"cache_if": "no colon"}, "cache_if", "package.module:name"),
    ({"cache_if": "json:nothing"}, "cache_if", "nothing"),
    ({"cache_if": 7}, "cache_if", "7"),
    ({"enabled": "off"}, "enabled", "'off'"),
    ({"hashing_field": ["age"]}, "hashing_field", "did you mean 'hashing_fields'?"),
]


WITHOUT_EFFECT: list[tuple[dict[str, Any], str]] = [
    ({"near_ttl": 5}, "5 has no effect without near_cache; set near_cache to the number of"),
    ({"near_ttl": timedelta(seconds=5), "near_cache": False}, ".* without near_cache"),
    ({"near_cache_bytes": "16000000"}, "'16000000' has no effect without near_cache"),
    ({"single_flight_wait": 2, "single_flight": "off"}, "2 has no effect with single_flight: off"),
    ({"expected_entries": 5, "layout": "plain"}, "5 has no effect without layout: packed"),
]


@pytest.mark.parametrize(("given", "hint"), WITHOUT_EFFECT)
def test_an_option_without_effect_is_refused_unless_it_has_its_default(
    given: dict[str, Any], hint: str
) -> None:
    option = next(iter(given))
    with pytest.raises(ConfigurationError, match=f"^{option}: {hint}.* or remove {option}$"):
        RedisCachingDecorator(**given)
    default = inspect.signature(RedisCachingDecorator).parameters[option].default
    RedisCachingDecorator(**{**given, option: default})


@pytest.mark.parametrize(("given", "option", "hint"), BAD)
def test_a_bad_option_is_refused_at_construction(
    given: dict[str, Any], option: str, hint: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        RedisCachingDecorator(**given)
    assert raised.value.option == option
    assert str(raised.value).startswith(f"{option}: ")
    assert hint in str(raised.value)
    assert isinstance(raised.value, ValueError)
    assert isinstance(raised.value, ModelCacheError)


class Inner(BaseModel):
    income: float
    name: str


class Outer(BaseModel):
    inner: Inner | None
    plain: str
    flag: bool
    whole: int
    many: list[Decimal]
    aliased: float = Field(alias="AliasedField")
    either: Inner | float = 0.0


BAD_FOR_THE_SCHEMA: list[tuple[dict[str, Any], str, str]] = [
    ({"hashing_fields": ["plian"]}, "hashing_fields", "did you mean 'plain'?"),
    ({"ignored_fields": ["nothing_like_it"]}, "ignored_fields", "known: 'aliased'"),
    ({"hashing_fields": ["inner.incom"]}, "hashing_fields", "did you mean 'income'?"),
    ({"hashing_fields": ["plain.x"]}, "hashing_fields", "no fields"),
    ({"hashing_fields": ["AliasedField"]}, "hashing_fields", "'aliased'"),
    (
        {"ignored_fields": ["inner", "plain", "flag", "whole", "many", "aliased", "either"]},
        "ignored_fields",
        "excludes every field",
    ),
    ({"reduced_precision_fields": ["plain"]}, "reduced_precision_fields", "no numbers"),
    ({"reduced_precision_fields": ["flag"]}, "reduced_precision_fields", "no numbers"),
    ({"reduced_precision_fields": ["inner.name"]}, "reduced_precision_fields", "no numbers"),
    ({"reduced_precision_fields": ["inner"]}, "reduced_precision_fields", "no numbers"),
    ({"reduced_precision_fields": ["wohle"]}, "reduced_precision_fields", "did you mean 'whole'?"),
    (
        {"reduced_precision_fields": ["either", "either.income"]},
        "reduced_precision_fields",
        "'either.income' is inside another field",
    ),
    ({"revision": ["/no/such/file"]}, "revision", "/no/such/file"),
]


@pytest.mark.parametrize(("given", "option", "hint"), BAD_FOR_THE_SCHEMA)
def test_an_option_that_does_not_fit_the_schema_is_refused_by_set_model(
    given: dict[str, Any], option: str, hint: str
) -> None:
    if "reduced_precision_fields" in given:
        given = {**given, "number_of_places": 1}
    decorator = RedisCachingDecorator(**given)
    with pytest.raises(ConfigurationError) as raised:
        decorator.set_model(FunctionModel(Outer))
    assert raised.value.option == option
    assert hint in str(raised.value)


def test_fields_of_numbers_can_be_rounded_wherever_they_are() -> None:
    for path in ("inner.income", "whole", "many", "aliased"):
        RedisCachingDecorator(reduced_precision_fields=[path], number_of_places=1).set_model(
            FunctionModel(Outer)
        )


def test_plain_yaml_types_are_enough() -> None:
    config = Config.parse(
        options(
            port="6379",
            database="2",
            ttl=60,
            timeout=1,
            ignored_fields=["a", "a", "b.c"],
            reduced_precision_fields=["x", "y"],
            number_of_places={"x": 1, "y": -2},
            use_compression=True,
            revision="abc",
            cache_if="tests.test_decorator_storing:only_adults",
        ),
    )
    assert config.endpoint == Endpoint(host="localhost", port=6379, database=2)
    assert config.ttl == 60_000
    assert config.ignored_fields == ("a", "b.c")
    assert config.places == {"x": 1, "y": -2}
    assert config.compressor is not None
    assert config.compressor.name == "snappy"
    assert callable(config.cache_if)


def test_urls_are_understood() -> None:
    assert parse_url("url", "redis://") == Endpoint()
    assert parse_url("url", "redis://example:1/7") == Endpoint("example", 1, 7)
    assert parse_url("url", "redis://[::1]:2?db=3") == Endpoint("::1", 2, 3)
    assert parse_url("url", "redis://us%40er:p%2Fw@h") == Endpoint(
        "h", username="us@er", password=SecretStr("p/w")
    )
    assert parse_url("url", "redis://:pw@h").password == SecretStr("pw")
    assert parse_url("url", "unix:///run/redis.sock?db=1") == Endpoint(
        database=1, path="/run/redis.sock"
    )
    assert parse_url("url", "unix://:pw@/run/redis.sock").password == SecretStr("pw")
    tls = parse_url("url", f"rediss://h?ssl_ca_certs={__file__}&ssl_check_hostname=false").tls
    assert tls is not None
    assert (tls.ca_certs, tls.check_hostname, tls.cert_reqs) == (__file__, False, "required")


def test_urls_of_several_nodes_are_understood() -> None:
    assert parse_url("url", "redis+cluster://u:p@a:1,b,[::1]:3/0?replicas=true") == Endpoint(
        cluster=(Address("a", 1), Address("b", 6379), Address("::1", 3)),
        replicas=True,
        username="u",
        password=SecretStr("p"),
    )
    assert parse_url(
        "url", "redis+sentinel://:p@a:1,b/my%20service/2?sentinel_username=s&sentinel_password=t"
    ) == Endpoint(
        sentinels=(Address("a", 1), Address("b", 26379)),
        service="my service",
        database=2,
        password=SecretStr("p"),
        sentinel_username="s",
        sentinel_password=SecretStr("t"),
    )
    tls = parse_url("url", f"rediss+cluster://a?ssl_ca_certs={__file__}").tls
    assert tls is not None
    assert tls.ca_certs == __file__


def test_redis_url_counts_only_where_no_connection_option_is_given() -> None:
    environment = {"REDIS_URL": "redis://elsewhere:7/3"}
    assert Config.parse(options(), environment.get).endpoint == Endpoint("elsewhere", 7, 3)
    for given in ({"host": "localhost"}, {"port": 6379}, {"database": 0}, {"password": "x"}):
        assert Config.parse(options(**given), environment.get).endpoint.host == "localhost"
    url = options(url="redis://here")
    assert Config.parse(url, environment.get).endpoint == Endpoint("here")
    assert Config.parse(options()).endpoint == Endpoint("localhost", 6379, 0)
    with pytest.raises(ConfigurationError, match=r"^REDIS_URL: "):
        Config.parse(options(), {"REDIS_URL": "elsewhere"}.get)


def test_the_default_address_can_be_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    endpoint = Config.parse(options()).endpoint
    # The socket module refuses subclasses of int as ports.
    found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    assert {address[1] for *_, address in found} == {6379}


def test_a_revision_is_a_text_or_the_models_files(server: Server, tmp_path: Path) -> None:
    def key(revision: Any) -> str:
        decorator = RedisCachingDecorator(url=server.url, revision=revision)
        decorator.set_model(FunctionModel())
        return decorator.cache_key(person(age=1))

    first, second, folder = tmp_path / "a.bin", tmp_path / "b.bin", tmp_path / "model"
    first.write_bytes(b"one")
    second.write_bytes(b"two")
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "weights").write_bytes(b"w")
    keys = [
        key(None),
        key("a"),
        key([str(first)]),
        key([str(second)]),
        key([first, second]),
        key([second, first]),
        key(folder),
    ]
    assert len(set(keys)) == len(keys)
    assert key([str(first)]) == key(first)
    (folder / "inner" / "weights").write_bytes(b"W")
    assert key(folder) not in keys


def test_a_missing_extra_names_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lz4.block", None)
    with pytest.raises(ConfigurationError, match=r'pip install "ml-model-cache\[lz4\]"'):
        RedisCachingDecorator(use_compression="lz4")

"""No error, log line, attribute or local variable in a traceback shows a secret."""

from __future__ import annotations

import copy
import logging
import pickle
import socket
import threading
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import SecretBytes, SecretStr

from model_cache import ConfigurationError, ModelCacheError, RedisCachingDecorator
from model_cache.keys.key import tag_key
from model_cache.options.config import Config
from model_cache.redaction import masked_url
from model_cache.stores.opening import administered
from model_cache.stores.server import RedisStore
from tests.cli.command import run
from tests.models import FunctionModel, person
from tests.servers import Server, free_port, running_server

SECRET = "s3cr3t-pa55word"

Given = dict[str, Any]


def local_variables(error: BaseException | None) -> Iterator[str]:
    """Yield the locals of all frames of the library and of redis-py, as pytest, Sentry and rich
    print them; the frames of this file hold what the test itself gave."""
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename != __file__:
                for name, value in frame.f_locals.items():
                    yield f"{frame.f_code.co_qualname}: {name} = {shown(value)}"
        error = error.__cause__ or error.__context__


def shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # a decorator half made
        return ""


def attributes(value: object, seen: dict[int, object] | None = None) -> Iterator[str]:
    """Yield the repr of an object and of everything that `vars()` reaches from there."""
    seen = {} if seen is None else seen
    if id(value) in seen or isinstance(value, (type, types.ModuleType, SecretStr, SecretBytes)):
        yield shown(value)
        return
    seen[id(value)] = value
    yield shown(value)
    parts: list[object] = list(getattr(value, "__dict__", {}).values())
    if isinstance(value, Mapping):
        parts += value.values()
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts += value
    elif isinstance(value, types.FunctionType):
        parts += [cell.cell_contents for cell in value.__closure__ or ()]
    elif isinstance(value, types.MethodType):
        parts.append(value.__self__)
    for part in parts:
        yield from attributes(part, seen)


def holding_the_secret(texts: Iterator[str]) -> list[str]:
    return [text for text in texts if SECRET in text]


GIVEN: list[Given] = [
    {"url": f"redis://user:{SECRET}@127.0.0.1:1/0"},
    {"url": SecretStr(f"redis://user:{SECRET}@127.0.0.1:1/0")},
    {"url": f"redis://127.0.0.1:1?password={SECRET}"},
    {"url": f"unix:///no/such.sock?password={SECRET}"},
    {"url": f"unix:///no/such.sock?password=p@{SECRET}"},
    {"url": f"redis+cluster://:{SECRET}@127.0.0.1:1"},
    {"url": f"redis+sentinel://127.0.0.1:1/main?sentinel_password={SECRET}"},
    {"url": f"redis+sentinel://127.0.0.1:1/main?sentinel_password=p@{SECRET}"},
    {"password": SECRET, "port": 1},
    {"password": SecretStr(SECRET), "port": 1},
    {"key_secret": SECRET, "port": 1},
    {"key_secret": SECRET.encode(), "port": 1},
    {"key_secret": SecretBytes(SECRET.encode()), "port": 1},
    {"encryption_key": SECRET, "port": 1},
    {"encryption_key": [SECRET, SecretStr(SECRET), SECRET.encode()], "port": 1},
]


@pytest.mark.parametrize("given", GIVEN)
def test_a_secret_shows_in_no_attribute_error_or_log_line(
    given: Given, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        decorator = RedisCachingDecorator(**given, on_error="raise").set_model(FunctionModel())
        for each in (decorator, copy.deepcopy(decorator), pickle.loads(pickle.dumps(decorator))):
            with pytest.raises(ModelCacheError) as raised:
                each.predict(person(age=1))
            assert not holding_the_secret(attributes(each))
            assert SECRET not in "".join(traceback.format_exception(raised.value))
            assert not holding_the_secret(local_variables(raised.value))
    assert SECRET not in caplog.text


def test_a_secret_shows_in_no_attribute_of_a_connection_in_use() -> None:
    with running_server("--requirepass", SECRET) as server:
        url = f"redis://default:{SECRET}@127.0.0.1:{server.port}/1"
        with RedisCachingDecorator(url=url, on_error="raise") as decorator:
            decorator.set_model(FunctionModel()).predict(person(age=1))
            assert decorator.stats().misses == 1
            assert not holding_the_secret(attributes(decorator))


def test_redis_and_hashes_get_the_secret_itself(server: Server) -> None:
    for secret in ("k", b"k", SecretStr("k"), SecretBytes(b"k")):
        assert tag_key(secret) == tag_key("k")
        with RedisCachingDecorator(url=server.url, key_secret=secret) as decorator:
            decorator.set_model(FunctionModel())
            keyed = decorator.cache_key(person(age=1))
        with RedisCachingDecorator(url=server.url, key_secret="k") as decorator:
            assert decorator.set_model(FunctionModel()).cache_key(person(age=1)) == keyed


REFUSED: list[Given] = [
    {"url": f"redis://user:{SECRET}@host:port"},
    {"url": f"redis://:{SECRET}@host:1/x"},
    {"url": f"redi://:{SECRET}@host"},
    {"url": f"redis://:{SECRET}#x@host"},
    {"url": f"redis://:{SECRET}/x@host"},
    {"url": f"redis://:{SECRET}?x@host"},
    {"url": f"redis://:a@{SECRET}?x@host"},
    {"url": f"redis://:a?{SECRET}=x@host"},
    {"url": f"redis+sentinel://a/s/x?sentinel_password={SECRET}"},
    {"url": f"redis+sentinel://a/s/x?sentinel_password=p@{SECRET}"},
    {"url": f"redis+sentinel://:p@a/s?sentinel_password=p@{SECRET}&db=x"},
    {"url": f"unix:///run/x.sock?password={SECRET}&x=1"},
    {"url": f"unix:///x.sock?password=a&{SECRET}"},
    {"url": f":{SECRET}@host"},
    {"url": f"redis://:{SECRET}"},
    {"url": f"redis://user:{SECRET}/0"},
    {"url": f"redis://host?passwd={SECRET}"},
    {"url": f"redis://host?{SECRET}=1"},
    {"url": f"redis://:{SECRET} @host"},
    {"url": f"redis://:{SECRET}\n@host"},
    {"url": f'"redis://:{SECRET}@host"'},
    {"url": f"tcp://:{SECRET}@host"},
    {"url": f"rediss://:{SECRET}@host", "ssl_ca_certs": "/no/such/file"},
    {"url": f"rediss://:{SECRET}@host?ssl_ca_certs=/no/such/file"},
    {"url": f"redis://:{SECRET}@host", "ssl_cert_reqs": "none"},
    {"url": [f"redis://:{SECRET}@host"]},
    {"url": {"url": f"redis://:{SECRET}@host"}},
    {"url": f"redis://:{SECRET}@host".encode()},
    {"url": f"redis://:{SECRET}@host", "password": "b"},
    {"url": f"redis://:{SECRET}@host", "host": "h"},
    {"host": f"redis://:{SECRET}@host"},
    {"port": f"redis://:{SECRET}@host"},
    {"prefix": "", "password": SECRET},
    {"username": 7, "password": SECRET},
    {"password": SECRET.encode()},
    {"password": [SECRET]},
    {"password": SECRET + "\n"},
    {"key_secret": SECRET + "\r\n"},
    {"key_secret": [SECRET]},
    {"encryption_key": SECRET + "\n"},
    {"encryption_key": [SECRET, ""]},
    {"encryption_key": ["a-key", SECRET + "\n"]},
    {"encryption_key": {"key": SECRET}},
    {"encryption_key": SECRET, "encryption_kye": SECRET},
    {"pasword": SECRET},
    {"hooks": ["nothing"], "key_secret": SECRET},
    {"ttl": "x", "password": SECRET, "key_secret": SECRET.encode()},
]


@pytest.mark.parametrize("given", REFUSED)
def test_an_error_about_an_option_shows_no_secret_even_in_the_locals_of_its_traceback(
    given: Given,
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        RedisCachingDecorator(**given)
    assert SECRET not in "".join(traceback.format_exception(raised.value))
    if "port" not in given:  # there, nobody expects a secret
        assert not holding_the_secret(local_variables(raised.value))


def test_a_bad_redis_url_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://:{SECRET}@host:port")
    with pytest.raises(ConfigurationError, match=r"^REDIS_URL: ") as raised:
        RedisCachingDecorator()
    assert not holding_the_secret(local_variables(raised.value))
    refused = run("doctor", "--url", f"redis+sentinel://a/s/x?sentinel_password=p@{SECRET}")
    assert refused.code != 0
    assert SECRET not in refused.stdout + refused.stderr


def test_setting_an_option_shows_no_secret() -> None:
    with pytest.raises(AttributeError) as raised:
        RedisCachingDecorator().set_model(FunctionModel()).password = SECRET
    assert SECRET not in str(raised.value)
    assert not holding_the_secret(local_variables(raised.value))


@contextmanager
def answering(reply: Callable[[bytes], bytes]) -> Iterator[int]:
    """Serve a port that answers the first bytes of each connection, then closes it."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(reply(connection.recv(4096)))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("reply", [b"", b"-WRONGPASS no\r\n", b"+what", b"\x15\x03\x01\x00\x02"])
def test_a_failed_login_leaves_no_password_in_the_frames(reply: bytes) -> None:
    with answering(lambda _: reply) as port:
        for url in (
            f"redis://:{SECRET}@127.0.0.1:{port}",
            f"redis+sentinel://127.0.0.1:{port}/main?sentinel_password={SECRET}",
        ):
            config = Config.parse(
                {**RedisCachingDecorator(enabled=False)._options, "url": url, "timeout": 5.0}
            )
            (store,) = administered(config.endpoint, 5.0).values()
            with pytest.raises(ModelCacheError) as raised:
                store.get(b"key", 5.0)
            assert not holding_the_secret(local_variables(raised.value))


def test_a_refused_port_leaves_no_password_in_the_frames() -> None:
    config = Config.parse(
        {
            **RedisCachingDecorator(enabled=False)._options,
            "url": f"redis://:{SECRET}@127.0.0.1:{free_port()}",
        }
    )
    with pytest.raises(ModelCacheError) as raised:
        RedisStore(config.endpoint).get(b"key", 5.0)
    assert not holding_the_secret(local_variables(raised.value))


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://user:pw@host:6379/0", "redis://***@host:6379/0"),
        ("redis://:p@ss@host", "redis://***@host"),
        ("redis+cluster://:pw@a:1,b:2", "redis+cluster://***@a:1,b:2"),
        ("rediss://:pw@host/0?ssl_cert_reqs=none", "rediss://***@host/0"),
        ("redis://:pw@host?password=p@ss", "redis://***"),
        ("unix:///s?password=p@ssw0rd", "unix://***"),
        ("redis+sentinel://a/s?sentinel_password=p@ss", "redis+sentinel://***"),
        ("redis://localhost:6379/0", "redis://***"),
        ("pw@host", "***"),
    ],
)
def test_a_url_is_shown_without_anything_that_may_be_secret(url: str, masked: str) -> None:
    assert masked_url(url) == masked
    if "://" in url:
        assert RedisCachingDecorator(url=url, enabled=False)._configuration["url"] == masked


def test_a_pickle_holds_the_secrets_and_works_elsewhere() -> None:
    options: Given = {"password": SECRET, "key_secret": SECRET, "encryption_key": [SECRET]}
    decorator = RedisCachingDecorator(**options)
    pickled = pickle.dumps(decorator.set_model(FunctionModel()))
    assert SECRET.encode() in pickled
    assert pickle.loads(pickled).cache_key(person(age=1)) == decorator.cache_key(person(age=1))

"""`model-cache inspect` on real servers; it changes nothing."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, Flag
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pytest
import redis

from model_cache import Cache
from model_cache.cli import target
from model_cache.cli.output import printable
from tests.checkout import IMPORTS
from tests.cli.command import PROGRAM, acting_as, run, run_apart
from tests.cli.filling import DIGEST, fill
from tests.faults.topologies import running_twemproxy
from tests.models import Charges
from tests.servers import Server, free_port, running_server
from tests.stored import entries


def test_the_models_are_listed_with_their_entries(server: Server, client: redis.Redis) -> None:
    fill(server.url, 7)
    fill(server.url, 3, version="2.0.0", ttl=1000, serder="MessagePack", integrity=True)
    fill(server.url, 2, prefix="team/a", ttl=50, stale_if_error=50)
    client.set("a/session", "somebody else's")
    result = run("inspect", "--url", server.url, "--json")
    assert (result.code, result.stderr) == (0, "")
    found = result.json
    assert found["foreign"] == 1
    first, second, third = found["models"]
    assert (first["prefix"], first["model"], first["version"]) == (None, "a_model", "1.0.0")
    assert (first["entries"], first["looked_at"]) == (7, 7)
    assert first["serders"] == {"JSON": 7}
    assert first["forms"] == {"plain": 7}
    assert first["ttl"] == {
        "known": 7,
        "without_ttl": 1.0,
        "least": None,
        "median": None,
        "most": None,
    }
    sizes = [client.memory_usage(key) or 0 for key in entries(client, "a_model/1.0.0/*")]
    assert first["bytes"] == sum(sizes)
    assert second["serders"] == {"MessagePack": 3}
    assert second["tags"] == {"right": 3}
    assert 0 < second["ttl"]["least"] <= second["ttl"]["median"] <= second["ttl"]["most"] <= 1e6
    assert third["prefix"] == "team/a"
    assert third["stale"] == 0
    assert len(entries(client)) == 13


def test_the_entries_of_rows_and_of_functions_are_read(server: Server, client: redis.Redis) -> None:
    with Cache(server.url) as cache:
        cache.memoize(name="of_calls", version="1")(lambda age: 2.5 * age)(4)
        rows = cache.memoize_rows(version="1", name="of_rows")(lambda ages: ages * 2.5)
        rows(np.array([[4.0, 6.0]]))
    found = run("inspect", "--url", server.url, "--json").json["models"]
    assert {each["model"]: each["serders"] for each in found} == {
        "of_calls": {"python": 1},
        "of_rows": {"rows": 1},
    }
    assert [each["problems"] for each in found] == [{}, {}]
    [key] = entries(client, "of_rows/1/*")
    entry = run("inspect", key.decode(), "--url", server.url, "--json").json["entry"]
    assert entry["value"] == [[10.0, 15.0]]


def test_an_instance_of_a_class_of_the_service_is_no_damaged_entry(
    server: Server, client: redis.Redis
) -> None:
    with Cache(server.url) as cache:
        of_age = cache.memoize(name="of_calls", version="1")(
            lambda age: {"of": age, "charges": Charges(charges=2.5 * age)}
        )
        of_age(4)
    result = run("inspect", "--url", server.url, "--json")
    assert (result.code, result.json["models"][0]["problems"]) == (0, {})
    [key] = entries(client, "of_calls/1/*")
    entry = run("inspect", key.decode(), "--url", server.url, "--json").json["entry"]
    assert entry["value"] == {"of": 4, "charges": {"charges": 10.0}}


@dataclass
class Position:
    city: str
    at: datetime
    history: tuple[Charges, ...] = ()


class Label(NamedTuple):
    name: str
    score: float


class Color(Enum):
    RED = 1


class Access(Flag):
    READ = 1
    WRITE = 2


WHEN = datetime(2026, 1, 1)
READABLE: dict[str, tuple[Any, Any]] = {
    "a model": (Charges(charges=2.5), {"charges": 2.5}),
    "a list of models": ([Charges(charges=2.5)], [{"charges": 2.5}]),
    "a dataclass": (
        Position("Berlin", WHEN, (Charges(charges=2.5),)),
        ["Berlin", "2026-01-01 00:00:00", [{"charges": 2.5}]],
    ),
    "a named tuple": (Label("flu", 0.5), ["flu", 0.5]),
    "an enum": (Color.RED, "RED"),
    "flags": (Access.READ | Access.WRITE, 3),
    "an array": (np.eye(2), [[1.0, 0.0], [0.0, 1.0]]),
    "an array of objects": (np.array([Label("a", 1.0), None], dtype=object), [["a", 1.0], None]),
    "a scalar": ({"score": np.float32(0.5)}, {"score": 0.5}),
    "a masked array": (np.ma.masked_array([1, 2], [True, False]), [None, 2]),
    "a timestamp": (pd.Timestamp(WHEN), "2026-01-01 00:00:00"),
    "a Series": (pd.Series([1.5, 2.5]), [1.5, 2.5]),
    "a DataFrame": (pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), {"a": [1, 2], "b": ["x", "y"]}),
    "a Series of polars": (pl.Series("a", [1, 2]), [1, 2]),
    "a DataFrame of polars": (pl.DataFrame({"a": [1, 2]}), {"a": [1, 2]}),
    "sets": (({1}, frozenset({"a"})), [[1], ["a"]]),
}


@pytest.fixture(scope="module")
def readable() -> Iterator[tuple[Server, dict[str, str]]]:
    """A server with an entry of each kind, and their keys."""
    with running_server() as server, Cache(server.url, timeout=5.0) as cache:
        keys = {}
        for name, (result, _) in READABLE.items():
            one = cache.memoize(version="1", name=name)(lambda _, result=result: result)
            one(1)
            keys[name] = one.cache_key(1)
        for name in ("a model", "a dataclass", "an enum", "a timestamp"):
            rows = cache.memoize_rows(version="1", name=f"rows of {name}")(
                lambda _, result=READABLE[name][0]: [result]
            )
            rows([1])
            [keys[f"rows of {name}"]] = rows.cache_keys([1])
        assert len(entries(server.client())) == len(keys)
        yield server, keys


@pytest.mark.parametrize("name", READABLE)
def test_what_a_function_returned_is_shown(
    readable: tuple[Server, dict[str, str]], name: str
) -> None:
    server, keys = readable
    for key, shown in (
        (keys[name], READABLE[name][1]),
        (keys.get(f"rows of {name}"), [READABLE[name][1]]),
    ):
        if key is not None:
            result = run("inspect", key, "--url", server.url, "--json")
            assert (result.code, result.json["entry"]["value"]) == (0, shown)


def test_a_process_that_has_imported_no_library_reads_its_values(
    readable: tuple[Server, dict[str, str]],
) -> None:
    server, keys = readable
    result = run_apart("inspect", "--url", server.url, "--json")
    assert result.code == 0
    assert {each["model"] for each in result.json["models"]} == set(keys)
    shown = run_apart("inspect", keys["a DataFrame"], "--url", server.url, "--json")
    assert shown.json["entry"]["value"] == READABLE["a DataFrame"][1]


def test_what_is_nested_too_deeply_to_be_shown_is_cut_off(
    server: Server, client: redis.Redis
) -> None:
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    with Cache(server.url) as cache:
        cache.memoize(version="1", name="deep")(lambda: deep)()
    [key] = entries(client, "deep/1/*")
    result = run("inspect", key.decode(), "--url", server.url)
    assert result.code == 0
    assert '"..."' in result.stdout


def test_a_value_of_a_library_that_is_not_installed_is_no_damaged_entry(
    readable: tuple[Server, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, keys = readable
    for name, library in (
        ("an array", "numpy"), ("a Series", "pandas"), ("a Series of polars", "polars")
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, library, None)
            result = run("inspect", keys[name], "--url", server.url, "--json")
        assert result.code == 0
        assert result.json["entry"]["value"].endswith(f" bytes, not decoded without {library}")


def test_without_json_it_prints_text(server: Server) -> None:
    fill(server.url, 12, ttl=7200)
    fill(server.url, 1, prefix="p", serder="MessagePack")
    result = run("inspect", REDIS_URL=server.url)
    assert result.code == 0
    assert re.fullmatch(
        r"a_model 1\.0\.0\n"
        r"  12 entries, [\d.]+ kB by MEMORY USAGE \(\d+ bytes each\), TTL left [\d. /]+ h, JSON\n"
        r"a_model 1\.0\.0 \(prefix p\)\n"
        r"  1 entry, \d+ bytes by MEMORY USAGE \(\d+ bytes each\), no TTL, MessagePack\n",
        result.stdout,
    )


def test_names_are_not_cut_off_on_a_narrow_terminal(server: Server) -> None:
    name, version, prefix = "a_model_of_a_team_" * 4, "2024.11.25-rc.1+build.77", "europe/blue"
    fill(server.url, 1, name=name, version=version, prefix=prefix)
    assert f"{name} {version} (prefix {prefix})" in on_a_terminal(server, "inspect").splitlines()


def on_a_terminal(server: Server, *words: str, columns: int = 80) -> str:
    """Return what a command prints on a terminal, without control sequences."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "REDIS_URL": server.url, "PYTHONPATH": IMPORTS}
    with subprocess.Popen([*PROGRAM, *words], env=environment, stdout=end, stderr=end):
        os.close(end)
        shown = b""
        with suppress(OSError):  # the end of it
            while part := os.read(terminal, 4096):
                shown += part
    os.close(terminal)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r", "")


def test_models_and_prefixes_can_be_chosen(server: Server) -> None:
    fill(server.url, 1)
    fill(server.url, 1, name="another")
    fill(server.url, 1, name="another", prefix="p")
    chosen = run("inspect", "--url", server.url, "--json", "--model", "another").json["models"]
    assert [(each["prefix"], each["model"]) for each in chosen] == [
        (None, "another"),
        ("p", "another"),
    ]
    chosen = run("inspect", "--url", server.url, "--json", "--prefix", "p").json["models"]
    assert [each["prefix"] for each in chosen] == ["p"]


def test_it_reads_a_sample_of_many_entries_and_says_so(server: Server) -> None:
    fill(server.url, 50)
    found = run("inspect", "--url", server.url, "--sample", 10, "--json").json["models"][0]
    assert (found["entries"], found["looked_at"]) == (50, 10)
    assert sum(found["serders"].values()) == 10
    assert found["bytes"] >= 50 * 40
    assert "estimated" in run("inspect", "--url", server.url, "--sample", 10).stdout
    assert "estimated" not in run("inspect", "--url", server.url).stdout


def test_some_keys_are_listed_on_request(server: Server) -> None:
    first = fill(server.url, 1, name="na me\u202e", prefix="team/a")
    fill(server.url, 5)
    assert run("inspect", "--url", server.url, "--json").json["models"][0]["keys"] == []
    words = ("inspect", "--url", server.url, "--keys", 3)
    listed = run(*words, "--json").json["models"]
    assert [len(each["keys"]) for each in listed] == [3, 1]
    assert listed[1]["keys"] == [first]
    for key in (*listed[0]["keys"], first):
        assert run("inspect", "--url", server.url, key).code == 0
    every = run(*words, "--keys", 5, "--json").json["models"][0]["keys"]
    shown = run(*words, "--prefix", "team/a").stdout
    assert printable(first) in shown.splitlines()
    assert "\u202e" not in shown
    lines = run(*words, "--model", "a_model").stdout.splitlines()
    assert len(set(lines) & set(every)) == 3


def test_undecodable_entries_are_counted_and_not_shown(server: Server, client: redis.Redis) -> None:
    fill(server.url, 1)
    evil = "na\u202eme\u200b"  # format characters are not escaped in keys
    client.set(f"{evil}/1/{DIGEST}", b"\x1b]0;owned\x07")
    client.hset(f"{evil}/1/{DIGEST[:-1]}A", "field", "value")
    client.set(f"{evil}/1/{DIGEST[:-1]}B", b'{"text": "\\u001b[31m\\u009b1m red"}')
    result = run("inspect", "--url", server.url)
    assert result.code == 1
    assert "1 entry can't be decoded: WRONGTYPE" in result.stdout
    assert "na\\u202eme\\u200b" in result.stdout
    listed = run("inspect", "--url", server.url, "--json").json["models"]
    problems = {each["model"]: each["problems"] for each in listed}
    assert problems == {
        "a_model": {},
        evil: {"WRONGTYPE": 1, "neither an object, nor an array, nor an envelope": 1},
    }
    one = run("inspect", "--url", server.url, f"{evil}/1/{DIGEST[:-1]}B")
    assert one.code == 0
    assert "red" in one.stdout
    for text in (result.stdout, result.stderr, one.stdout):
        assert not {"\x1b", "\x07", "\x9b", "\u202e", "\u200b"} & set(text)


def test_one_key_is_decoded_without_its_schema(server: Server) -> None:
    key = fill(
        server.url, 1, prefix="team a", ttl=1000, stale_if_error=10, use_compression="zstd",
        serder="MessagePack", integrity=True,
    )  # fmt: skip
    result = run("inspect", "--url", server.url, key, "--json")
    assert result.code == 0
    found = result.json
    assert (found["prefix"], found["model"], found["version"]) == ("team a", "a_model", "1.0.0")
    assert found["key"] == key
    assert 0 < found["ttl_ms"] <= 1_010_000
    entry = found["entry"]
    assert (entry["form"], entry["serder"], entry["tag"]) == ("envelope", "MessagePack", "right")
    assert entry["fresh_until"] > 1_700_000_000_000
    assert list(entry["value"]) == ["charges"]
    shown = run("inspect", "--url", server.url, key).stdout
    assert "team a" in shown
    assert '"charges": ' in shown


def test_the_secret_for_tags_is_from_the_environment_and_never_shown(server: Server) -> None:
    secret = "s3cret-of-keys"
    key = fill(server.url, 1, key_secret=secret)
    words = ("inspect", "--url", server.url, key, "--json")
    assert run(*words).json["entry"]["tag"] == "wrong"
    assert "1 tag is wrong, or made with another key_secret" in run(*words[:3]).stdout
    told = run(*words, MODEL_CACHE_KEY_SECRET=secret)
    assert told.json["entry"]["tag"] == "right"
    assert secret not in told.stdout + told.stderr


def test_nan_and_bytes_are_valid_json(server: Server, client: redis.Redis) -> None:
    client.set(
        f"name/1/{DIGEST}", b"\x82\xa1x\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\xa1y\xc4\x01\xff"
    )
    result = run("inspect", "--url", server.url, f"name/1/{DIGEST}", "--json")
    assert result.json["entry"]["value"] == {"x": "nan", "y": "/w=="}


def test_a_key_that_is_not_there_and_one_that_is_none(server: Server) -> None:
    missing = run("inspect", "--url", server.url, f"name/1/{DIGEST}")
    assert (missing.code, missing.stdout) == (1, "")
    assert "no entry under" in missing.stderr
    foreign = run("inspect", "--url", server.url, "a/session")
    assert (foreign.code, foreign.stdout) == (2, "")
    assert "[prefix/]name/version/22 characters" in foreign.stderr


@pytest.mark.parametrize("command", ["inspect", "stats"])
def test_if_nothing_matches_it_says_what_there_is(server: Server, command: str) -> None:
    fill(server.url, 1)
    fill(server.url, 1, name="other", prefix="blue")
    for words, hint in (
        (["--model", "a_modl"], "did you mean 'a_model'?"),
        (["--model", "a_model", "--prefix", "green"], "it has entries without a prefix"),
        (["--prefix", "green"], "there are entries under prefix 'blue' and without a prefix"),
    ):
        result = run(command, "--url", server.url, *words)
        assert result.code == 0
        assert result.stderr == f"nothing matches the options; {hint}\n"
        assert run(command, "--url", server.url, "--json", *words).json["models"] == []
    version = run("stats", "--url", server.url, "--model", "a_model", "--version", "3")
    assert version.stderr == "nothing matches the options; it has versions '1.0.0'\n"


def test_facts_without_permission_are_unknown(server: Server) -> None:
    key = fill(server.url, 3, name="insurance_charges_model", ttl=100)
    with acting_as("purger", server) as environment:
        result = run("inspect", "--json", **environment)
        assert result.code == 0
        (found,) = result.json["models"]
        assert (found["entries"], found["bytes"], found["ttl"]["known"]) == (3, None, 0)
        shown = run("inspect", **environment).stdout
        assert "TTL left ?" in shown
        assert "ACL SETUSER <user> +pttl +memory|usage" in shown
        assert run("inspect", key, "--json", **environment).json["ttl_ms"] == "unknown"


def test_missing_permissions_are_named_as_rules(server: Server, client: redis.Redis) -> None:
    key = fill(server.url, 3, prefix="p q")
    execute: Any = client.execute_command
    execute("ACL", "SETUSER", "newcomer", "reset", "on", ">s3cret")
    user = {"MODEL_CACHE_USERNAME": "newcomer", "MODEL_CACHE_PASSWORD": "s3cret"}
    rules: list[str] = []
    try:
        # As often as it asks for a rule, it gets it; then everything is shown.
        while granted := re.search(
            r"ACL SETUSER <user> (.+)", (result := run_either(server, key, user))
        ):
            assert len(rules) < 10, result
            rules += granted[1].split()
            execute("ACL", "SETUSER", "newcomer", *granted[1].split())
        assert "?" not in result
        assert set(rules) == {"+scan", "+get", "+pttl", "+memory|usage", "~p%20q/a_model/*"}
    finally:
        client.acl_deluser("newcomer")


def run_either(server: Server, key: str, user: dict[str, str]) -> str:
    """Return what the list and the key show together."""
    results = [run("inspect", *words, "--url", server.url, **user) for words in ((), (key,))]
    return "".join(each.stdout + each.stderr for each in results)


def test_a_proxy_shows_one_key_and_no_list() -> None:
    with running_twemproxy(timeout=5000) as proxy:
        key = fill(proxy.url, 1, proxied=True)
        found = run("inspect", "--url", proxy.url, "--proxied", key, "--json")
        assert (found.code, found.json["model"]) == (0, "a_model")
        listed = run("inspect", "--url", proxy.url, "--proxied")
        assert listed.code == 2
        assert "SCAN" in listed.stderr


@pytest.mark.parametrize("command", [("inspect",), ("purge", "--model", "m"), ("doctor",)])
def test_without_an_address_the_error_says_how_to_give_one(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setattr(target, "LOCAL", f"redis://127.0.0.1:{free_port()}")
    hint = "set REDIS_URL or give --url"
    result = run(*command)
    assert (result.code, result.stdout) == (3, "")
    assert hint in result.stderr
    assert hint not in run(*command, REDIS_URL=target.LOCAL).stderr


@pytest.mark.parametrize("command", [("inspect",), ("purge", "--model", "m"), ("doctor",)])
def test_an_unavailable_redis_is_exit_code_3(command: tuple[str, ...]) -> None:
    port = free_port()
    for url in (f"redis://127.0.0.1:{port}", f"redis+cluster://127.0.0.1:{port}"):
        result = run(*command, "--url", url)
        assert (result.code, result.stdout) == (3, "")
        assert f"127.0.0.1:{port}: Connection refused" in result.stderr


def test_a_wrong_password_is_exit_code_3_and_is_not_shown() -> None:
    with running_server("--requirepass", "the-right-one") as server:
        for command in (("inspect",), ("purge", "--model", "m"), ("doctor",)):
            words = (*command, "--url", server.url)
            assert "NOAUTH" in run(*words).stderr
            assert run(*words).code == 3
            wrong = run(*words, MODEL_CACHE_PASSWORD="wrong-s3cret")
            assert wrong.code == 3
            assert "invalid username-password" in wrong.stderr
            assert "wrong-s3cret" not in wrong.stderr
            assert run(*words, MODEL_CACHE_PASSWORD="the-right-one").code == 0
        in_url = server.url.replace("//", "//:wrong-s3cret@")
        assert "s3cret" not in run_apart("inspect", "--url", in_url).stderr


def test_the_password_may_be_in_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    with running_server("--requirepass", "s3cret") as server:
        words = ("inspect", "--url", server.url)
        for content, code, said in (
            (b"s3cret\n", 0, ""),
            (b"wr0ng\n", 3, "invalid username-password"),
            (b"s3cr\xff", 2, "is not in UTF-8"),
        ):
            secret.write_bytes(content)
            result = run(*words, MODEL_CACHE_PASSWORD_FILE=str(secret))
            assert result.code == code
            assert said in result.stderr
            assert "s3cr" not in result.stderr.replace(str(secret), "")
        secret.unlink()
        result = run(*words, MODEL_CACHE_PASSWORD_FILE=str(secret))
        assert (result.code, result.stdout) == (2, "")
        assert "No such file" in result.stderr


@pytest.mark.parametrize("command", ["inspect", "doctor"])
def test_a_server_that_is_not_a_cluster_is_reported(server: Server, command: str) -> None:
    result = run(command, "--url", server.url.replace("redis:", "redis+cluster:"))
    assert result.code == 3
    assert "cluster support disabled" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--url", "embedded://"], "embedded://"),
        (["--url", "http://x"], "scheme"),
        (["--url", "redis+cluster://h/3"], "database 0"),
        (["--timeout", "0"], "--timeout"),
        (["--sample", "none"], "--sample"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_usage_is_exit_code_2(words: list[str], message: str) -> None:
    result = run("inspect", *words)
    assert (result.code, result.stdout) == (2, "")
    assert message in result.stderr

"""`model-cache stats`: what the cache has saved in the whole fleet."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from model_cache import RedisCachingDecorator
from model_cache.keys.key import parse_key
from tests.cli.command import run
from tests.cli.filling import fill
from tests.models import FunctionModel, person
from tests.servers import Server, running_server


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Server]:
    """A server of its own: decorators of other tests may still be sending their counts."""
    with running_server() as server:
        yield server


def ask(url: str, age: int, name: str, **options: Any) -> None:
    with RedisCachingDecorator(url=url, **options) as decorator:
        decorator.set_model(FunctionModel(qualified_name=name))
        decorator.predict(person(age=age))


def test_the_whole_fleet_is_shown_by_model_and_version(server: Server, client: redis.Redis) -> None:
    fill(server.url, 3)
    fill(server.url, 2, prefix="blue", version="2.0.0")
    ask(server.url, 0, "a_model")
    result = run("stats", "--url", server.url, "--json", "--price-per-hour", 3600)
    plain, blue = result.json["models"]
    assert (plain["prefix"], plain["model"], plain["version"]) == (None, "a_model", "1.0.0")
    assert (plain["predictions"], plain["hit_ratio"], plain["entries"]) == (4, 0.25, 3)
    assert plain["counts"]["stored"] == 3
    assert plain["bytes"] > 0
    assert plain["money_saved"] == pytest.approx(plain["seconds_saved"])
    assert (blue["prefix"], blue["version"], blue["entries"]) == ("blue", "2.0.0", 2)


def test_as_text_it_shows_the_same(server: Server, client: redis.Redis) -> None:
    fill(server.url, 3)
    fill(server.url, 1, name="other")
    result = run("stats", "--url", server.url, "--price-per-hour", 1)
    assert "a_model 1.0.0\n" in result.stdout
    assert "3 predictions: 0 hits (0.0%), 3 misses, 0 without Redis, 0 errors" in result.stdout
    assert "3 entries" in result.stdout
    assert "In all: " in result.stdout
    assert run("stats", "--url", server.url, "--model", "none").stdout == (
        "no statistics and no entries\n"
    )


def test_one_of_a_kind_is_in_the_singular(server: Server, client: redis.Redis) -> None:
    fill(server.url, 1)
    ask(server.url, 0, "a_model")
    text = run("stats", "--url", server.url).stdout
    assert "2 predictions: 1 hit (50.0%), 1 miss, 0 without Redis, 0 errors" in text
    assert "\n  1 entry, " in text


def test_the_memory_is_said_to_be_what_memory_usage_counts(
    server: Server, client: redis.Redis
) -> None:
    fill(server.url, 3)
    keys = [key for key in client.scan_iter() if parse_key(bytes(key)) is not None]
    [found] = run("stats", "--url", server.url, "--json").json["models"]
    assert found["bytes"] == sum(client.memory_usage(key) or 0 for key in keys)
    assert " by MEMORY USAGE\n" in run("stats", "--url", server.url).stdout


def test_entries_without_counts_are_shown_as_well(server: Server, client: redis.Redis) -> None:
    fill(server.url, 3, fleet_stats=False)
    [found] = run("stats", "--url", server.url, "--json").json["models"]
    assert (found["predictions"], found["entries"], found["break_even"]) == (0, 3, None)


def test_counts_of_another_type_do_not_hide_those_of_others(
    server: Server, client: redis.Redis
) -> None:
    fill(server.url, 3)
    client.rpush("other_model/1.0.0/stats", "of another type")
    result = run("stats", "--url", server.url, "--json")
    assert [(each["model"], each["predictions"]) for each in result.json["models"]] == [
        ("a_model", 3),
        ("other_model", 0),
    ]


def test_inspect_does_not_call_the_counts_foreign(server: Server, client: redis.Redis) -> None:
    fill(server.url, 3)
    assert client.exists("a_model/1.0.0/stats")
    assert run("inspect", "--url", server.url, "--json").json["foreign"] == 0


def test_behind_a_proxy_the_model_is_named(server: Server, client: redis.Redis) -> None:
    fill(server.url, 3)
    given = ("stats", "--url", server.url, "--proxied", "--json")
    assert run(*given).code == 2
    [found] = run(*given, "--model", "a_model", "--version", "1.0.0").json["models"]
    assert (found["predictions"], found["entries"]) == (3, None)


def test_a_document_can_not_be_watched(server: Server) -> None:
    result = run("stats", "--url", server.url, "--json", "--watch")
    assert result.code == 2
    assert "can't be combined with --json" in result.stderr


def test_watching_ends_with_an_interrupt(
    server: Server, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(server.url, 3)
    shown = []

    def sleep(seconds: float) -> None:
        shown.append(seconds)
        if len(shown) == 2:
            raise KeyboardInterrupt

    # Not `time.sleep` itself, which background threads call, too.
    monkeypatch.setattr("model_cache.cli.app.time", SimpleNamespace(sleep=sleep))
    result = run("stats", "--url", server.url, "--watch")
    assert (result.code, result.stdout.count("a_model 1.0.0")) == (0, 2)

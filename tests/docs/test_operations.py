"""The pages for operators are correct: their ACL rules suffice, YAML and tables match the code."""

from __future__ import annotations

import contextlib
import logging
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
import redis
import yaml

from model_cache import RedisCachingDecorator, Stats, StoreUnavailableError, refresh
from model_cache.embedded import find_server
from model_cache.observing import events
from model_cache.observing.hooks import LoggingHook
from model_cache.observing.outcome import Outcome
from tests.checkout import REPOSITORY
from tests.docs.rules import DOC, MODEL, RULES, apply, login
from tests.models import Charges, FunctionModel, Person, charge, person
from tests.servers import Server, free_port, running_server
from tests.test_benchmarks import run


def cached(url: str, function: Any = charge, **options: Any) -> RedisCachingDecorator:
    decorator = RedisCachingDecorator(url=url, **options)
    return decorator.set_model(FunctionModel(function=function, qualified_name=MODEL))


def assert_a_miss_and_then_a_hit(cache: RedisCachingDecorator) -> None:
    assert cache.predict(person()) == cache.predict(person()) == charge(person())
    stats = cache.stats()
    assert (stats.misses, stats.stored, stats.hits) == (1, 1, 1)
    assert (stats.unavailable, stats.write_failures) == (0, 0)


OUTSIDE = (
    ("CONFIG", "GET", "maxmemory"),
    ("KEYS", "*"),
    ("FLUSHALL",),
    ("DEL", f"{MODEL}/1.0.0/x"),
    ("GET", "another/1.0.0/x"),
    ("SET", "another/1.0.0/x", "y"),
    ("SET", "{another/1.0.0/x}:lease", "", "NX"),
    ("EVAL", "return 1", "0"),
    ("ACL", "LIST"),
)


def assert_refused(client: Any, *commands: tuple[str, ...]) -> None:
    for command in commands:
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*command)


@pytest.fixture
def own_server() -> Iterator[Server]:
    with running_server() as server:
        yield server


def test_each_use_has_a_rule() -> None:
    assert set(RULES) == {"predictor", "purger", "fleet", "packer", "member", "watcher"}


def test_the_rule_for_predictions_suffices_and_allows_nothing_else(own_server: Server) -> None:
    with (
        apply("predictor", own_server) as client,
        cached(own_server.url, **login("predictor")) as c,
    ):
        assert_a_miss_and_then_a_hit(c)
        with pytest.raises(StoreUnavailableError, match="NOPERM"):
            c.purge()
        assert_refused(client, *OUTSIDE, ("SCAN", "0"), ("UNLINK", f"{MODEL}/1.0.0/x"))


def test_the_rule_for_purging_suffices_and_allows_nothing_else(own_server: Server) -> None:
    with apply("purger", own_server) as client, cached(own_server.url, **login("purger")) as c:
        assert_a_miss_and_then_a_hit(c)
        assert c.purge() == 1
        assert_refused(client, *OUTSIDE, ("UNLINK", "another/1.0.0/x"))


def test_the_rule_for_fleets_suffices_and_allows_nothing_else(own_server: Server) -> None:
    leases: list[int] = []
    with apply("fleet", own_server) as client, own_server.client() as admin:

        def look(data: Person) -> Charges:
            leases.append(int(admin.exists(f"{{{cache.cache_key(data)}}}:lease")))
            return charge(data)

        with cached(own_server.url, look, single_flight="fleet", **login("fleet")) as cache:
            assert_a_miss_and_then_a_hit(cache)
        assert leases == [1]
        assert admin.keys("*lease*") == []
        assert_refused(client, *OUTSIDE, ("SCAN", "0"))


def test_the_rule_for_packed_entries_suffices_and_allows_nothing_else(own_server: Server) -> None:
    packed: dict[str, Any] = {"layout": "packed", "expected_entries": 100}
    with apply("packer", own_server) as client, own_server.client() as admin:
        for ttl in (None, 0.001, 600):  # another one each time, so the first are not found
            with cached(own_server.url, ttl=ttl, **packed, **login("packer")) as cache:
                cache.predict(person())
                with refresh():
                    cache.predict(person())
                assert cache.stats().write_failures == 0
        refused = {each["object"] for each in admin.acl_log()}
        assert refused == {"append"}  # without it, other processes don't notice the refresh
        admin.acl_log_reset()
        admin.execute_command("ACL", "SETUSER", "packer", "+scan", "+unlink", "+hlen")
        with cached(own_server.url, **packed, **login("packer")) as cache:
            assert cache.purge() == 1
        assert admin.acl_log() == []
        assert_refused(client, *OUTSIDE, ("HVALS", f"{MODEL}/1.0.0/x"))


def test_the_rule_for_clusters_suffices_and_allows_nothing_else() -> None:
    # The cluster's own port is by default 10,000 higher, which need not be a port.
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with running_server(*options) as server, server.client() as admin:
        execute: Any = admin.execute_command
        execute("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        until(lambda: execute("CLUSTER INFO")["cluster_state"] == "ok")
        url = f"redis+cluster://127.0.0.1:{server.port}"
        with apply("member", server) as client:
            for word in ("READONLY", "ASKING"):
                assert client.execute_command(word) in (True, "OK")
            with cached(url, **login("member")) as cache:
                assert_a_miss_and_then_a_hit(cache)
                with pytest.raises(StoreUnavailableError, match="NOPERM"):
                    cache.purge()
            assert_refused(client, *OUTSIDE, ("CLUSTER", "NODES"), ("CLUSTER", "RESET"))
        execute("ACL", "SETUSER", "member", "+scan", "+unlink")
        assert "with `purge()` also `+scan +unlink`" in DOC
        with cached(url, **login("member")) as cache:
            assert cache.purge() == 1


def test_the_rule_for_sentinels_suffices_and_allows_nothing_else(
    own_server: Server, tmp_path: Path
) -> None:
    with running_sentinel(tmp_path, own_server) as port:
        with redis.Redis(port=port) as admin:
            admin.execute_command(*RULES["watcher"])
            admin.execute_command("ACL", "SETUSER", "default", "off")
        apply("predictor", own_server).close()
        watcher = login("watcher")
        query = f"sentinel_username=watcher&sentinel_password={watcher['password']}"
        url = f"redis+sentinel://127.0.0.1:{port}/mymaster/0?{query}"
        with cached(url, **login("predictor")) as cache:
            assert_a_miss_and_then_a_hit(cache)
        with redis.Redis(port=port, protocol=2, driver_info=None, **watcher) as client:
            failover = ("SENTINEL", "FAILOVER", "mymaster")
            assert_refused(client, failover, ("ACL", "LIST"), ("SHUTDOWN",))


@contextlib.contextmanager
def running_sentinel(folder: Path, primary: Server) -> Iterator[int]:
    port, config = free_port(), folder / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor mymaster 127.0.0.1 {primary.port} 1\n"
    )
    process = subprocess.Popen(
        [str(find_server()), str(config), "--sentinel"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with redis.Redis(port=port) as client:
            until(lambda: client.ping())
        yield port
    finally:
        process.kill()
        process.wait()


def until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(redis.ConnectionError):
            if condition():
                return
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_every_topology_has_its_yaml() -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", page("operations") + page("security"), re.M | re.S)
    urls = [str(yaml.safe_load(block).get("url")) for block in blocks]
    for scheme in ("redis", "redis+sentinel", "redis+cluster", "rediss"):
        assert any(url.startswith(f"{scheme}://") for url in urls), scheme


def page(name: str) -> str:
    return (REPOSITORY / "docs" / f"{name}.md").read_text(encoding="utf-8")


def rows(heading: str) -> dict[str, list[str]]:
    """Return the cells of a table, by the name in the first one."""
    section = page("troubleshooting").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| (`\w+` \|.*) \|$", section, re.M)
    cells = [[cell.strip() for cell in line.split(" | ")] for line in lines]
    return {first.strip("`"): others for first, *others in cells}


def test_every_counter_has_its_row() -> None:
    properties = [name for name, value in vars(Stats).items() if isinstance(value, property)]
    assert set(rows("Counters")) == {*(f.name for f in fields(Stats)), *properties}
    for name, cells in rows("Counters").items():
        assert all(cells), name


def test_every_event_has_its_row_with_the_line_that_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    table = rows("Log messages")
    too_many_to_log = {Outcome, events.EntryStored, events.HitVerified}
    kinds = set(get_args(events.Event)) - too_many_to_log
    assert set(table) == {kind.__name__ for kind in kinds}
    for kind in kinds:
        caplog.clear()
        with caplog.at_level(logging.DEBUG, logger="model_cache"):
            LoggingHook()(kind(*(0.25 if "float" in str(f.type) else f.name for f in fields(kind))))
        [record] = caplog.records
        line, advice = table[kind.__name__]
        assert line == f"`{record.msg}`"
        assert advice


def test_the_serder_and_compression_can_change_one_worker_at_a_time(server: Server) -> None:
    old = cached(server.url)
    new = cached(server.url, serder="MessagePack", use_compression=True)
    with old, new:
        old.predict(person(age=1))
        new.predict(person(age=2))
        for cache in (old, new):
            assert cache.predict(person(age=1)) == charge(person(age=1))
            assert cache.predict(person(age=2)) == charge(person(age=2))
            assert (cache.stats().hits, cache.stats().undecodable) == (2, 0)


def test_a_purge_deletes_the_entries_of_all_revisions_and_of_no_other_version(
    server: Server,
) -> None:
    first, second = cached(server.url, revision="a"), cached(server.url, revision="b")
    with first, second, RedisCachingDecorator(url=server.url) as other:
        other.set_model(FunctionModel(qualified_name=MODEL, version="2.0.0"))
        for cache in (first, second, other):
            cache.predict(person())
        assert first.purge() == 2
        assert other.purge() == 1


def test_memory_that_is_full_under_noeviction_refuses_writes_and_goes_on_hitting(
    own_server: Server,
) -> None:
    with own_server.client() as admin, cached(own_server.url) as cache:
        cache.predict(person(age=1))
        admin.config_set("maxmemory-policy", "noeviction")
        admin.config_set("maxmemory", 1)
        cache.predict(person(age=2))
        assert cache.predict(person(age=1)) == charge(person(age=1))
        assert (cache.stats().hits, cache.stats().write_failures) == (1, 1)


@pytest.mark.timeout(300)
def test_the_eviction_benchmark_covers_the_policies_of_the_doc(tmp_path: Path) -> None:
    results, printed = run("eviction", tmp_path, "--count", "2000")
    in_doc = set(re.findall(r"^- \*\*([\w-]+)\*\*", page("capacity"), re.M))
    assert {row["policy"] for row in results["ratios"]} == in_doc
    for row in results["ratios"]:
        assert all(0 <= row[name] <= 1 for name in ("before", "bound", "after", "later"))
        assert row["policy"] in printed
        assert row["evicted"] == 0 or row["policy"] != "noeviction"
    assert any(row["evicted"] for row in results["ratios"])
    layouts = [(row["packed"], row["ttl"]) for row in results["layouts"]]
    assert len(set(layouts)) == 4
    sizes = [(size["value"], size["layout"], size["ttl"]) for size in results["sizes"]]
    assert {name for name, _, _ in sizes} > {"JSON", "MessagePack", "values"}
    assert len(set(sizes)) == len(sizes) == 2 * len({size[:2] for size in sizes})
    for size in results["sizes"]:
        if size["layout"] == "plain":
            assert size["memory"] > size["key_size"] + size["value_size"]

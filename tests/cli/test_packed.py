"""`model-cache` and packed entries: each command finds the entries inside of buckets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis

from model_cache.cli.purge import Selection, delete, plan
from model_cache.errors import StoreUnavailableError
from tests.cli.command import run
from tests.cli.filling import fill
from tests.cli.test_doctor import PATIENT
from tests.cli.warming import options_file, warm, write
from tests.servers import Server, running_server
from tests.stored import entries
from tests.stores.test_packed import store_at

PACKED: dict[str, Any] = {"layout": "packed", "expected_entries": 1000}


def test_packed_entries_are_listed_as_others_are(server: Server, client: redis.Redis) -> None:
    fill(server.url, 30, **PACKED, ttl=1000, integrity=True)
    fill(server.url, 5)
    found = run("inspect", "--url", server.url, "--json", "--keys", 40).json
    (model,) = found["models"]
    assert (model["entries"], model["looked_at"], found["foreign"]) == (35, 35, 0)
    assert model["layouts"] == {"packed": 30, "plain": 5}
    assert model["serders"] == {"values": 30, "JSON": 5}
    assert model["tags"] == {"right": 30, "none": 5}
    assert 850_000 < model["ttl"]["least"] <= model["ttl"]["most"] <= 1_000_000
    assert len(set(model["keys"])) == 30  # of which five are in both layouts
    assert 35 * 40 < model["bytes"] < 35 * 400
    shown = run("inspect", "--url", server.url).stdout
    assert "35 entries" in shown
    assert "packed 86%" in shown


def test_a_sample_counts_packed_entries_that_have_not_ended(
    server: Server, client: redis.Redis
) -> None:
    fill(server.url, 200, **PACKED, ttl=1000)
    found = run("inspect", "--url", server.url, "--json", "--sample", 10).json
    (model,) = found["models"]
    assert (model["entries"], model["looked_at"]) == (200, 10)


@pytest.mark.parametrize("size", [10, 100])
def test_one_packed_entry_is_shown_whatever_was_planned(server: Server, size: int) -> None:
    key = fill(server.url, 20, **PACKED, ttl=1000, prefix="a prefix")
    fill(server.url, 20, layout="packed", expected_entries=size, prefix="another")
    shown = run("inspect", "--url", server.url, key, "--json").json
    assert (shown["key"], shown["layout"], shown["prefix"]) == (key, "packed", "a prefix")
    assert shown["entry"]["serder"] == "values"
    assert len(shown["entry"]["value"]) == 1
    assert 850_000 < shown["ttl_ms"] <= 1_000_000
    assert "packed" in run("inspect", "--url", server.url, key).stdout
    assert run("inspect", "--url", server.url, key[:-3] + "AAA").code == 1


def test_what_is_no_entry_in_a_bucket_is_counted_as_foreign(
    server: Server, client: redis.Redis
) -> None:
    fill(server.url, 1, **PACKED)
    (bucket,) = entries(client)
    client.hset(bucket, "field", "value")
    client.set("a_model/1.0.0/~0000000b~000000000003", "no hash")
    found = run("inspect", "--url", server.url, "--json").json
    assert found["foreign"] == 1
    assert found["models"][0]["entries"] == 1


def test_buckets_are_purged_with_their_entries(server: Server, client: Any) -> None:
    fill(server.url, 30, **PACKED)
    fill(server.url, 3)
    fill(server.url, 4, **PACKED, version="2")
    buckets = len(client.keys("a_model/1.0.0/~*"))
    words = ("purge", "--url", server.url, "--model", "a_model", "--version", "1.0.0")
    shown = run(*words, "--dry-run")
    assert f"would delete 3 entries and {buckets} buckets of packed entries" in shown.stdout
    result = run(*words, "--yes", "--json").json
    assert result["deleted"] == 33
    assert result["entries"] == [
        {"prefix": None, "version": "1.0.0", "entries": 3, "buckets": buckets}
    ]
    left = entries(client)
    assert left
    assert all(key.startswith(b"a_model/2/~") for key in left)
    shown = run("purge", "--url", server.url, "--model", "a_model", "--version", "1.0.0", "--yes")
    assert "it has versions '2'" in shown.stderr
    only = run("purge", "--url", server.url, "--model", "a_model", "--dry-run").stdout
    assert f"would delete {len(left)} bucket" in only


def test_an_interrupted_purge_of_buckets_says_how_far_it_came(server: Server) -> None:
    fill(server.url, 30, **PACKED)
    said: list[str] = []
    store = store_at(server.url)
    planned = plan(store, 5.0, Selection("a_model"))
    with pytest.raises(StoreUnavailableError):
        delete(store, planned.keys, 0.0, said.append)
    assert said == [f"stopped after deleting at least 0 entries, of {len(planned.keys)} keys"]
    store.close()


def test_a_packed_cache_is_warmed(server: Server, client: redis.Redis, tmp_path: Path) -> None:
    options, requests = options_file(tmp_path, **PACKED, ttl=600), tmp_path / "requests.jsonl"
    write(requests, range(20))
    result = warm(server, requests, "--options", options)
    assert (result.code, result.json["stored"]) == (0, 20), result.stderr
    assert all(b"/~" in key for key in entries(client))
    assert warm(server, requests, "--options", options).json["present"] == 20


def packed_findings(server: Server) -> list[dict[str, Any]]:
    findings = run("doctor", "--url", server.url, *PATIENT).json["findings"]
    return [each for each in findings if each["check"] == "packed"]


def test_the_doctor_says_when_there_are_many_more_entries_than_planned(server: Server) -> None:
    fill(server.url, 60, **PACKED, version="planned")
    fill(server.url, 25, layout="packed", expected_entries=1, version="many")
    fill(server.url, 1100, layout="packed", expected_entries=100, version="overfull")
    many, overfull, planned = packed_findings(server)
    assert many["verdict"] == "ok"  # a bucket holds a hundred
    assert planned["verdict"] == "ok"
    assert overfull["verdict"] == "note"
    assert "about 1,100 packed entries, 100 expected: 11.0 times as many" in overfull["text"]
    assert "slower and larger" in overfull["text"]
    assert "expected_entries: 1100" in overfull["advice"]


def test_the_doctor_says_when_buckets_are_hash_tables() -> None:
    low = ("--hash-max-listpack-entries", "16")
    with running_server(*low) as server, server.client() as client:
        fill(server.url, 50, layout="packed", expected_entries=100)
        (found,) = packed_findings(server)
        assert "100% of the buckets are hash tables" in found["text"]
        assert "CONFIG SET hash-max-listpack-entries 512" in found["advice"]
        client.config_set("hash-max-listpack-entries", 512)
        (found,) = packed_findings(server)
        assert (found["verdict"], found["advice"]) == ("note", None)
        client.flushall()
        fill(server.url, 50, layout="packed", expected_entries=100)
        assert packed_findings(server)[0]["verdict"] == "ok"

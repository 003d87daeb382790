"""`model-cache` on a Redis Cluster: it treats all shards like one server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.command import run
from tests.cli.filling import fill
from tests.faults.topologies import Cluster, running_cluster
from tests.models import person


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


def test_a_cluster_is_looked_at_as_a_whole(cluster: Cluster) -> None:
    key = fill(cluster.url, 40)
    found = run("inspect", "--url", cluster.url, "--json").json
    assert len(found["servers"]) == 3
    assert [(each["entries"], each["looked_at"]) for each in found["models"]] == [(40, 40)]
    assert found["models"][0]["bytes"] > 40 * 40
    for _ in range(2):
        assert run("inspect", "--url", cluster.url, key, "--json").json["model"] == "a_model"


def test_packed_entries_are_found_on_a_cluster(cluster: Cluster) -> None:
    key = fill(cluster.url, 40, name="packed", layout="packed", expected_entries=1000, ttl=1000)
    found = run("inspect", "--url", cluster.url, "--model", "packed", "--json")
    assert [(each["entries"], each["problems"]) for each in found.json["models"]] == [(40, {})]
    assert run("inspect", "--url", cluster.url, key, "--json").json["layout"] == "packed"
    purged = run("purge", "--url", cluster.url, "--model", "packed", "--yes", "--json")
    assert (purged.code, purged.json["deleted"]) == (0, 40)


def test_all_shards_of_a_cluster_are_purged(cluster: Cluster) -> None:
    fill(cluster.url, 40, name="purged")
    fill(cluster.url, 5, name="kept")
    result = run("purge", "--url", cluster.url, "--model", "purged", "--yes", "--json")
    assert (result.code, result.json["deleted"]) == (0, 40)
    listed = run("inspect", "--url", cluster.url, "--json").json["models"]
    assert {each["model"]: each["entries"] for each in listed} == {"a_model": 40, "kept": 5}


def test_each_shard_is_examined(cluster: Cluster) -> None:
    result = run("doctor", "--url", cluster.url, "--decorator-timeout", 60, "--json")
    findings = result.json["findings"]
    assert result.code == 0, findings
    assert len({each["server"] for each in findings}) == 3
    verdicts = {(each["check"], each["verdict"]) for each in findings}
    assert {("cluster", "ok"), ("permissions", "ok"), ("role", "ok")} <= verdicts
    left = run("inspect", "--url", cluster.url, "--model", "model-cache-doctor", "--json")
    assert left.json["models"] == []


def test_a_node_of_a_cluster_asked_as_a_server_is_a_problem(cluster: Cluster) -> None:
    url = cluster.nodes[0].url
    result = run("doctor", "--url", url, "--json")
    found = {each["check"]: each for each in result.json["findings"]}
    assert result.code == 1
    assert found["cluster"]["verdict"] == "problem"
    assert "redis+cluster://" in found["cluster"]["advice"]


def test_a_cluster_is_warmed(cluster: Cluster) -> None:
    lines = "\n".join(person(age=age).model_dump_json() for age in range(30))
    words = ("warm", "--requests", "-", "--model", "tests.models:FunctionModel", "--json")
    result = run(*words, "--url", cluster.url, stdin=lines)
    assert (result.code, result.json["stored"]) == (0, 30)
    assert run(*words, "--url", cluster.url, stdin=lines).json["present"] == 30

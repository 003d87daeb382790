"""`model-cache doctor`: its findings on real servers, and that its advice works."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from typing import Any

import pytest
import redis

from model_cache.cli.checks import Finding, check
from model_cache.cli.doctor import Facts, examine, scratch_namespace
from model_cache.cli.target import Target
from tests.cli.command import Result, acting_as, run
from tests.docs.rules import MODEL
from tests.faults.topologies import running_twemproxy
from tests.servers import Server, running_server
from tests.stored import entries

# No claim about how quick this machine is.
PATIENT = ("--decorator-timeout", "60", "--json")


def found(result: Result) -> dict[str, dict[str, Any]]:
    return {each["check"]: each for each in result.json["findings"]}


def verdicts(result: Result) -> dict[str, str]:
    return {name: each["verdict"] for name, each in found(result).items()}


def follow(client: redis.Redis, finding: dict[str, Any]) -> None:
    """Give the server the commands that are advised."""
    commands = re.findall(r'CONFIG SET \S+ (?:"[^"]*"|[^\s,;]+)', finding["advice"])
    assert commands
    execute: Any = client.execute_command
    for command in commands:
        assert execute(*shlex.split(command)) in (True, b"OK")


def test_a_server_as_it_comes_has_no_problems_and_nothing_is_left_behind(
    server: Server, client: redis.Redis
) -> None:
    result = run("doctor", "--url", server.url, *PATIENT)
    assert (result.code, result.stderr) == (0, "")
    assert verdicts(result) == {
        "server": "ok",
        "role": "ok",
        "memory": "note",
        "traffic": "ok",
        "persistence": "ok",
        "connections": "ok",
        "clock": "ok",
        "permissions": "ok",
        "latency": "ok",
    }
    assert entries(client) == []
    shown = run("doctor", "--url", server.url, "--decorator-timeout", 60).stdout
    assert "0 problems, 1 note" in shown
    assert "-> CONFIG SET maxmemory" in shown


def test_its_advice_helps() -> None:
    options = ("--maxmemory", "100mb", "--maxmemory-policy", "noeviction", "--maxclients", "100")
    with running_server(*options, "--save", "3600 1", "--appendonly", "yes") as server:
        words = ("doctor", "--url", server.url, *PATIENT)
        with server.client() as client:
            client.config_set("min-replicas-to-write", 2)
            first = run(*words)
            assert first.code == 1
            assert verdicts(first) | {
                "memory": "problem",
                "persistence": "note",
                "replication": "note",
                "permissions": "problem",
            } == verdicts(first)
            assert "NOREPLICAS" in found(first)["permissions"]["text"]
            for name in ("memory", "replication"):
                follow(client, found(first)[name])
            persistence = [
                each for each in first.json["findings"] if each["check"] == "persistence"
            ]
            assert len(persistence) == 2
            for each in persistence:
                follow(client, each)
            second = run(*words)
            assert second.code == 0
            assert set(verdicts(second).values()) == {"ok"}


def test_a_full_server_is_a_problem() -> None:
    with running_server("--maxmemory", "1mb", "--maxmemory-policy", "noeviction") as server:
        result = run("doctor", "--url", server.url, *PATIENT)
        assert result.code == 1
        assert "OOM" in found(result)["permissions"]["text"]
        with server.client() as client:
            follow(client, found(result)["permissions"])
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}


def test_a_limit_that_is_advised_can_be_set() -> None:
    with running_server() as own, own.client() as client:
        result = run("doctor", "--url", own.url, *PATIENT)
        follow(client, found(result)["memory"])
        assert verdicts(run("doctor", "--url", own.url, *PATIENT))["memory"] == "ok"


def test_a_replica_is_a_problem(server: Server) -> None:
    with running_server("--replicaof", "127.0.0.1", str(server.port)) as replica:
        result = run("doctor", "--url", replica.url, *PATIENT)
        assert result.code == 1
        assert found(result)["role"]["verdict"] == "problem"
        assert found(result)["permissions"]["verdict"] == "problem"
        assert "READONLY" in found(result)["permissions"]["text"] or (
            "MASTERDOWN" in found(result)["permissions"]["text"]
        )


def test_facts_that_a_login_may_not_read_are_unknown_and_not_a_problem(
    server: Server, client: redis.Redis
) -> None:
    with acting_as("predictor", server) as environment:
        mine = run("doctor", "--model", MODEL, *PATIENT, **environment)
        elsewhere = run("doctor", *PATIENT, **environment)
    assert mine.code == 0
    told = [each for each in mine.json["findings"] if each["check"] != "latency"]
    assert {each["verdict"] for each in told} == {"unknown", "note"}
    assert "unknown: " in found(mine)["memory"]["text"]
    notes = [each["text"] for each in told if each["verdict"] == "note"]
    assert any("purge" in text for text in notes)
    assert elsewhere.code == 1
    texts = [each["text"] for each in elsewhere.json["findings"]]
    assert "SET is not permitted" in texts
    assert "--model" in found(elsewhere)["permissions"]["advice"]
    for result in (mine, elsewhere):
        assert environment["MODEL_CACHE_PASSWORD"] not in result.stdout + result.stderr
    # It may not delete, so its entry is made to expire.
    assert [key for key in client.scan_iter() if client.pttl(key) > 1] == []


def test_the_rights_that_it_advises_suffice(server: Server, client: redis.Redis) -> None:
    execute: Any = client.execute_command
    execute("ACL", "SETUSER", "newcomer", "reset", "on", ">s3cret")
    try:
        words = ("doctor", "--url", server.url, "--model", "m", "--prefix", "p q", *PATIENT)
        environment = {"MODEL_CACHE_USERNAME": "newcomer", "MODEL_CACHE_PASSWORD": "s3cret"}
        for expected in (1, 0):
            result = run(*words, **environment)
            assert result.code == expected
            for each in result.json["findings"]:
                if each["check"] == "permissions" and each["advice"]:
                    advice = each["advice"].replace("<user>", "newcomer")
                    execute(*advice.split())
        assert found(result)["permissions"]["verdict"] == "ok"
    finally:
        client.acl_deluser("newcomer")


def test_behind_a_proxy_the_remaining_checks_are_reported() -> None:
    with running_twemproxy(timeout=5000) as proxy:
        result = run("doctor", "--url", proxy.url, "--proxied", *PATIENT)
        assert result.code == 0
        assert found(result)["permissions"]["verdict"] == "ok"
        assert "DEL, GET, SET" in found(result)["permissions"]["text"]
        assert found(result)["latency"]["verdict"] == "ok"
        assert "proxy" in found(result)["memory"]["text"]
        for server in proxy.servers:
            with server.client() as client:
                assert entries(client) == []


@pytest.fixture
def facts(server: Server) -> Facts:
    """Of a real server, to be changed by the test in one point."""
    with Target(server.url, proxied=False, timeout=5.0).servers() as servers:
        ((address, real),) = servers.items()
        namespace = scratch_namespace(None, None)
        return examine(address, real, 5.0, namespace, in_cluster=False)


def the(findings: list[Finding], name: str) -> Finding:
    (finding,) = [each for each in findings if each.check == name]
    return finding


@pytest.mark.parametrize(
    ("changes", "name", "verdict"),
    [
        ({"redis_version": "6.2.0", "server_name": "redis"}, "server", "note"),
        ({"redis_version": "7.0.15", "server_name": "redis"}, "server", "ok"),
        ({"maxmemory": "1000", "maxmemory_policy": "noeviction"}, "memory", "problem"),
        ({"maxmemory": "1000", "maxmemory_policy": "volatile-ttl"}, "memory", "note"),
        ({"maxmemory": "1000", "maxmemory_policy": "allkeys-random"}, "memory", "note"),
        ({"maxmemory": "1000", "maxmemory_policy": "allkeys-lfu"}, "memory", "ok"),
        ({"maxmemory": "lots"}, "memory", "unknown"),
        ({"evicted_keys": "7"}, "traffic", "note"),
        ({"keyspace_hits": "x"}, "traffic", "unknown"),
        ({"connected_clients": "80", "maxclients": "100"}, "connections", "problem"),
        ({"rejected_connections": "3"}, "connections", "note"),
        ({"cluster_enabled": "1"}, "cluster", "problem"),
    ],
)
def test_the_facts_of_a_server_are_judged(
    facts: Facts, changes: dict[str, str], name: str, verdict: str
) -> None:
    changed = replace(facts, info={**(facts.info or {}), **changes})
    assert the(check(changed, 60.0), name).verdict == verdict


@pytest.mark.parametrize(
    ("ahead", "doubt", "verdict"),
    [(0.5, 0.0, "ok"), (-3.0, 0.0, "note"), (100.0, 1.0, "problem"), (3.0, 2.5, "ok")],
)
def test_a_clock_that_is_off_by_more_than_the_doubt_matters(
    facts: Facts, ahead: float, doubt: float, verdict: str
) -> None:
    finding = the(check(replace(facts, clock_ahead=ahead, clock_doubt=doubt), 60.0), "clock")
    assert finding.verdict == verdict
    assert ("behind" in finding.text) == (ahead < 0)


@pytest.mark.parametrize(
    ("slow", "verdict"), [(0.01, "ok"), (0.06, "note"), (0.2, "problem")]
)  # fmt: skip
def test_latency_is_measured_against_the_decorators_timeout(
    facts: Facts, slow: float, verdict: str
) -> None:
    seconds = tuple([0.001] * 197 + [slow] * 3)
    finding = the(check(replace(facts, seconds=seconds), 0.1), "latency")
    assert finding.verdict == verdict
    assert "median 1.00 ms" in finding.text
    if slow == 0.2:
        assert finding.advice is not None
        assert finding.advice.startswith("timeout: 0.8 ")


def test_a_failed_snapshot_that_stops_writes_is_a_problem(facts: Facts) -> None:
    changed = replace(
        facts,
        info={**(facts.info or {}), "rdb_last_bgsave_status": "err"},
        settings={"save": "3600 1", "stop-writes-on-bgsave-error": "yes"},
    )
    assert the(check(changed, 60.0), "persistence").verdict == "problem"


@pytest.mark.parametrize(
    ("cluster", "verdict"),
    [
        ({"cluster_state": "ok", "cluster_slots_ok": "16384"}, "ok"),
        ({"cluster_state": "ok", "cluster_slots_ok": "16000"}, "problem"),
        ({"cluster_state": "fail", "cluster_slots_ok": "10923"}, "problem"),
        (None, "unknown"),
    ],
)
def test_the_state_of_a_cluster_is_judged(
    facts: Facts, cluster: dict[str, str] | None, verdict: str
) -> None:
    changed = replace(facts, in_cluster=True, cluster=cluster)
    assert the(check(changed, 60.0), "cluster").verdict == verdict

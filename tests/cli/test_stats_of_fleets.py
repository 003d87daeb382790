"""`model-cache stats` after several processes predicted on a cluster, or through Twemproxy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from redis.crc import key_slot

from tests.checkout import IMPORTS
from tests.cli.command import run
from tests.faults.topologies import Cluster, Twemproxy, running_cluster, running_twemproxy
from tests.stores.caching import COUNT, PACKED, PASSWORD, decorated, predict_all

PROCESSES = 3
NAMES = ["first_model", "second_model"]
SINGLE, BATCH = 40, 30
EACH = 2 * SINGLE + 3 * BATCH
PROGRAM = textwrap.dedent("""
    import asyncio, json, sys
    from dataclasses import asdict
    from model_cache import RedisCachingDecorator
    from model_cache.observing.counters import COUNTS
    from tests.models import FunctionModel, person

    options = json.loads(sys.argv[1])
    single, batch = int(sys.argv[2]), int(sys.argv[3])
    model = RedisCachingDecorator(timeout=5.0, **options)
    for name in sys.argv[4:]:
        model.set_model(FunctionModel(qualified_name=name))
        for _ in range(2):
            for age in range(single):
                model.predict(person(age=age))
        for _ in range(2):
            model.predict_many([person(bmi=float(each)) for each in range(20, 20 + batch)])
        many = [person(bmi=float(each)) for each in range(20, 20 + batch)]
        asyncio.run(model.apredict_many(many))
    model.close()
    stats = asdict(model.stats())
    print(json.dumps({name: stats[name] for name in COUNTS}))
""")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(password=PASSWORD) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def twemproxy() -> Iterator[Twemproxy]:
    with running_twemproxy(PASSWORD, timeout=5000) as proxy:
        yield proxy


def predict_in_processes(**options: Any) -> Mapping[str, float]:
    """Predict with two models in each of several processes; return the sums of their counts."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(options)]
    command += [str(SINGLE), str(BATCH), *NAMES]
    environment = {**os.environ, "PYTHONPATH": IMPORTS}
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    sums: Counter[str] = Counter()
    for process in processes:
        with process:
            output, _ = process.communicate(timeout=100)
        assert process.returncode == 0
        sums.update(json.loads(output))
    return sums


def assert_exact(found: list[Mapping[str, Any]], sums: Mapping[str, float]) -> None:
    """The counts of both models are those of the processes, to a microsecond for each sending."""
    assert [each["predictions"] for each in found] == [PROCESSES * EACH] * 2
    for name, expected in sums.items():
        counted = sum(each["counts"][name] for each in found)
        if name.endswith("_seconds"):
            assert counted == pytest.approx(expected, abs=1e-3), name
        else:
            assert counted == expected, name
    assert sums["hits"] + sums["misses"] == 2 * PROCESSES * EACH
    assert sums["misses"] >= 2 * (SINGLE + BATCH)  # more where processes computed at once
    assert sums["batch_hits"] >= 2 * PROCESSES * 2 * BATCH


@pytest.mark.parametrize("options", [{}, {"prefix": "blue", **PACKED}], ids=["plain", "packed"])
def test_on_a_cluster_the_counts_are_the_sums_of_all_processes(
    cluster: Cluster, options: dict[str, Any]
) -> None:
    sums = predict_in_processes(url=cluster.url, **options)
    models = run("stats", "--url", cluster.url, "--json").json["models"]
    found = [each for each in models if each["prefix"] == options.get("prefix")]
    assert [each["model"] for each in found] == NAMES
    assert_exact(found, sums)
    assert [each["entries"] for each in found] == [SINGLE + BATCH] * 2


@pytest.mark.parametrize("options", [{}, {"prefix": "blue", **PACKED}], ids=["plain", "packed"])
def test_through_twemproxy_the_counts_are_the_sums_of_all_processes(
    twemproxy: Twemproxy, options: dict[str, Any]
) -> None:
    sums = predict_in_processes(url=twemproxy.url, proxied=True, **options)
    given = ["stats", "--url", twemproxy.url, "--proxied", "--json", "--version", "1.0.0"]
    given += ["--prefix", options["prefix"]] if "prefix" in options else []
    models = [run(*given, "--model", name).json["models"] for name in NAMES]
    found = [each for [each] in models]
    assert_exact(found, sums)
    assert [each["entries"] for each in found] == [None] * 2


def test_counts_are_added_to_and_shown_while_their_slot_moves() -> None:
    with running_cluster() as cluster:
        with decorated(cluster.url, "moving") as decorator:
            predict_all(decorator)
        slot = key_slot(b"moving/1.0.0/stats")
        source, target = (cluster.primary_of(each) for each in (slot, (slot + 8_000) % 16_384))
        cluster.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.node_id(source))
        cluster.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.node_id(target))
        keys = cluster.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100)
        assert "moving/1.0.0/stats" in keys
        cluster.ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        with decorated(cluster.url, "moving") as decorator:
            predict_all(decorator)
        [found] = run("stats", "--url", cluster.url, "--json").json["models"]
        assert (found["counts"]["misses"], found["counts"]["hits"]) == (COUNT, COUNT)

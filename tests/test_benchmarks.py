"""The benchmarks run and write their results; no times are checked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.checkout import IMPORTS, REPOSITORY


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
    kinds = [(one["endpoint"], one["middleware"]) for one in results["comparisons"]]
    assert kinds == [("def", False), ("async def", False), ("def", True), ("async def", True)]
    for one in results["comparisons"]:
        assert one["verdict"] in ("reached", "not reached")
        assert one["cached"] > 0
        assert one["constant"] > 0
    assert "unfair" in printed
    assert chart.read_bytes().startswith(b"\x89PNG")


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

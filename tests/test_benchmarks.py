"""The benchmarks run and write their results; no times are checked."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.chart import chart
from benchmarks.flat import Row, growth, sizes
from benchmarks.peer_caches import Cache, Kind, Store, ours_one_by_one
from benchmarks.peer_trials import ENTRIES, Outcomes, Pair, PairModel, answers, flipped_bits
from benchmarks.report import SECTIONS, Section, replaced, update
from benchmarks.tables import Table
from model_cache import embedded_redis
from tests.checkout import IMPORTS, REPOSITORY

pytestmark = pytest.mark.timeout(300)

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
        timeout=280,
    )
    assert finished.returncode == 0, finished.stderr
    read: dict[str, Any] = json.loads(results.read_text(encoding="utf-8"))
    assert read["environment"]["python"] in finished.stdout
    return read, finished.stdout


def test_hit_compares_with_redis_py_and_says_what_was_reached(tmp_path: Path) -> None:
    results, printed = run("hit", tmp_path, "--rounds", "1", "--count", "60")
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


def test_serders_cover_every_serder_and_size(tmp_path: Path) -> None:
    results, printed = run("serders", tmp_path, "--rounds", "1", "--count", "50")
    names = {row["name"] for row in results["rows"]}
    assert names >= {"json and model_dump", "JSON", "MessagePack", "JSON, snappy"}
    outputs = {row["output"] for row in results["rows"]}
    assert len(results["rows"]) == len(names) * len(outputs) == len(names) * 3
    assert all(row["size"] > 0 for row in results["rows"])
    assert "unfair" in printed


def test_memory_counts_hits_and_misses(tmp_path: Path) -> None:
    results, printed = run("memory", tmp_path, "--count", "500")
    last = results["steps"][-1]
    assert last["predictions"] == last["hits"] + last["misses"] == 500
    assert last["hits"] > 0
    assert last["rss"] > 0
    assert last["allocated"] > 0
    assert {target["verdict"] for target in results["targets"]} <= set(VERDICTS)
    assert "KiB of growth" in printed


def test_hooks_are_compared_with_hits_that_have_none(tmp_path: Path) -> None:
    results, printed = run("hooks", tmp_path, "--rounds", "1", "--count", "60")
    assert {"no hook", "prometheus", "prometheus, in files", "logging"} < set(results["costs"])
    for name, cost in results["costs"].items():
        assert type(cost["hit"]) is float  # of so few hits, less than the loop alone may take
        assert name in printed
    assert "unfair" in printed


def test_service_compares_with_a_constant(tmp_path: Path) -> None:
    results, printed = run("service", tmp_path, "--rounds", "1", "--count", "40")
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
        assert one["at_least"] is None or 0 < one["at_least"] < 1
        assert one["rate"] > 0
        assert one["constant"] > 0
    assert "unfair" in printed


def test_the_near_cache_is_compared_with_a_bare_decode_and_replaces_its_own_section_only(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text(PAGE)
    (near,) = (section for section in SECTIONS if section.name == "near")
    absent = Section("absent", "After")
    assert list(update(tmp_path, [near, absent], quick=True)) == ["absent"]
    written = page.read_text()
    assert written.startswith("# Title\n\nBy hand.\n\n## Near cache\n\nThe CPU time of a hit")
    assert written.endswith("\n\n## After\n\nOld figures of another.\n")
    assert "Old figures of near" not in written
    for situation in ("one thread", "beside a second thread"):
        assert re.search(rf"\| {situation}: model_validate_json \| [\d.]+ \| 1.00 \|", written)
        assert re.search(rf"\| {situation}: near hit \| [\d.]+ \| [\d.]+ \| (not )?reach", written)
    assert "unfair" in written
    assert re.search(r"`python -m benchmarks.near` measured this on 20\d\d-\d\d-\d\d in", written)
    assert "The load average at the beginning was" in written
    charts = re.findall(r"\]\((images/near-.+\.svg)\)", written)
    assert sorted((tmp_path / "images").iterdir()) == sorted(tmp_path / each for each in charts)
    for each in charts:
        bars = ElementTree.parse(tmp_path / each).findall(".//{*}rect")
        assert [bar.get("class") for bar in bars].count("ours") == 5
    assert "absent failed, its section stays" in capfd.readouterr().err


PAGE = """\
# Title

By hand.

## Near cache

Old figures of near.

| a | b |

## After

Old figures of another.
"""


def test_a_section_that_is_new_is_the_last() -> None:
    assert replaced("# Title\n\n## A\n\nOne.\n", "B", "Two.\n") == (
        "# Title\n\n## A\n\nOne.\n\n## B\n\nTwo.\n"
    )


def test_each_benchmark_has_a_section_with_a_title_of_its_own() -> None:
    mains = {
        path.stem
        for path in (REPOSITORY / "benchmarks").glob("*.py")
        if "def main() -> None" in path.read_text(encoding="utf-8")
    }
    names = {section.name for section in SECTIONS}
    # The image service is measured in its own environment, for its README.
    assert names <= mains
    assert mains - names <= {"image_service", "dashboard"}
    assert len({section.title for section in SECTIONS}) == len(SECTIONS)


def test_a_chart_has_a_bar_for_each_value_and_escapes_names() -> None:
    drawn = ElementTree.fromstring(chart("A <hit>", {"model_cache": 2.0, "other & more": 4.0}))
    bars = [bar for bar in drawn.findall(".//{*}rect") if bar.get("class") in ("ours", "other")]
    lengths = {bar.get("class"): float(bar.get("width") or 0) for bar in bars}
    assert lengths["other"] == pytest.approx(2 * lengths["ours"], rel=0.01)
    texts = {text.text for text in drawn.findall(".//{*}text")}
    assert texts == {"A <hit>", "model_cache", "2", "other & more", "4"}


def test_a_table_is_markdown_with_its_numbers_formatted() -> None:
    made = Table("Costs", "what", {"µs": ".1f", "n": ",d", "": ""})
    made.add("a | b", 1.25, 1000, "reached")
    made.add("c", None, 2, "")
    assert made.to_markdown() == (
        "**Costs**\n\n"
        "| what | µs | n |  |\n"
        "| --- | --: | --: | --: |\n"
        "| a \\| b | 1.2 | 1,000 | reached |\n"
        "| c |  | 2 |  |\n"
    )


def test_flat_measures_each_power_of_ten(tmp_path: Path) -> None:
    results, printed = run("flat", tmp_path, "--rounds", "1", "--count", "1000")
    assert [row["entries"] for row in results["rows"]] == [1000]
    assert results["rows"][0]["wall"] > 0
    assert results["rows"][0]["memory"] > 50
    assert "ten times as many" in printed


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
    assert str(Outcomes(10, 1, 2, 0.0)) == "1 + 2"


def test_flipped_bits_are_wrong_answers_without_integrity_and_misses_with_it(
    tmp_path: Path,
) -> None:
    def found(number: int, **options: Any) -> Outcomes:
        store = Store(f"{url.rpartition('/')[0]}/{number}", tmp_path)
        open_ = functools.partial(ours_one_by_one, **options)
        return flipped_bits(Kind("model_cache", "Redis", open_), store)

    with embedded_redis(tcp=True) as url:
        plain, checked = found(0), found(1, integrity=True)
    assert (plain.calls, plain.failed) == (ENTRIES, 0)
    assert 0 < plain.wrong < ENTRIES
    assert (checked.wrong, checked.failed) == (0, 0)


def uncached() -> Cache:
    model = PairModel()
    return Cache(lambda asked: [model.predict(data) for data in asked], dict)


def test_asynchronous_compares_with_redis_pys_client(tmp_path: Path) -> None:
    results, printed = run("asynchronous", tmp_path, "--rounds", "1", "--count", "100")
    assert {one["at_once"] for one in results["costs"]} == {1, 10, 100}
    names = {one["name"] for one in results["costs"]}
    assert names == {"model_cache", "redis.asyncio, bare", "nothing"}
    assert results["targets"][0]["verdict"] in VERDICTS
    assert "unfair" in printed


def test_rows_measure_tables_and_single_calls(tmp_path: Path) -> None:
    results, printed = run("rows", tmp_path, "--rounds", "1", "--count", "1000")
    assert set(results["rows"]) == {"hits", "near hits", "redis-py's MGET", "misses"}
    assert {name.partition(", ")[2] for name in results["single"]} == {"hit", "near hit", "miss"}
    assert len(results["single"]) == 9
    assert all(target["name"] in printed for target in results["targets"])


def test_advise_compares_with_a_replay_and_says_what_was_reached(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
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

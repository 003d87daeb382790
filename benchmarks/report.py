"""Run benchmarks, one after the other, and write their results into the documentation.

`python -m benchmarks` writes the section of each benchmark, and its chart. Text around the sections
is handwritten and stays, except for the figures that pages quote. If a benchmark fails, its section
stays as it was.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.chart import chart
from benchmarks.figures import update_figures
from benchmarks.tables import Table

SECONDS = 900.0
"""The most that a benchmark may take."""

_DOCS, _PAGE, _IMAGES = Path("docs"), "benchmarks.md", "images"


@dataclass(frozen=True)
class Section:
    """A benchmark and its section of a page.

    Attributes:
        name: the module.
        title: the section's heading.
        quick: arguments for a run of a few seconds, whose figures mean nothing.
        page: the page in docs.
        by_default: whether it runs if no benchmark is named; peers need packages of their own.
    """

    name: str
    title: str
    quick: str = "--rounds 1 --count 60"
    page: str = _PAGE
    by_default: bool = True

    @property
    def command(self) -> str:
        return f"python -m benchmarks.{self.name}"


SECTIONS = (
    Section("peers", "Measurements", "--rounds 1 --count 100", "comparison.md", by_default=False),
    Section("near", "Near cache", "--rounds 1 --count 2"),
    Section("hit", "Hits and misses"),
    Section("flat", "More entries", "--rounds 1 --count 1000"),
    Section("batch", "Batches"),
    Section("rows", "Tables and functions", "--rounds 1 --count 1000"),
    Section("asynchronous", "Event loops", "--rounds 1 --count 100"),
    Section("service", "A service", "--rounds 1 --count 40"),
    Section("serders", "Serders and compressors", "--rounds 1 --count 50"),
    Section("hooks", "Hooks"),
    Section("adaptive", "Adaptive caching", "--rounds 1 --count 10"),
    Section("eviction", "Eviction and memory", "--count 2000"),
    Section("advise", "Advice", "--count 4000"),
    Section("memory", "Memory of the process", "--count 500"),
)


def run(section: Section, *, quick: bool) -> dict[str, Any]:
    """Run a benchmark in a process of its own, and return its results.

    Raises:
        subprocess.SubprocessError: it failed, or took too long.
    """
    with tempfile.TemporaryDirectory() as folder:
        path, began, busy = Path(folder) / "results.json", time.monotonic(), _busy_seconds()
        own = _children_seconds()
        words = [*section.command.split()[1:], "--json", str(path)]
        words += section.quick.split() if quick else []
        subprocess.run([sys.executable, *words], check=True, timeout=SECONDS)
        seconds = time.monotonic() - began
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        others = max(0.0, _busy_seconds() - busy - (_children_seconds() - own)) / seconds
        return {**results, "seconds": seconds, "others": others if busy else None}


def _children_seconds() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _busy_seconds() -> float:
    """Return the seconds that all CPUs worked so far; 0.0 where it can't be read."""
    path = Path("/proc/stat")
    if not path.exists():
        return 0.0
    user, nice, system, _idle, _wait, *interrupts = map(
        int, path.read_text().split("\n")[0].split()[1:9]
    )
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def body(section: Section, results: dict[str, Any]) -> str:
    """Return a section's Markdown, without its heading."""
    first, _, notes = results["doc"].strip().partition("\n\n")
    parts = [first]
    charts = [f"![{title}]({_IMAGES}/{_file(section, title)})" for title in results["charts"]]
    parts += ["\n".join(charts)] if charts else []
    parts += [Table(**table).to_markdown().strip() for table in results["tables"]]
    return "\n\n".join([*parts, notes, _measured(section, results)]).strip() + "\n"


def _measured(section: Section, results: dict[str, Any]) -> str:
    found = dict(results["environment"])
    date, load, python = found.pop("date"), found.pop("load"), found.pop("python")
    cpus, platform = found.pop("cpus"), found.pop("platform")
    server = found.pop("server", None)
    versions = ", ".join(f"{name} {number}" for name, number in found.items())
    others = results["others"]
    return (
        f"`{section.command}` measured this on {date} in {results['seconds']:.0f} s: {python}, "
        + (f"{server} on the same machine, " if server else "")
        + f"{platform}, {cpus} CPUs; {versions}. The load average at the beginning was {load}"
        + ("" if others is None else f", and other programs used {others:.2f} CPUs meanwhile")
        + "."
    )


def replaced(page: str, title: str, text: str) -> str:
    """Return the page with a section's text replaced; a new section is the last."""
    heading = f"## {title}\n"
    parts = re.split(r"(?m)^(?=## )", page)
    for number, part in enumerate(parts):
        if part.startswith(heading):
            parts[number] = f"{heading}\n{text}\n"
            return "".join(parts).rstrip() + "\n"
    return f"{page.rstrip()}\n\n{heading}\n{text}"


def update(docs: Path, sections: Sequence[Section], *, quick: bool = False) -> Iterator[str]:
    """Run benchmarks, write their sections, and yield the names of those that failed."""
    for section in sections:
        print(f"\n{section.command}", flush=True)
        try:
            results = run(section, quick=quick)
        except (subprocess.SubprocessError, OSError, ValueError) as error:
            print(f"{section.name} failed, its section stays: {error}", file=sys.stderr, flush=True)
            yield section.name
            continue
        _draw(section, results["charts"], docs / _IMAGES)
        page = docs / section.page
        text = replaced(page.read_text(encoding="utf-8"), section.title, body(section, results))
        page.write_text(text, encoding="utf-8")


def _draw(section: Section, charts: dict[str, dict[str, float]], images: Path) -> None:
    images.mkdir(exist_ok=True)
    for old in images.glob(f"{section.name}-*.svg"):
        old.unlink()
    for title, bars in charts.items():
        (images / _file(section, title)).write_text(chart(title, bars), encoding="utf-8")


def _file(section: Section, title: str) -> str:
    words = re.findall("[a-z0-9]+", title.lower().replace("µ", "u"))
    return f"{'-'.join([section.name, *words])}.svg"


def main() -> int:
    """Run the benchmarks of the command line; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default="", metavar="NAMES", help="names, separated by commas")
    parser.add_argument("--docs", type=Path, default=_DOCS, help="the folder of the pages")
    parser.add_argument("--quick", action="store_true", help="a short run with useless figures")
    given = parser.parse_args()
    if given.quick and given.docs == _DOCS:
        parser.error("--quick needs --docs: its figures must not get into the documentation")
    names = [name for name in given.only.split(",") if name]
    unknown = set(names) - {section.name for section in SECTIONS}
    if unknown:
        parser.error(f"--only: no benchmark named {', '.join(sorted(unknown))}")
    chosen = [one for one in SECTIONS if (one.name in names if names else one.by_default)]
    began = time.monotonic()
    failed = list(update(given.docs, chosen, quick=given.quick))
    update_figures(given.docs)
    print(f"\n{len(chosen) - len(failed)} benchmarks in {time.monotonic() - began:.0f} s")
    if failed:
        print(f"failed, and left as they were: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0

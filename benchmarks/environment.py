"""The environment, the common options and the output of benchmarks."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

_DISTRIBUTIONS = ("redis", "hiredis", "pydantic", "pydantic-core", "msgpack")


def options(
    name: str,
    description: str | None,
    *,
    rounds: int,
    count: int,
    connections: int | None = None,
) -> argparse.Namespace:
    """Parse the command line of a benchmark that compares variants in rounds of calls."""
    parser = _parser(name, description, count, "calls a round")
    parser.add_argument("--rounds", type=_positive, default=rounds, metavar="N")
    if connections is not None:
        parser.add_argument("--connections", type=_positive, default=connections, metavar="N")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="where to draw them, as a PNG")
    return parser.parse_args()


def count_options(name: str, description: str | None, *, count: int) -> argparse.Namespace:
    """Parse the command line of a benchmark that only counts."""
    return _parser(name, description, count, "calls").parse_args()


def _parser(name: str, description: str | None, count: int, what: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=(description or "").partition("\n")[0]
    )
    parser.add_argument("--count", type=_positive, default=count, metavar="N", help=what)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    return parser


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def environment(client: Any | None = None) -> dict[str, Any]:
    """Return the environment; with a redis-py client, including its server's version."""
    found = {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **{name: _version(name) for name in _DISTRIBUTIONS},
        "cpus": os.cpu_count(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 2),
    }
    if client is not None:
        info = client.info("server")
        flavour = "Valkey" if "valkey_version" in info else "Redis"
        found["server"] = f"{flavour} {info.get('valkey_version', info['redis_version'])}, loopback"
    return found


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def make_console() -> Console:
    """Return a console wide enough for tables in a log file."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 110
    return console


def table(title: str, first: str, *columns: str) -> Table:
    """Return an empty table: text in the first column, numbers in the others."""
    made = Table(title=title, title_justify="left", title_style="bold")
    made.add_column(first)
    for column in columns:
        made.add_column(column, justify="right")
    return made


def print_environment(console: Console, found: dict[str, Any]) -> None:
    """Print the environment as one paragraph."""
    console.print(", ".join(f"{name} {value}" for name, value in found.items()))


def print_notes(console: Console, doc: str | None) -> None:
    """Print a module docstring without its first paragraph."""
    for paragraph in (doc or "").split("\n\n")[1:]:
        console.print(paragraph.strip().replace("\n", " "))


def print_figures(console: Console, figures: Mapping[str, tuple[float, float]]) -> None:
    """Print the measured value and the target of each figure."""
    aims = table("Figures", "", "measured", "at most")
    for name, (value, limit) in figures.items():
        aims.add_row(name, f"{value:.3f}", f"{limit:g}")
    console.print(aims)


def save(path: Path | None, results: dict[str, Any]) -> None:
    """Write the results as JSON, if a path is given."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")

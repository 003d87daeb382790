"""The command line, the environment and the output of benchmarks."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import redis
from rich.console import Console

from benchmarks.tables import Table, Target

_DISTRIBUTIONS = ("redis", "hiredis", "pydantic", "pydantic-core", "msgpack")


def options(
    name: str,
    doc: str | None,
    *,
    count: int,
    rounds: int | None = None,
    connections: int | None = None,
) -> argparse.Namespace:
    """Parse the command line of a benchmark; it has the options that have a default here."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=(doc or "").partition("\n\n")[0]
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    defaults = {"count": count, "rounds": rounds, "connections": connections}
    for option, default in defaults.items():
        if default is not None:
            parser.add_argument(f"--{option}", type=_positive, default=default, metavar="N")
    return parser.parse_args()


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def environment(url: str | None = None, *distributions: str) -> dict[str, Any]:
    """Return the environment, with the server at the url and more distributions' versions."""
    found = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **{name: _version(name) for name in (*_DISTRIBUTIONS, *distributions)},
        "cpus": os.cpu_count(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 2),
    }
    if url is not None:
        with redis.Redis.from_url(url) as client:
            info: Any = client.info("server")
        flavour = "Valkey" if "valkey_version" in info else "Redis"
        found["server"] = f"{flavour} {info.get('valkey_version', info['redis_version'])}"
    return found


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def show(
    chosen: argparse.Namespace,
    doc: str | None,
    found: dict[str, Any],
    tables: Sequence[Table],
    *,
    targets: Sequence[Target] = (),
    charts: Mapping[str, Mapping[str, float]] | None = None,
    **results: Any,
) -> None:
    """Print the results of a benchmark, and save them as JSON if that is chosen.

    Args:
        chosen: the command line.
        doc: the benchmark's docstring.
        found: its environment.
        tables: the tables to show.
        targets: the figures that have a target.
        charts: for each title, the length of each bar by name.
        results: what else to save, also as dataclasses.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 150
    console.print(", ".join(f"{name} {value}" for name, value in found.items()))
    aims = Table("Targets", "", {"measured": ".3g", "at most": "g", "": ""})
    for target in targets:
        aims.add(target.name, target.value, target.at_most, target.verdict)
    tables = [*tables, aims] if targets else tables
    for table in tables:
        console.print(table.to_rich())
    console.print(doc)
    if chosen.json is not None:
        shown = {"tables": tables, "targets": targets, "charts": charts or {}}
        given = {**vars(chosen), "doc": doc, "environment": found, **shown, **results}
        text = json.dumps(given, indent=2, default=_as_json)
        chosen.json.write_text(text + "\n", encoding="utf-8")


def _as_json(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return {**asdict(value), **({"verdict": value.verdict} if hasattr(value, "verdict") else {})}

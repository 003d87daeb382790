"""Run the long fault matrix and write its table: `python -m tests.faults.report`."""

from __future__ import annotations

import argparse
import logging
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
import redis

from tests.faults.load import INPUTS, Row, Run
from tests.faults.matrix import LAG, ROWS, SLACK, TIMEOUT, broken_promises, run_row
from tests.servers import running_server

SECONDS = 2.0
_HOW = f"""\
# Fault matrix

`make faults` generates this page. It makes real servers fail in the middle of predictions.

Measured on {{environment}}.

In each row, threads of one process, or tasks of one event loop, predict {{inputs}} different \
inputs without pause, before, during and after a fault that lasts about {SECONDS:g} s.

- **failed**: predictions that raised an error. Must be 0.
- **wrong**: predictions that differ from the model's answer. Must be 0.
- **worst wait**: the longest time that a prediction took, minus its time in the model, from \
before the fault until after the recovery. With the default `timeout` of {1000 * TIMEOUT:g} ms, it \
must stay below {1000 * (TIMEOUT + SLACK):g} ms plus the stall. Values in brackets have no bound: \
these rows have more busy threads than cores, so the GIL determines the wait.
- **stall**: how long the machine itself stood still, measured by how late a process that only \
sleeps wakes up.
- **recovery**: the time from the end of the fault (for a failover: from its completion) until \
each input is a hit again.
- **lag**: how late the event loop woke a task that only sleeps, at worst, minus the time that the \
process waited for a core. Must stay below {1000 * LAG:g} ms plus the stall.

| fault | topology | threads | predictions | failed | wrong | worst wait, ms | stall, ms \
| recovery, s | lag, ms |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|
"""


class Result(NamedTuple):
    """A row of the matrix, as it went; without a run if it could not be run."""

    row: Row
    run: Run | None
    broken: list[str]


def results(rows: Iterable[Row]) -> Iterator[Result]:
    """Run rows, one after the other."""
    for row in rows:
        try:
            run = run_row(row, SECONDS)
        except pytest.skip.Exception as reason:
            yield Result(row, None, [str(reason)])
        else:
            yield Result(row, run, broken_promises(row, run))


def environment() -> str:
    """Say what it was measured on."""
    with running_server() as server, server.client() as client:
        information = client.info("server")
        version = information.get("valkey_version")
        kind = f"Valkey {version}" if version else f"Redis {information['redis_version']}"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}: {kind}, redis-py {redis.__version__}, "
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} "
        f"{platform.machine()}, {os.cpu_count()} cores, loopback, load average "
        f"{os.getloadavg()[0]:.1f} at the beginning"
    )


def line(result: Result) -> str:
    """Return a line of the table."""
    row, run, broken = result
    if run is None:
        return f"| {row.fault} | {row.topology} | not run: {broken[0]} | | | | | | | |"
    tally = run.tally
    worst = f"{1000 * tally.worst:.0f}"
    cells = [
        row.fault,
        row.topology,
        f"{row.tasks} tasks" if row.tasks else str(row.threads),
        f"{tally.predictions:,}",
        str(tally.failed),
        str(tally.wrong),
        worst if row.bounded else f"({worst})",
        f"{1000 * run.stall:.0f}",
        "-" if run.recovery is None else f"{run.recovery:.2f}",
        f"{1000 * run.lag:.0f}" if row.tasks else "",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Run all, write the table, and say whether everything was as promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/faults.md"))
    parser.add_argument("--only", default="", help="rows whose fault or topology holds this text")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)  # what is logged of an outage is tested elsewhere
    text, failures = _HOW.format(environment=environment(), inputs=len(INPUTS)), 0
    for result in results(row for row in ROWS if arguments.only in f"{row.fault} {row.topology}"):
        text += line(result) + "\n"
        print(line(result), flush=True)
        for broken in result.broken:
            print(f"    {broken}", flush=True)
        failures += result.run is not None and bool(result.broken)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""`advise`: from a request log to advice, with the progress on the way."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

from rich.table import Table
from rich.text import Text

from model_cache.advisor import Advice, Progress, summary
from model_cache.advisor.findings import Capacity
from model_cache.advisor.words import ratio
from model_cache.cli.output import Output, Tell, plain, printable
from model_cache.errors import ConfigurationError
from model_cache.words import percent, size

_TITLES = {
    "reading": "reading requests",
    "measuring": "measuring costs",
    "comparing": "comparing choices",
}


def seconds(text: str) -> float:
    """Return a time such as `60s`, `2m`, or `90`, in seconds.

    Raises:
        ConfigurationError: it is no time.
    """
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    stripped = text.strip()
    unit = units.get(stripped[-1:].lower())
    try:
        return float(stripped if unit is None else stripped[:-1]) * (unit or 1.0)
    except ValueError:
        raise ConfigurationError(
            "--budget", f"expected seconds, or a time such as 60s or 2m, got {text!r}"
        ) from None


class Stages(ExitStack):
    """Shows the progress of the stages, one bar after the other, until its block ends."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output
        self._stage = ""
        self._tell: Tell | None = None

    def __call__(self, progress: Progress, /) -> None:
        if progress.stage != self._stage:
            self.close()
            self._stage = progress.stage
            total = None if progress.total is None else round(progress.total)
            bar = self._output.progress(_TITLES[progress.stage], total)
            self._tell = self.enter_context(bar)
        if self._tell is not None:
            self._tell(round(progress.done), progress.note)


def show(output: Output, advice: Advice) -> None:
    """Show the advice on the terminal."""
    if not advice.complete:
        output.line("INTERRUPTED: this is the advice so far.", "bold red")
    output.line(advice.sentence, "bold")
    output.line()
    for line in summary.facts(advice):
        output.line(line)
    if advice.choices:
        output.line()
        output.line(summary.choices_title(advice), "bold")
        output.table(_choices(advice))
    for capacity in advice.capacity:
        output.line()
        output.line(summary.memory_title(advice, capacity), "bold")
        output.table(_memory(capacity))
        for line in summary.ttl_lines(capacity):
            output.line(line)
    output.line()
    for line in advice.to_yaml().splitlines():
        output.line(line, "green")


def _table(*headings: str) -> Table:
    found = Table(box=None)
    for heading in headings:
        is_text = heading == "choice"
        found.add_column(
            heading, justify="left" if is_text else "right", no_wrap=not is_text, overflow="fold"
        )
    return found


def _choices(advice: Advice) -> Table:
    found = _table(*summary.headings(advice), "choice")
    for choice, mark in summary.shown_choices(advice):
        label = Text(printable(f"{mark} {choice.label}".strip()))
        found.add_row(*map(Text, summary.cells(advice, choice)), label)
    return found


def _memory(capacity: Capacity) -> Table:
    found = _table("entries", "hits", "plain", "packed", "near cache hits")
    for point in summary.thinned(capacity):
        found.add_row(
            f"{point.entries:,}",
            ratio(point.hit_ratio),
            size(point.plain),
            "-" if point.packed is None else size(point.packed),
            "-" if point.near is None else percent(point.near),
        )
    return found


def check_report(path: Path) -> None:
    """Raise `ConfigurationError` unless the report can be written, before an hour is spent."""
    if path.suffix.lower() not in (".html", ".htm", ".json"):
        raise ConfigurationError(
            "--report", f"expected a name that ends in .html or .json, got {path.name!r}"
        )
    if not path.absolute().parent.is_dir():
        raise ConfigurationError("--report", f"there is no folder {str(path.parent)!r}")


def write_report(path: Path, advice: Advice) -> None:
    """Write the advice to a file, as HTML or JSON by its name."""
    if path.suffix.lower() == ".json":
        text = json.dumps(plain(advice.to_dict()), indent=2, allow_nan=False)
    else:
        text = advice.to_html()
    path.write_text(text, encoding="utf-8")

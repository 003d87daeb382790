"""The demo's output: progress, tables, and notes on the method."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from statistics import median
from typing import TypeVar

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from examples.demo import article
from examples.demo.experiments import ARTICLE, WARM_ROUNDS, Times
from examples.demo.rounding import Rounding, described
from examples.insurance_charges.table import features

T = TypeVar("T")

_WIDTH_WITHOUT_TERMINAL = 110
_DISTRIBUTIONS = ("redis", "pydantic", "scikit-learn")


def make_console() -> Console:
    """Return a console on stdout that is wide enough for tables in a log file."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_WITHOUT_TERMINAL
    return console


class Tracker:
    """Shows a bar for each loop, or a line if there is no terminal."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._console = console
        self._progress = progress

    def __call__(self, title: str, items: Sequence[T]) -> Iterable[T]:
        """Yield the items."""
        if not self._console.is_terminal:
            self._console.print(f"{title}: {len(items):,}")
        return self._progress.track(items, description=title)


def make_progress(console: Console) -> Progress:
    """Return progress bars to show during a `with` block."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def environment(server: str) -> str:
    """Return one line that describes the environment."""
    libraries = ", ".join(f"{name} {version(name)}" for name in _DISTRIBUTIONS)
    return (
        f"Python {platform.python_version()}, {libraries}; {server}; "
        f"{os.cpu_count()} CPUs, load average {os.getloadavg()[0]:.1f}, "
        f"{platform.system()} {platform.machine()}"
    )


def show(console: Console, times: Times, rounding: Rounding) -> None:
    """Print the tables, and notes on the method."""
    for table in (
        _times_table(times),
        _bytes_table(times),
        _wrong_table(rounding),
        _rounding_table(rounding),
    ):
        console.print(table)
    for note in _notes(times, rounding):
        console.print(f"* {note}")


def _times_table(times: Times) -> Table:
    """Return the table of times, with the article's numbers next to ours."""
    table = _table(
        "Milliseconds a prediction", "empty cache", "published", "filled cache", "published"
    )
    table.add_row("model alone", f"{times.model_ms:.1f}", f"{article.MODEL_MS:.1f}", "", "")
    for name, timed in times.caches.items():
        published = article.PUBLISHED.get(name)
        table.add_row(
            name,
            f"{timed.cold_ms:.1f}",
            f"{published.cold_ms:.1f}" if published else "",
            f"{timed.warm_ms:.3f}",
            f"{published.warm_ms:.3f}" if published else "",
        )
    return table


def _bytes_table(times: Times) -> Table:
    """Return the table of the filled caches' contents."""
    table = _table("Bytes an entry", "value", "published", "in Redis", "entries", "wrong")
    for name, timed in times.caches.items():
        published = article.PUBLISHED.get(name)
        table.add_row(
            name,
            f"{timed.usage.value_bytes:.1f}",
            f"{published.value_bytes:.1f}" if published else "",
            f"{timed.usage.redis_bytes:.0f}",
            f"{timed.usage.entries:,}",
            f"{timed.wrong:,}",
        )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("", min_width=20)
    for name in columns:
        table.add_column(name, justify="right")
    return table


def _wrong_table(rounding: Rounding) -> Table:
    """Return the table of entries and wrong predictions."""
    table = _table(
        f"{rounding.requests:,} random requests, bmi rounded to 0 places: "
        f"{rounding.distinct:,} different inputs",
        *("entries", "wrong predictions", "median error", "worst"),
    )
    for name, counted in (("model_cache", rounding.ours), (ARTICLE, rounding.article)):
        errors = [wrong.error for wrong in counted.wrong]
        dollars = (f"${median(errors):,.0f}", f"${max(errors):,.0f}") if errors else ("", "")
        style = "bold red" if errors else "bold green"
        wrong = f"[{style}]{len(errors):,} of {rounding.requests:,}[/]"
        table.add_row(name, f"{counted.entries:,}", wrong, *dollars)
    table.add_row("as published", f"{article.ENTRIES:,}", "not counted", "", "")
    return table


def _rounding_table(rounding: Rounding) -> Table:
    """Return the table of what rounding gains, and what it changes."""
    table = _table(
        f"What rounding costs: {rounding.requests:,} random requests, model_cache",
        *("hit ratio", "answers changed", "mean change", "99% within", "largest"),
    )
    for cost in rounding.costs:
        dollars = (f"${amount:,.0f}" for amount in (cost.mean, cost.p99, cost.maximum))
        table.add_row(
            described(cost.places), f"{cost.hit_ratio:.1%}", f"{cost.changed:.1%}", *dollars
        )
    return table


def _notes(times: Times, rounding: Rounding) -> list[str]:
    """Return notes on the method, a sentence or two each."""
    fewest = min(timed.cold_samples for timed in times.caches.values())
    cut = f" (of {times.planned:,}, for lack of time)" if times.samples < times.planned else ""
    notes = [
        f"Times are medians over {times.samples:,} samples{cut}; {fewest:,} for the empty caches "
        f"of MessagePack and snappy, {WARM_ROUNDS} rounds for the filled ones. All variants were "
        "interleaved sample by sample, in changing order. Published: the article's figures, which "
        "are means from another machine. A prediction with an empty cache waits for Redis twice; "
        "if other programs keep the CPUs busy, it then waits for a CPU, too.",
        "In Redis: MEMORY USAGE, including the key, which with Redis's overhead is most of it. "
        "Memory is allocated in size classes, so a slightly smaller value saves a class or "
        "nothing. Compression is used only where it makes an entry smaller: never for one number.",
        "Wrong: not the model's answer to the rounded request, which is the input it receives. "
        "Its pipeline answered all different inputs in one call; for "
        f"{rounding.checks:,} of them, and for each answer counted as wrong, the model itself was "
        "called and gave the same answer.",
        "Changed: not the model's answer to the request before rounding, of all requests. Random "
        "requests hardly repeat; `model-cache advise` compares roundings on your own log.",
    ]
    if rounding.collision is not None:
        first, second = (
            ", ".join(f"{name}={value!s}" for name, value in features(data).items())
            for data in rounding.collision
        )
        notes.append(
            "The article's key ignores which value belongs to which field. "
            f"These two share one: ({first}) and ({second})."
        )
    return notes

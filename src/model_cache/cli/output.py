"""What people and machines get to see: tables or JSON on stdout, messages on stderr.

Names and values come from Redis and from files, so nothing of them reaches a terminal raw.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

_ACTED_ON = frozenset(["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"])
_DEEPEST = 100
# Wide enough for a line of any table, where there is no terminal that says how wide it is.
_WIDTH = 200


def printable(text: object) -> str:
    r"""Return a text with what a terminal would act on, or hide, as escapes such as `\x1b`."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _ACTED_ON
        else character
        for character in str(text)
    )


def plain(value: Any, depth: int = 0) -> Any:
    """Return a value as JSON has it: bytes as base64, NaN and infinities as texts."""
    if depth > _DEEPEST:
        return "..."
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name), depth + 1)
            for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(name): plain(each, depth + 1) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each, depth + 1) for each in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return str(value)


class Output:
    """Where a command's answer goes, and its messages.

    Args:
        as_json: whether the answer is for a machine.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._answers = _console(sys.stdout)
        self._messages = _console(sys.stderr)

    def answer(self, answer: Any, show: Callable[[], None]) -> None:
        """Print the answer as JSON, or have it shown to people."""
        if self._as_json:
            print(json.dumps(plain(answer), indent=2, allow_nan=False), file=sys.stdout)
        else:
            show()

    def line(self, text: str = "", style: str = "") -> None:
        """Print a line of the answer for people."""
        self._answers.print(Text(printable(text), style), soft_wrap=True)

    def json(self, value: Any) -> None:
        """Print a value as JSON within the answer for people."""
        for line in json.dumps(plain(value), indent=2, ensure_ascii=False).splitlines():
            self.line(line)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print a table; columns of numbers have names that begin with a `>`."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        for name in columns:
            is_number = name.startswith(">")
            justify: Literal["left", "right"] = "right" if is_number else "left"
            table.add_column(
                name.removeprefix(">"), justify=justify, no_wrap=is_number, overflow="fold"
            )
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        self._answers.print(table)

    def say(self, text: str) -> None:
        """Print a message."""
        self._messages.print(Text(printable(text)), soft_wrap=True)

    @contextmanager
    def progress(
        self, what: str, total: int | None, unit: Callable[[], str] = str
    ) -> Iterator[Callable[[int], None]]:
        """Show a bar on a terminal; yields what is called with how much has been done so far.

        Args:
            what: is being done.
            total: how much there is to do; None if nobody knows.
            unit: what to say beside the bar.
        """
        if not self._messages.is_terminal:
            yield lambda _: None
            return
        columns: list[ProgressColumn] = [
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
        ]
        columns += [TaskProgressColumn(), TextColumn("{task.fields[unit]}"), TimeRemainingColumn()]
        with Progress(*columns, console=self._messages, transient=True) as bar:
            task = bar.add_task(what, total=total, unit="")
            yield lambda done: bar.update(task, completed=done, unit=unit())


def _console(stream: Any) -> Console:
    width = None if stream.isatty() else _WIDTH
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False)


def count(number: int, one: str, many: str) -> str:
    """Return a number and its noun: `1 entry`, `1,000 entries`."""
    return f"{number:,} {one if number == 1 else many}"


def size(number: float | None) -> str:
    """Return a number of bytes for people; a `?` for one that nobody can tell."""
    if number is None:
        return "?"
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            break
        number /= 1000
    return f"{number:,.0f} {unit}" if unit == "B" else f"{number:,.1f} {unit}"


def durations(*milliseconds: float) -> str:
    """Return lengths of time for people, in the unit that fits the last: `0.5 / 2 / 3.1 h`."""
    last = milliseconds[-1]
    units = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1))
    unit, length = next((each for each in units if last >= each[1]), units[-1])
    return f"{' / '.join(f'{each / length:.3g}' for each in milliseconds)} {unit}"

"""What a command prints: answers on stdout, as text or JSON, and messages on stderr.

Names and values come from Redis and from files, so control characters in them are escaped.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

_ESCAPED = frozenset(["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"])
_MAX_DEPTH = 100


class Tell(Protocol):
    """Reports progress."""

    def __call__(self, done: int, note: str = "", /) -> None:
        """Show how much is done so far, and a note next to the bar."""
        ...


def printable(text: object) -> str:
    r"""Return a string with all characters escaped that a terminal acts on or hides (`\x1b`)."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _ESCAPED
        else character
        for character in str(text)
    )


def plain(value: Any, depth: int = 0) -> Any:
    """Return a value that JSON can represent: bytes as base64, NaN and infinities as strings."""
    if depth > _MAX_DEPTH:
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
    """Prints the answer and the messages of a command."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._answers = _console(sys.stdout)
        self._messages = _console(sys.stderr)

    def answer(self, answer: Any, show: Callable[[], None]) -> None:
        """Print the answer as JSON, or call `show` to print it as text."""
        if self._as_json:
            print(json.dumps(plain(answer), indent=2, allow_nan=False), file=sys.stdout)
        else:
            show()

    def clear(self) -> None:
        """Clear the terminal, if stdout is one."""
        self._answers.clear()

    def line(self, text: str = "", style: str = "") -> None:
        """Print one line of a text answer; it is never wrapped."""
        self._answers.print(Text(printable(text), style), soft_wrap=True)

    def table(self, table: Table) -> None:
        """Print a table of a text answer, whose cells are printable."""
        if self._answers.is_terminal:
            self._answers.print(table)
            return
        self._answers.width = 200  # there is no width to fit into
        with self._answers.capture() as captured:
            self._answers.print(table)
        for line in captured.get().splitlines():
            self._answers.print(Text(line.rstrip()), soft_wrap=True)

    def json(self, value: Any) -> None:
        """Print a value as JSON within a text answer."""
        for line in json.dumps(plain(value), indent=2, ensure_ascii=False).splitlines():
            self.line(line)

    def say(self, text: str) -> None:
        """Print a message on stderr."""
        self._messages.print(Text(printable(text)), soft_wrap=True)

    def say_lines(self, text: str) -> None:
        """Print a message of one or more lines on stderr."""
        for line in text.splitlines():
            self.say(line)

    @contextmanager
    def progress(self, what: str, total: int | None) -> Iterator[Tell]:
        """Show a progress bar if stderr is a terminal; `total` is None if unknown."""
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
        )
        hidden = not self._messages.is_terminal
        with Progress(*columns, console=self._messages, transient=True, disable=hidden) as bar:
            task = bar.add_task(what, total=total, note="")

            def tell(done: int, note: str = "", /) -> None:
                bar.update(task, completed=done, note=note)

            yield tell


def _console(stream: Any) -> Console:
    return Console(file=stream, markup=False, highlight=False, emoji=False)

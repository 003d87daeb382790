"""The results of a benchmark, as tables: for a terminal, and as Markdown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rich.table import Table as RichTable


@dataclass
class Table:
    """A table of texts on the left and numbers on the right.

    Attributes:
        title: the title.
        first: the title of the first column.
        columns: the titles of the others, each with the format of its numbers.
        rows: the cells.
    """

    title: str
    first: str
    columns: dict[str, str]
    rows: list[list[str]] = field(default_factory=list)

    def add(self, first: str, *values: Any) -> None:
        """Add a row; a text is shown as it is, None as an empty cell."""
        formats = self.columns.values()
        cells = [_cell(value, format_) for value, format_ in zip(values, formats, strict=True)]
        self.rows.append([first, *cells])

    def to_rich(self) -> RichTable:
        """Return it for a terminal."""
        made = RichTable(title=self.title, title_justify="left", title_style="bold")
        made.add_column(self.first)
        for column in self.columns:
            made.add_column(column, justify="right")
        for row in self.rows:
            made.add_row(*row)
        return made

    def to_markdown(self) -> str:
        """Return it as Markdown, with its title."""
        head = ["| --- |" + " --: |" * len(self.columns)]
        lines = [_line([self.first, *self.columns]), *head, *map(_line, self.rows)]
        return f"**{self.title}**\n\n" + "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Target:
    """A figure, and the most that it may be.

    Attributes:
        name: the figure and its unit.
        value: the measured value.
        at_most: the largest acceptable value.
    """

    name: str
    value: float
    at_most: float

    @property
    def verdict(self) -> str:
        return verdict(self.value <= self.at_most)


def verdict(is_reached: bool) -> str:
    """Say whether a target is reached."""
    return "reached" if is_reached else "not reached"


def _cell(value: Any, format_: str) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else format(value, format_)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

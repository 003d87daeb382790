"""The figures that handwritten pages quote from the generated tables.

A page quotes a figure as a link to its section. The link's title names the row and the column:
`[4.14 µs](benchmarks.md#near-cache "one thread: near hit; a call")`. A row is named by its first
cells, as many as it takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_QUOTE = re.compile(
    r"\[[\d.,]+(?P<unit>[^\]]*)\]"
    r"(?P<target>\((?:docs/)?(?P<page>\w+\.md)#(?P<section>[\w-]+)"
    r' "(?P<row>[^";]+); (?P<column>[^"]+)"\))'
)


def with_figures(text: str, docs: Path) -> str:
    """Return a page's text with each quoted figure as the page in `docs` has it.

    Raises:
        LookupError: a quote does not name exactly one row of its section.
    """

    def quoted(match: re.Match[str]) -> str:
        page = (docs / match["page"]).read_text(encoding="utf-8")
        found = list(_cells(_section(page, match["section"]), match["row"], match["column"]))
        if len(found) != 1:
            raise LookupError(f"{len(found)} rows for {match['target']}")
        return f"[{found[0]}{match['unit']}]{match['target']}"

    return _QUOTE.sub(quoted, text)


def without_figures(text: str) -> str:
    """Return a page's text without its quoted figures."""
    return _QUOTE.sub("", text)


def update_figures(docs: Path) -> None:
    """Update the quoted figures in `docs`, and in the README beside it."""
    for path in (docs.parent / "README.md", *sorted(docs.glob("*.md"))):
        if path.exists():
            text = path.read_text(encoding="utf-8")
            path.write_text(with_figures(text, docs), encoding="utf-8")


def _section(page: str, anchor: str) -> str:
    for part in re.split(r"(?m)^(?=## )", page):
        title = part.partition("\n")[0].removeprefix("## ").lower()
        if re.sub(r"[^\w-]", "", title.replace(" ", "-")) == anchor:
            return part
    return ""


def _cells(section: str, row: str, column: str) -> Iterator[str]:
    header: list[str] = []
    for line in section.splitlines():
        if not line.startswith("|"):
            header = []
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        header = header or cells
        names = (", ".join(cells[:count]) for count in range(1, len(cells)))
        if column in header and row in names:
            yield cells[header.index(column)].strip("+%")

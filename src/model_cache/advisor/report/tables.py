"""The tables of the report and of notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from model_cache.advisor.advice import Advice
from model_cache.advisor.findings import Capacity
from model_cache.advisor.report.markup import Markup, element, joined
from model_cache.advisor.summary import (
    best_name,
    cells,
    headings,
    memory_title,
    shown_choices,
    thinned,
)
from model_cache.advisor.words import ratio
from model_cache.words import duration, percent, size


def choices_table(advice: Advice) -> Markup:
    """Return the choices worth having."""
    columns = ("number", "choice", *headings(advice))
    rows = []
    for number, (choice, mark) in enumerate(shown_choices(advice), 1):
        badge = element("strong", best_name(advice), class_="badge")
        label = joined(choice.label, " ", badge) if mark else choice.label
        row = [str(number), label, *cells(advice, choice)]
        rows.append(_row(row, class_="recommended" if mark else None))
    return _table("Choices worth having, by rising hit ratio", columns, rows)


def memory_table(advice: Advice, capacity: Capacity) -> Markup:
    """Return the hit ratio by entries and bytes."""
    columns = ("entries", "hits", "plain", "packed", "near cache", "near cache hits")
    rows = [
        _row(
            [
                f"{point.entries:,}",
                ratio(point.hit_ratio),
                *map(_size, (point.plain, point.packed, point.near_bytes)),
                "-" if point.near is None else percent(point.near),
            ]
        )
        for point in thinned(capacity)
    ]
    return _table(memory_title(advice, capacity), columns, rows)


def ttl_table(capacity: Capacity) -> Markup:
    """Return the hit ratio by TTL."""
    rows = [
        _row([duration(each.ttl), ratio(each.hit_ratio), f"{each.entries:,}"])
        for each in capacity.by_ttl
    ]
    columns = ("TTL", "hits", "entries alive at the end")
    return _table(f"Hit ratio by TTL ({capacity.choice})", columns, rows)


def _size(count: int | None) -> str:
    return "-" if count is None else size(count)


def _row(cells: Sequence[str], class_: str | None = None) -> Markup:
    return element("tr", *(element("td", cell) for cell in cells), class_=class_)


def _table(caption: str, columns: Iterable[str], rows: Iterable[Markup]) -> Markup:
    heads = [element("th", column, scope="col") for column in columns]
    return element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *heads)),
        element("tbody", *rows),
    )

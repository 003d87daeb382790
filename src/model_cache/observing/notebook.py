"""Counters as tables for notebooks, in HTML without styles of its own."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from model_cache.words import break_even, duration

if TYPE_CHECKING:
    from model_cache.observing.counters import Stats

_HEAD = (
    *("predictions", "hits", "hit ratio", "break-even", "saved", "misses", "errors"),
    *("without the cache", "mean hit", "mean model", "circuit breaker"),
)


def table(by_name: Mapping[str, Stats]) -> str:
    """Return an HTML table with a row for each name."""
    named = any(by_name)
    head = "".join(f"<th>{escape(each)}</th>" for each in ([""] if named else []) + [*_HEAD])
    body = "".join(
        "<tr>" + (f"<th>{escape(name)}</th>" if named else "") + _cells(stats) + "</tr>"
        for name, stats in by_name.items()
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cells(stats: Stats) -> str:
    around = stats.uncacheable + stats.unavailable + stats.bypassed + stats.direct
    cells = (
        f"{stats.predictions:,}",
        f"{stats.hits:,}",
        f"{stats.hit_ratio:.1%}",
        break_even(stats.break_even),
        duration(stats.seconds_saved),
        f"{stats.misses:,}",
        f"{stats.errors:,}",
        f"{around:,}",
        duration(stats.hit_seconds / stats.hits) if stats.hits else "-",
        duration(stats.model_seconds / stats.misses) if stats.misses else "-",
        stats.store,
    )
    return "".join(f"<td>{escape(cell)}</td>" for cell in cells)

"""Bar charts of results as SVG, one panel for each comparison, in light and in dark."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

OURS = "model_cache"
"""Bars whose names begin so are coloured."""

_WIDTH, _BAR, _MARGIN, _TITLE = 420, 22, 12, 30
_LETTER = 6.4  # at 12 px; names are given room by their length
_STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: bold } .page { fill: #ffffff }
.ours { fill: #2b6cb0 } .other { fill: #9aa3ad }
@media (prefers-color-scheme: dark) {
  text { fill: #d7dde5 } .page { fill: #1f232b }
  .ours { fill: #63a4e8 } .other { fill: #6b7480 }
}"""


def chart(panels: Mapping[str, Mapping[str, float]], *, columns: int = 2) -> str:
    """Return an SVG.

    Args:
        panels: for each title, the length of each bar by name.
        columns: the number of panels in a row.
    """
    columns = min(columns, len(panels))
    height = _TITLE + _BAR * max(map(len, panels.values())) + _MARGIN
    size = (columns * _WIDTH, -(-len(panels) // columns) * height)
    drawn = [
        f'<g transform="translate({number % columns * _WIDTH} {number // columns * height})">'
        f"{_panel(title, bars)}</g>"
        for number, (title, bars) in enumerate(panels.items())
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" '
        f'width="{size[0]}" height="{size[1]}">\n<style>\n{_STYLE}\n</style>\n'
        f'<rect class="page" width="100%" height="100%"/>\n' + "\n".join(drawn) + "\n</svg>\n"
    )


def _panel(title: str, bars: Mapping[str, float]) -> str:
    left = _MARGIN + _LETTER * max(map(len, bars)) + 6
    longest = max(*bars.values(), 1e-9)
    room = _WIDTH - left - 60
    parts = [f'<text class="title" x="{_MARGIN}" y="20">{escape(title)}</text>']
    for number, (name, value) in enumerate(bars.items()):
        y, length = _TITLE + number * _BAR, room * max(value, 0) / longest
        kind = "ours" if name.startswith(OURS) else "other"
        parts.append(
            f'<text x="{left - 6:.0f}" y="{y + 15}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="{kind}" x="{left:.0f}" y="{y + 3}" width="{length:.1f}" height="16"/>'
            f'<text x="{left + length + 5:.0f}" y="{y + 15}">{_label(value)}</text>'
        )
    return "\n".join(parts)


def _label(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"

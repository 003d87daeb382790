"""Bar charts of results as SVG, in light and in dark."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

OURS = "model_cache"
"""Bars whose names begin so are coloured."""

# Two stand side by side on a page, and one on a phone.
_WIDTH, _BAR, _MARGIN, _TITLE, _NUMBER = 360, 19, 8, 28, 45
_LETTER = 5.7  # at 11 px; names are given room by their length
_STYLE = """\
text { font: 11px system-ui, sans-serif; fill: #24292f }
.title { font-weight: bold } .page { fill: #ffffff }
.ours { fill: #2b6cb0 } .other { fill: #9aa3ad }
@media (prefers-color-scheme: dark) {
  text { fill: #d7dde5 } .page { fill: #1f232b }
  .ours { fill: #63a4e8 } .other { fill: #6b7480 }
}"""


def chart(title: str, bars: Mapping[str, float]) -> str:
    """Return an SVG with a bar for each name, as long as its value."""
    left = _MARGIN + _LETTER * max(map(len, bars)) + 6
    room, longest = _WIDTH - left - _NUMBER, max(*bars.values(), 1e-9)
    height = _TITLE + len(bars) * _BAR + _MARGIN
    parts = [f'<text class="title" x="{_MARGIN}" y="18">{escape(title)}</text>']
    for number, (name, value) in enumerate(bars.items()):
        y, length = _TITLE + number * _BAR, room * max(value, 0) / longest
        kind = "ours" if name.startswith(OURS) else "other"
        parts.append(
            f'<text x="{left - 6:.0f}" y="{y + 13}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="{kind}" x="{left:.0f}" y="{y + 2}" width="{length:.1f}" height="14"/>'
            f'<text x="{left + length + 4:.0f}" y="{y + 13}">{_label(value)}</text>'
        )
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    page = '<rect class="page" width="100%" height="100%"/>'
    style = f"<style>\n{_STYLE}\n</style>"
    drawn = [f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', style, page, *parts, "</svg>"]
    return "\n".join(drawn) + "\n"


def _label(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"

"""Bar charts of results: one panel for each comparison."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OURS, _OTHERS = "#2166ac", "#9a9a9a"


def draw(
    path: Path | None,
    panels: Mapping[str, Mapping[str, float]],
    *,
    ours: tuple[str, ...],
    columns: int,
) -> None:
    """Write a chart as a PNG.

    Args:
        path: the file; None to write nothing.
        panels: for each title, the length of each bar by name.
        ours: names that start with one of these are coloured.
        columns: the number of panels per row.
    """
    if path is None:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    panels = {title: values for title, values in panels.items() if values}
    rows = -(-len(panels) // columns)
    bars = max(map(len, panels.values()))
    size = (4.6 * columns, rows * (0.7 + 0.3 * bars))
    figure = Figure(figsize=size, dpi=110, layout="constrained", facecolor="white")
    canvas: Any = FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes, (title, values) in zip(grid, panels.items(), strict=False):
        axes.set_title(title, loc="left", fontweight="bold", fontsize=10)
        _draw_bars(axes, values, ours)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.draw()
    drawn = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba())
    # A palette makes the file a third as large, and charts have few colours.
    drawn.convert("RGB").quantize(64).save(path, format="PNG", optimize=True)


def _draw_bars(axes: Axes, values: Mapping[str, float], ours: tuple[str, ...]) -> None:
    colours = [_OURS if name.startswith(ours) else _OTHERS for name in values]
    bars = axes.barh(list(values), list(values.values()), color=colours)
    axes.bar_label(bars, list(map(_label, values.values())), padding=3)
    axes.set_xlim(0, max(*values.values(), 1e-9) * 1.25)
    axes.set_xticks([])
    axes.invert_yaxis()
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _label(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"

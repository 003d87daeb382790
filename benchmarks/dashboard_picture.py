"""Draw the panels of a Grafana dashboard with matplotlib, from the answers to their queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Series = Sequence[Mapping[str, Any]]

# Grafana's places are in a grid of 24 columns. In inches: the width, and the height of a row.
_COLUMNS, _WIDTH, _ROW = 24, 15.0, 0.36
_TEXT, _MUTED, _GRID = "#1a1a1a", "#5f5f5f", "#e5e5e5"
_MARKS = (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0), ("m", 1e-3), ("µ", 1e-6))
_UNITS = {"s": "s", "bytes": "B", "Bps": "B/s", "ops": "/s"}


def draw(
    panels: Sequence[Mapping[str, Any]],
    answers: Mapping[int, Series],
    path: Path,
    *,
    seconds: float,
) -> None:
    """Write the panels as a PNG.

    Args:
        panels: as in the dashboard's JSON.
        answers: of each panel by its id: series with a `legend` and `values` of time and text.
        path: the file.
        seconds: the times end here.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = Figure(figsize=(_WIDTH, rows * _ROW), dpi=100, facecolor="white")
    canvas: Any = FigureCanvasAgg(figure)
    for panel in panels:
        axes = figure.add_axes(_place(panel["gridPos"], rows))
        axes.set_title(panel["title"], loc="left", color=_TEXT, fontsize=10.5, fontweight="bold")
        for side in ("top", "right", "left", "bottom"):
            axes.spines[side].set_color(_GRID)
        unit = panel["fieldConfig"]["defaults"].get("unit", "none")
        series = [each for each in answers[panel["id"]] if each["values"]]
        if not series:
            _write(axes, "No data", "")
        elif panel["type"] == "stat":
            _write(axes, *_stat(series, unit))
        else:
            _plot(axes, series, unit)
            axes.set_xlim(0, seconds)
    canvas.draw()
    picture = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba())
    picture.convert("RGB").quantize(256).save(path, optimize=True)


def _place(grid: Mapping[str, int], rows: int) -> tuple[float, float, float, float]:
    """Return left, bottom, width and height in the figure, with room for labels and the legend."""
    left, bottom = grid["x"] / _COLUMNS, 1 - (grid["y"] + grid["h"]) / rows
    width, height = grid["w"] / _COLUMNS, grid["h"] / rows
    return left + 0.045, bottom + 0.28 * height, width - 0.055, 0.6 * height


def _stat(series: Series, unit: str) -> tuple[str, str]:
    (first, *_) = series
    return with_unit(float(first["values"][-1][1]), unit), first["legend"]


def _write(axes: Axes, text: str, below: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.55, text, ha="center", va="center", fontsize=22, color=_TEXT)
    axes.text(0.5, 0.2, below, ha="center", va="center", fontsize=8.5, color=_MUTED)


def _with_gaps(values: Sequence[tuple[float, str]]) -> Iterator[tuple[float, float]]:
    """Yield time and value, and a NaN where values are missing."""
    step = min((after - before for (before, _), (after, _) in pairwise(values)), default=0.0)
    last = values[0][0]
    for seconds, value in values:
        if seconds - last > 1.5 * step:
            yield last + step, nan
        yield seconds, float(value)
        last = seconds


def _plot(axes: Axes, series: Series, unit: str) -> None:
    from matplotlib.ticker import MultipleLocator

    highest = 0.0
    for each in series:
        times, values = zip(*_with_gaps(each["values"]), strict=True)
        axes.plot(times, values, linewidth=1.2, label=each["legend"])
        highest = max([highest, *(value for value in values if isfinite(value))])
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]), top=highest * 1.12 or 1.0)
    axes.grid(color=_GRID, linewidth=0.6)
    axes.tick_params(colors=_MUTED, labelsize=8, length=0)
    axes.yaxis.set_major_formatter(lambda value, _: with_unit(value, unit))
    axes.xaxis.set_major_locator(MultipleLocator(60))
    axes.xaxis.set_major_formatter(lambda seconds, _: f"{seconds / 60:g} min")
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(-0.01, -0.13),
        ncols=4 if len(series) > 4 else 2,
        fontsize=7,
        frameon=False,
        labelcolor=_MUTED,
        borderaxespad=0.0,
        handlelength=1.2,
    )


def with_unit(value: float, unit: str) -> str:
    """Return a value as Grafana shows it, about."""
    if unit == "percentunit":
        return f"{100 * value:.3g}%"
    if unit != "s" and abs(value) < 1:
        return f"{value:.2g} {_UNITS.get(unit, '')}".rstrip()
    if unit not in _UNITS and abs(value) < 1e3:
        return f"{value:.3g}"
    for mark, size in _MARKS:
        if abs(value) >= size:
            return f"{value / size:.3g} {mark}{_UNITS.get(unit, '')}".rstrip()
    return "0"

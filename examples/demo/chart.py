"""The demo's chart: the time that a filled cache saves, and the number of wrong predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from examples.demo.experiments import ARTICLE, Times
from examples.demo.rounding import Rounding

_OURS, _ARTICLES, _MODEL = "#2166ac", "#d6604d", "#8c8c8c"
_TEXT, _MUTED = "#1a1a1a", "#5f5f5f"
_HALF = 0.19  # offset of the two bars of a group, relative to the distance between groups
_THICKNESS = 0.34


def draw(times: Times, rounding: Rounding, path: Path) -> None:
    """Write the chart as a PNG."""
    figure = Figure(figsize=(9.6, 4.2), dpi=125, facecolor="white")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=[5, 4])
    figure.subplots_adjust(left=0.115, right=0.985, top=0.80, bottom=0.11, wspace=0.32)
    _draw_times(left, times)
    _draw_wrong(right, rounding)
    figure.text(
        0.015,
        0.03,
        f"Medians over {times.samples:,} samples, interleaved on one machine. Wrong: not the "
        "model's answer to the request with bmi rounded.",
        color=_MUTED,
        fontsize=8.5,
    )
    figure.savefig(path, format="png")


def _draw_times(axes: Axes, times: Times) -> None:
    ours, article = times.caches["JSON"], times.caches[ARTICLE]
    _bar(axes, 0, times.model_ms, _MODEL, f"{times.model_ms:.1f} ms")
    for place, cache, colour, name in (
        (-_HALF, article, _ARTICLES, ARTICLE),
        (_HALF, ours, _OURS, "model_cache"),
    ):
        _bar(axes, 1 + place, cache.cold_ms, colour, f"{cache.cold_ms:.1f} ms  {name}")
        _bar(axes, 2 + place, cache.warm_ms, colour, f"{cache.warm_ms:.2f} ms  {name}")
    longest = max(article.cold_ms, ours.cold_ms, times.model_ms)
    _finish(axes, ["model alone", "empty cache", "filled cache"], longest * 1.5)
    factor = times.model_ms / ours.warm_ms
    _title(axes, f"A filled cache: {factor:.0f} times as fast as the model", "Time per prediction")


def _draw_wrong(axes: Axes, rounding: Rounding) -> None:
    ours, article = len(rounding.ours.wrong), len(rounding.article.wrong)
    _bar(axes, 0, article, _ARTICLES, f"{article:,}", size=15)
    _bar(axes, 1, ours, _OURS, f"{ours:,}", size=15)
    _finish(axes, [ARTICLE, "model_cache"], max(article, ours, 1) * 1.2)
    finding = f"Wrong predictions: {article:,} against {ours:,}"
    _title(axes, finding, f"Of {rounding.requests:,} requests, bmi rounded to 0 places")


def _bar(
    axes: Axes, place: float, value: float, colour: str, label: str, *, size: float = 10.5
) -> None:
    axes.barh([place], [value], color=colour, height=_THICKNESS)
    axes.annotate(
        label,
        (value, place),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        color=colour,
        fontsize=size,
        fontweight="bold",
    )


def _finish(axes: Axes, names: list[str], width: float) -> None:
    axes.set_yticks(range(len(names)), names, color=_TEXT, fontsize=10.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, width)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color("#b0b0b0")


def _title(axes: Axes, finding: str, measure: str) -> None:
    offset: dict[str, Any] = {
        "xycoords": "axes fraction",
        "textcoords": "offset points",
        "ha": "left",
    }
    axes.annotate(
        finding, (0, 1), xytext=(-72, 30), fontsize=13, fontweight="bold", color=_TEXT, **offset
    )
    axes.annotate(measure, (0, 1), xytext=(-72, 11), fontsize=10, color=_MUTED, **offset)

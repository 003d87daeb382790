"""What a chart shows; `drawing` makes a picture of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from model_cache.advisor.report.scales import Scale

Form: TypeAlias = Literal["line", "steps", "dots"]
Kind: TypeAlias = Literal["first", "second", "third", "best", "others"]


@dataclass(frozen=True)
class Point:
    """A point.

    Attributes:
        x: its place on the x axis.
        y: its place on the y axis.
        title: the tooltip.
        text: a label beside it.
        across: the ends of its interval on the x axis.
        along: the ends of its interval on the y axis.
    """

    x: float
    y: float
    title: str
    text: str = ""
    across: tuple[float, float] | None = None
    along: tuple[float, float] | None = None


@dataclass(frozen=True)
class Series:
    """Points that belong together.

    Attributes:
        name: its name in the legend; empty for none.
        points: the points, by rising x.
        kind: which style it has.
        form: whether its points are connected: by lines, by steps, or not at all.
    """

    name: str
    points: tuple[Point, ...]
    kind: Kind
    form: Form = "line"


@dataclass(frozen=True)
class Axis:
    """An axis: what it measures, and how."""

    label: str
    scale: Scale


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        title: what it shows.
        sentence: what there is to see, for those who can't see it and those in a hurry.
        x: the x axis.
        y: the y axis.
        series: what is drawn.
        rule: a value on the y axis to compare with, and its label.
        wide: whether it takes two columns where there is room.
    """

    title: str
    sentence: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    rule: tuple[float, str] | None = None
    wide: bool = False


@dataclass(frozen=True)
class Bars:
    """Lengths to compare.

    Attributes:
        title: what they show.
        sentence: what there is to see.
        bars: name, length, and the length in words.
    """

    title: str
    sentence: str
    bars: tuple[tuple[str, float, str], ...]

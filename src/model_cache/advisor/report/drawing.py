"""Pictures of charts, as SVG. Colors and fonts are those of the style sheet."""

from __future__ import annotations

from collections.abc import Iterator

from model_cache.advisor.report.chart import Bars, Chart, Point, Series
from model_cache.advisor.report.markup import Markup, element, joined

NARROW, WIDE = 360, 800
_HEIGHT, _HEIGHT_WIDE = 290, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 30, 48
_LETTER = 6.9
_TITLE = 14  # where the y axis's title stands
_LINE = 15  # how far apart two texts are at least
_ROW = 56


class Plane:
    """The plane of a chart: places in pixels."""

    def __init__(self, chart: Chart, width: int) -> None:
        longest = max((len(text) for _, text in chart.y.scale.ticks), default=0)
        self.chart = chart
        self.left = max(_LEFT, 16 + round(_LETTER * longest))
        self.right = width - _RIGHT
        self.height = _HEIGHT if width == NARROW else _HEIGHT_WIDE
        self.top, self.bottom = _TOP, self.height - _BOTTOM

    def x(self, value: float) -> float:
        """Return the place of a value on the x axis."""
        return self.left + self.chart.x.scale.place(value) * (self.right - self.left)

    def y(self, value: float) -> float:
        """Return the place of a value on the y axis."""
        return self.bottom - self.chart.y.scale.place(value) * (self.bottom - self.top)


def picture(chart: Chart, width: int = NARROW) -> Markup:
    """Return a chart as SVG."""
    plane = Plane(chart, width)
    drawn = [*_axes(plane)]
    drawn += [mark for series in chart.series for mark in _series(plane, series)]
    drawn += _rule(plane)
    drawn += _labels(plane)
    return _svg(f"{chart.title} {chart.sentence}", width, plane.height, *drawn)


def _svg(alternative: str, width: int, height: int, *drawn: Markup) -> Markup:
    return element(
        "svg", *drawn, viewBox=f"0 0 {width} {height}", role="img", aria_label=alternative
    )


def _text(content: str, x: float, y: float, anchor: str = "middle", class_: str = "") -> Markup:
    return element("text", content, x=x, y=y, text_anchor=anchor, class_=class_ or None)


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def _axes(plane: Plane) -> Iterator[Markup]:
    chart = plane.chart
    for value, text in chart.y.scale.ticks:
        y = plane.y(value)
        yield _line(plane.left, y, plane.right, y, "axis" if value == 0 else "grid")
        yield _text(text, plane.left - 8, y + 4, "end", "tick")
    taken = float("-inf")
    for value, text in chart.x.scale.ticks:
        x = plane.x(value)
        half = _LETTER * len(text) / 2
        middle = min(x, plane.right + _RIGHT - half)
        if middle - half < taken + 4:
            continue
        taken = middle + half
        yield _line(x, plane.bottom, x, plane.bottom + 5, "axis")
        yield _text(text, middle, plane.bottom + 19, "middle", "tick")
    yield _line(plane.left, plane.bottom, plane.right, plane.bottom, "axis")
    yield _text(chart.y.label, 2, _TITLE, "start", "title")
    yield _text(chart.x.label, plane.right, plane.height - 8, "end", "title")


def _rule(plane: Plane) -> Iterator[Markup]:
    if plane.chart.rule is not None:
        value, text = plane.chart.rule
        y = plane.y(value)
        yield _line(plane.left, y, plane.right, y, "rule")
        above = y - 7 if y - 7 > plane.top + 10 else y + 16
        if _crowd(plane, text, above, plane.right) <= _crowd(plane, text, above, plane.left):
            yield _text(text, plane.right - 2, above, "end", "label")
        else:
            yield _text(text, plane.left + 4, above, "start", "label")


def _crowd(plane: Plane, text: str, y: float, side: float) -> int:
    """Return how many points a label at one side of the plane would cover."""
    width = _LETTER * len(text)
    at = [(plane.x(each.x), plane.y(each.y)) for line in plane.chart.series for each in line.points]
    return sum(abs(x - side) < width and y - 16 < point < y + 8 for x, point in at)


def _series(plane: Plane, series: Series) -> Iterator[Markup]:
    at = [(plane.x(each.x), plane.y(each.y)) for each in series.points]
    yield from _band(plane, series)
    if series.form != "dots" and len(at) > 1:
        yield element(
            "path", d=_path(at, steps=series.form == "steps"), class_=f"line {series.kind}"
        )
    for point, (x, y) in zip(series.points, at, strict=True):
        if point.across is not None:
            low, high = (plane.x(end) for end in point.across)
            yield _line(low, y, high, y, f"interval {series.kind}")
        yield _dot(series, point, x, y)


def _path(at: list[tuple[float, float]], *, steps: bool) -> str:
    parts = [f"M{at[0][0]:.1f} {at[0][1]:.1f}"]
    for x, y in at[1:]:
        parts.append(f"H{x:.1f}V{y:.1f}" if steps else f"L{x:.1f} {y:.1f}")
    return "".join(parts)


def _band(plane: Plane, series: Series) -> Iterator[Markup]:
    found = [(plane.x(each.x), each.along) for each in series.points if each.along is not None]
    if series.form == "line" and len(found) > 1:
        upper = [f"{x:.1f} {plane.y(ends[1]):.1f}" for x, ends in found]
        lower = [f"{x:.1f} {plane.y(ends[0]):.1f}" for x, ends in reversed(found)]
        yield element("path", d=f"M{'L'.join(upper + lower)}Z", class_=f"band {series.kind}")


def _dot(series: Series, point: Point, x: float, y: float) -> Markup:
    if series.kind == "best":
        shown = element(
            "path", d=f"M{x:.1f} {y - 8:.1f}l8 8l-8 8l-8-8Z", class_=f"dot {series.kind}"
        )
    else:
        shown = element("circle", cx=x, cy=y, r=_radius(series), class_=f"dot {series.kind}")
    around = element("circle", cx=x, cy=y, r=9, class_="around")
    return element("g", element("title", point.title), around, shown)


def _radius(series: Series) -> float:
    if series.kind == "others":
        return 2.5
    return 2.2 if series.form == "line" else 4.5


def _labels(plane: Plane) -> Iterator[Markup]:
    """Yield the labels of points, without those that would cover another."""
    taken: list[tuple[float, float, float]] = []
    marked = [
        (series.kind == "best", point)
        for series in plane.chart.series
        for point in series.points
        if point.text
    ]
    for _, point in sorted(marked, key=lambda each: not each[0]):
        x, y = plane.x(point.x), plane.y(point.y)
        half = _LETTER * len(point.text) / 2 + 3
        middle = min(max(x - half, plane.left + half), plane.right - half)
        above = y - 12 if y - 12 >= _TITLE + _LINE else y + 22
        if any(
            abs(middle - other) < half + room and abs(above - at) < 14 for other, at, room in taken
        ):
            continue
        taken.append((middle, above, half))
        yield _text(point.text, middle, above, "middle", "label")


def bars_picture(bars: Bars) -> Markup:
    """Return bars as SVG."""
    longest = max((length for _, length, _ in bars.bars), default=0.0) or 1.0
    room = NARROW - 2 - 10 - _LETTER * max((len(text) for *_, text in bars.bars), default=0)
    drawn = []
    for row, (name, length, text) in enumerate(bars.bars):
        y, width = row * _ROW, max(1.5, room * length / longest)
        bar = element("rect", x=0, y=y + 20, width=width, height=16, rx=2, class_="bar first")
        drawn += [
            _text(name, 0, y + 14, "start", "tick"),
            element("g", element("title", f"{name}: {text}"), bar),
            _text(text, width + 8, y + 33, "start", "label"),
        ]
    return _svg(f"{bars.title} {bars.sentence}", NARROW, len(bars.bars) * _ROW + 4, joined(*drawn))

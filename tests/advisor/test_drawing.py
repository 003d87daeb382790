"""The pictures of the report."""

from __future__ import annotations

import re

import pytest

from model_cache.advisor.report.chart import Axis, Chart, Point, Series
from model_cache.advisor.report.drawing import picture
from model_cache.advisor.report.scales import linear


@pytest.mark.parametrize("value", [80, 85, 90, 95, 98, 100])
def test_the_label_of_a_point_near_the_top_leaves_the_title_alone(value: float) -> None:
    scale = linear([0, 100], "{:g}".format)
    points = (Point(value, value, "tooltip", "recommended"),)
    title = "Saved per month, at 1,000 per CPU hour"
    chart = Chart("", "", Axis("Hits", scale), Axis(title, scale), (Series("", points, "best"),))
    svg = str(picture(chart))
    at = {
        text: float(y)
        for y, text in re.findall(r'<text [^>]*?\by="([\d.]+)"[^>]*>([^<]+)</text>', svg)
    }
    assert abs(at["recommended"] - at[title]) >= 15

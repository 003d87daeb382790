"""The report: complete, well-formed, and harmless whatever the log contains."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files

import pytest

from model_cache.advisor import Advice
from model_cache.advisor.report.markup import Markup, element
from model_cache.advisor.report.scales import durations, linear, log_durations, logarithmic
from tests.advisor import pages
from tests.advisor.pages import Element, parsed

STYLE = files("model_cache.advisor.report").joinpath("style.css").read_text("utf-8")
HOUR, DAY = 3600.0, 86_400.0


@pytest.fixture(scope="module")
def advice() -> Advice:
    return pages.advised()


def figures(page: Element) -> dict[str, Element]:
    return {figure.all("h3")[0].text: figure for figure in page.all("figure")}


def tooltips(figure: Element) -> list[str]:
    return [title.text for title in figure.all("svg")[-1].all("title")]


def test_the_page_starts_with_the_verdict_in_one_sentence(advice: Advice) -> None:
    page = parsed(advice.to_html())
    verdict = page.all("p")[0]
    assert verdict.text == advice.sentence
    assert verdict.attributes["class"] == "verdict yes"
    assert page.all("html")[0].attributes["lang"] == "en"
    assert page.all("title")[0].text == f"Advice for {advice.model} {advice.version}"


def test_every_chart_is_there_with_a_text_for_those_who_cannot_see_it(advice: Advice) -> None:
    found = figures(parsed(advice.to_html()))
    assert [*found] == [
        "What do more hits cost?",
        "How soon do requests repeat?",
        "How much memory does it take?",
        "How much memory does the best choice take?",
        "How long should entries live?",
        "How long does a prediction take?",
        "When does it save time?",
        "What does it save in a month?",
    ]
    for title, figure in found.items():
        for picture in figure.all("svg"):
            if picture.attributes.get("aria-hidden") != "true":
                assert picture.attributes["role"] == "img"
                assert picture.attributes["aria-label"].startswith(title)
                assert len(picture.attributes["aria-label"]) > len(title) + 15


def test_every_point_has_a_tooltip(advice: Advice) -> None:
    found = figures(parsed(pages.large(advice).to_html()))
    assert advice.economics is not None
    assert len(tooltips(found["How soon do requests repeat?"])) == 2 * len(advice.reuse.points)
    ttls = sum(len(capacity.by_ttl) for capacity in advice.capacity)
    assert len(tooltips(found["How long should entries live?"])) == ttls
    memory = tooltips(found["How much memory does it take?"])
    sizes = len(advice.capacity[0].by_entries)
    for layout in ("plain", "packed"):
        assert sum(each.startswith(f"Redis, {layout}: ") for each in memory) == sizes
    choices = " ".join(tooltips(found["What do more hits cost?"]))
    for choice in advice.frontier:
        assert f"{choice.label}: " in choices
    assert advice.choice is not None
    best = found["What do more hits cost?"].all("svg")[-1]
    assert [each for each in best.all("path") if each.attributes["class"] == "dot best"]
    money = tooltips(found["What does it save in a month?"])
    assert len(money) == len(advice.economics.curve) + 2
    assert any(each.startswith("recommended, ") for each in money)


def test_axes_say_what_they_measure_and_in_which_unit(advice: Advice) -> None:
    found = figures(parsed(pages.large(advice).to_html()))
    texts = {
        title: " | ".join(text.text for text in figure.all("text"))
        for title, figure in found.items()
    }
    assert "Mean change of the answer (score)" in texts["What do more hits cost?"]
    assert "100%" in texts["What do more hits cost?"]
    assert "MB" in texts["How much memory does it take?"]
    assert "1 min" in texts["How long should entries live?"]
    assert "at 1,000 per CPU hour" in texts["What does it save in a month?"]
    for title in ("How soon do requests repeat?", "How long should entries live?"):
        assert "pays from" in texts[title]


def test_entries_are_counted_where_they_take_less_than_the_server_itself(advice: Advice) -> None:
    figure = figures(parsed(advice.to_html()))["How much memory does it take?"]
    assert "Entries" in [text.text for text in figure.all("text")]
    assert tooltips(figure)[0] == "Redis: 10 entries, 0% hits"


def test_the_table_has_the_choices_and_marks_the_recommended_one(advice: Advice) -> None:
    table = parsed(advice.to_html()).all("table")[0]
    rows = [[cell.whole() for cell in row.all("td")] for row in table.all("tr")][1:]
    assert [row[0] for row in rows] == [str(number + 1) for number in range(len(rows))]
    assert advice.choice is not None
    assert [row[1] for row in rows if "recommended" in row[1]] == [
        f"{advice.choice.label} recommended"
    ]
    assert all(head.attributes["scope"] == "col" for head in table.all("th"))


def test_what_is_not_to_be_cached_is_not_recommended(advice: Advice) -> None:
    page = replace(advice, verdict="do not cache", sentence="Do not cache.").to_html()
    assert "recommended" not in "".join(each.whole() for each in parsed(page).all("main"))
    assert parsed(page).all("p")[0].attributes["class"] == "verdict no"


def test_the_options_can_be_pasted(advice: Advice) -> None:
    assert parsed(advice.to_html()).all("pre")[0].whole() == advice.to_yaml()


def test_the_page_fetches_nothing_and_runs_nothing(advice: Advice) -> None:
    text = advice.to_html()
    assert not re.search(r"https?:|//[a-z]|url\(|@import", text)
    page = parsed(text)
    for name in ("script", "link", "img", "iframe", "a", "use", "image"):
        assert page.all(name) == []
    policy = [meta for meta in page.all("meta") if meta.attributes.get("http-equiv")]
    assert policy[0].attributes["content"] == "default-src 'none'; style-src 'unsafe-inline'"


@pytest.mark.parametrize("shown", [Advice.to_html, Advice._repr_html_])
def test_names_from_outside_are_escaped(advice: Advice, shown: Callable[[Advice], str]) -> None:
    text = shown(pages.hostile(advice))
    text.encode("utf-8")
    page = parsed(text)
    assert page.all("script") == page.all("img") == []
    assert not re.search("[\x00\u202e]", text)
    assert "alert(" in page.whole()

    def walk(found: Element) -> None:
        assert not [name for name in found.attributes if name.startswith("on")]
        for child in found.children:
            walk(child)

    walk(page)


@pytest.mark.parametrize(
    "changed",
    [
        pages.without_times,
        pages.without_sizes,
        pages.with_labels,
        lambda advice: replace(advice, choices=advice.choices[:1], recommended=0),
        lambda advice: replace(
            pages.without_sizes(pages.without_times(advice)), choices=(), recommended=None
        ),
    ],
    ids=["no times", "no sizes", "labels", "one choice", "nothing"],
)
def test_an_advice_with_less_in_it_is_a_page_too(
    advice: Advice, changed: Callable[[Advice], Advice]
) -> None:
    less = changed(advice)
    page = parsed(less.to_html())
    assert page.all("p")[0].text == less.sentence
    assert page.all("svg")
    assert "nan" not in page.all("body")[0].whole()
    interrupted = [each for each in page.all("p") if each.attributes.get("class") == "warning"]
    assert bool(interrupted) == (not less.complete)
    assert parsed(less._repr_html_())


def test_what_limits_the_advice_is_said(advice: Advice) -> None:
    log = replace(advice.log, bad=3, bad_reasons={"amount: missing": 3}, failed=2, sampled=9)
    limited = replace(advice, log=replace(log, failures={"LookupError": 2}), notes=("Take care.",))
    notes = [each.text for each in parsed(limited.to_html()).all("li")]
    assert notes[-3:] == [
        "Take care.",
        "3 lines were skipped (3: amount: missing).",
        "The model raised in 2 of 9 predictions: LookupError 2.",
    ]


def test_a_notebook_shows_the_table(advice: Advice) -> None:
    cell = parsed(advice._repr_html_())
    assert cell.all("strong")[0].text == advice.sentence
    assert len(cell.all("table")) == 1
    assert "2,000 requests" in cell.all("pre")[0].text
    assert "color" not in cell.all("style")[0].text  # the theme of the notebook may be dark
    assert copy.copy(advice)._repr_html_() == advice._repr_html_()


def test_the_colors_have_contrast_in_light_and_dark() -> None:
    light, dark = (_colors(block) for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL))
    for colors in (light, dark):
        for ink in ("ink", "soft", "no", "best"):
            for ground in ("page", "card", "mark"):
                assert _contrast(colors[ink], colors[ground]) >= 4.5, (ink, ground)
        for line in ("first", "second", "third", "best", "others"):
            assert _contrast(colors[line], colors["card"]) >= 3, line


def _colors(block: str) -> dict[str, str]:
    return dict(re.findall(r"--(\w+): #([0-9a-f]{3,6});", block))


def _contrast(one: str, other: str) -> float:
    """Return the contrast of two colors, as WCAG 2.2 defines it."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(color: str) -> float:
    digits = color if len(color) == 6 else "".join(2 * digit for digit in color)
    channels = [int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    linear = [
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_markup_escapes_texts_and_keeps_markup() -> None:
    inner = element("b", "<&>", title='"')
    assert inner == '<b title="&quot;">&lt;&amp;&gt;</b>'
    assert element("p", inner, "\x00", hidden=None) == f"<p>{inner}\ufffd</p>"
    assert isinstance(inner, Markup)


def plain(value: float) -> str:
    return f"{value:g}"


@pytest.mark.parametrize("scale", [linear, logarithmic])
@pytest.mark.parametrize(
    "values", [[], [0.0], [5.0], [1e-9, 2e-9], [3.0, 1e12], [0.0, 1e-6, 4e3], [7.3, 7.4]]
)
def test_every_value_has_its_place_on_a_scale(
    scale: Callable[..., object], values: list[float]
) -> None:
    found = (linear if scale is linear else logarithmic)(values, plain)
    places = [found.place(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(0 <= place <= 1 and math.isfinite(place) for place in places)
    assert 1 <= len(found.ticks) <= 7
    ticks = [found.place(value) for value, _ in found.ticks]
    assert ticks == sorted(set(ticks))


def test_scales_of_times_have_ticks_at_whole_units() -> None:
    assert [text for _, text in durations([0, 365 * DAY]).ticks] == [
        "0",
        "90 d",
        "180 d",
        "270 d",
        "360 d",
    ]
    assert [text for _, text in durations([0, 50 * 60]).ticks][:2] == ["0", "10 min"]
    assert durations([-0.0003, 0.0001]).ticks[0][1] == "-300 µs"
    assert [text for _, text in log_durations([1, 90 * DAY]).ticks] == [
        "1 s",
        "1 min",
        "1 h",
        "1 d",
        "30 d",
    ]
    assert durations([-3 * HOUR, 9 * HOUR]).low == -3 * HOUR
    assert durations([0, 20_000 * DAY]).ticks[-1][1] == "20,000 d"

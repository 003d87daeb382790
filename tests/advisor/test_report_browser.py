"""The report in a real browser: nothing is wrong, and everything can be read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.advisor import pages
from tests.advisor.browser import Seen, find_chromium, framed, show

# Texts in a picture are scaled with it. Tables may scroll inside their own container.
LOOK = """
const all = (query, from = document) => [...from.querySelectorAll(query)];
const visible = each => each.getClientRects().length > 0;
const fontSize = text => {
  const picture = text.closest("svg");
  const scale = picture ? picture.getBoundingClientRect().width / picture.viewBox.baseVal.width : 1;
  return parseFloat(getComputedStyle(text).fontSize) * scale;
};
const leaves = all("body *").filter(each => visible(each) &&
  !["title", "script", "style"].includes(each.tagName.toLowerCase()) &&
  [...each.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
const outside = (text, within) => {
  const inner = text.getBoundingClientRect(), outer = within.getBoundingClientRect();
  return inner.left < outer.left - 1 || inner.right > outer.right + 1 ||
    inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1;
};
const covering = picture => {
  const boxes = all("text", picture).map(text => [text.textContent, text.getBoundingClientRect()]);
  return boxes.flatMap(([one, a], place) => boxes.slice(place + 1)
    .filter(([, b]) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
      Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4)
    .map(([other]) => `${one} / ${other}`));
};
const pictures = all("svg[role=img]").filter(visible);
window.top.document.documentElement.dataset.seen = JSON.stringify({
  viewport: window.innerWidth,
  width: document.documentElement.scrollWidth,
  pictures: pictures.length,
  empty: pictures.filter(each => each.getBoundingClientRect().height < 150).length,
  smallest: Math.min(...leaves.map(fontSize)),
  outside: all("figure").flatMap(figure => all("text, h3, p, li", figure)
    .filter(each => visible(each) && outside(each, figure)).map(each => each.textContent)),
  covering: pictures.flatMap(covering),
  background: getComputedStyle(document.body).backgroundColor,
  color: getComputedStyle(document.body).color,
});
"""


@pytest.fixture(scope="module")
def chromium() -> str:
    return find_chromium()


@pytest.fixture(scope="module")
def report(chromium: str) -> str:
    """The report; made only where there is a browser to show it."""
    return pages.large(pages.advised()).to_html()


def looked_at(chromium: str, folder: Path, report: str, width: int, *, dark: bool = False) -> Seen:
    """Return what a browser sees in a copy of the report that may run a script."""
    page = folder / "copy.html"
    allowed = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", report)
    looking = allowed.replace("</body>", f"<script>{LOOK}</script></body>")
    page.write_text(framed(looking, width), "utf-8")
    return show(chromium, page, dark=dark)


def test_nothing_is_said_in_the_console(chromium: str, report: str, tmp_path: Path) -> None:
    page = tmp_path / "advice.html"
    page.write_text(report, "utf-8")
    assert show(chromium, page).console == []


def test_a_script_in_the_report_would_not_run(chromium: str, report: str, tmp_path: Path) -> None:
    page = tmp_path / "advice.html"
    page.write_text(report.replace("</body>", f"<script>{LOOK}</script></body>"), "utf-8")
    seen = show(chromium, page)
    assert seen.page == {}
    assert any("Content Security Policy" in line for line in seen.console)


@pytest.mark.parametrize("width", [1280, 800, 400])
def test_everything_can_be_read(chromium: str, report: str, tmp_path: Path, width: int) -> None:
    seen = looked_at(chromium, tmp_path, report, width)
    assert seen.console == []
    assert seen.page["viewport"] == width
    assert seen.page["width"] <= width
    assert (seen.page["pictures"], seen.page["empty"]) == (8, 0)
    assert seen.page["smallest"] >= 11
    assert seen.page["outside"] == []
    assert seen.page["covering"] == []


def test_it_is_dark_where_the_reader_wants_it_dark(
    chromium: str, report: str, tmp_path: Path
) -> None:
    light = looked_at(chromium, tmp_path, report, 1280).page
    dark = looked_at(chromium, tmp_path, report, 1280, dark=True).page
    assert (light["background"], light["color"]) == ("rgb(246, 247, 249)", "rgb(23, 32, 44)")
    assert (dark["background"], dark["color"]) == ("rgb(16, 21, 28)", "rgb(232, 236, 242)")


def test_names_from_outside_break_no_layout(chromium: str, tmp_path: Path) -> None:
    report = pages.hostile(pages.advised()).to_html()
    seen = looked_at(chromium, tmp_path, report, 400)
    assert seen.console == []
    assert seen.page["width"] <= 400
    assert seen.page["outside"] == []

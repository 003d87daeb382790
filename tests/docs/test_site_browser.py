"""The site in a real browser, opened as files: it finds what is searched, and fits a phone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.advisor.browser import find_chromium, show

SEARCH = """
const box = document.querySelector("input[data-md-component=search-query]");
const type = () => {
  box.focus();
  box.value = "circuit breaker";
  box.dispatchEvent(new Event("keyup", {bubbles: true}));
  const links = [...document.querySelectorAll(".md-search-result__link")].map(link => link.href);
  document.documentElement.dataset.seen = JSON.stringify({protocol: location.protocol, links});
  if (!links.length) setTimeout(type, 100);
};
addEventListener("load", type);
"""

# Each page in a frame as wide as a phone; what is in a box that scrolls may be wider.
WIDTHS = """
const seen = {};
const outside = page => [...page.querySelectorAll(".md-content *")].filter(each =>
  each.getClientRects().length &&
  each.getBoundingClientRect().right > page.documentElement.clientWidth + 1 &&
  !each.closest(".md-typeset__scrollwrap, pre, p:has(> img)"));
const next = pages => {
  document.documentElement.dataset.seen = JSON.stringify(seen);
  if (!pages.length) return;
  const frame = document.createElement("iframe");
  frame.style = "border: 0; width: 400px; height: 800px";
  frame.onload = () => {
    const page = frame.contentDocument;
    seen[pages[0]] = {
      theme: page.body.dataset.mdColorScheme,
      tooWide: page.documentElement.scrollWidth - page.documentElement.clientWidth,
      outside: outside(page).map(each => each.outerHTML.slice(0, 100)),
    };
    frame.remove();
    next(pages.slice(1));
  };
  frame.src = pages[0];
  document.body.append(frame);
};
next(PAGES);
"""


def test_the_search_finds_pages_that_are_opened_as_files(site: Path) -> None:
    page = (site / "tutorial.html").read_text(encoding="utf-8")
    searched = site / "searched.htm"  # not .html: it is no page of the site
    page = page.replace("</body>", f"<script>{SEARCH}</script></body>")
    searched.write_text(page, encoding="utf-8")
    seen = show(find_chromium(), searched, patience=20)
    assert seen.page["protocol"] == "file:"
    assert f"{site.as_uri()}/operations.html#timeouts-and-the-circuit-breaker" in seen.page["links"]
    assert seen.console == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_no_page_is_wider_than_a_phone(site: Path, tmp_path: Path, dark: bool) -> None:
    pages = [path.as_uri() for path in sorted(site.glob("[!4]*.html"))]  # no server, no 404
    host = tmp_path / "host.html"
    script = WIDTHS.replace("PAGES", json.dumps(pages))
    host.write_text(f"<!doctype html><body><script>{script}</script></body>", encoding="utf-8")
    seen = show(find_chromium(), host, dark=dark, patience=10, reads_files=True)
    assert set(seen.page) == set(pages)
    assert {name: found for name, found in seen.page.items() if found["outside"]} == {}
    assert {found["tooWide"] for found in seen.page.values()} == {0}
    assert {found["theme"] for found in seen.page.values()} == {"slate" if dark else "default"}

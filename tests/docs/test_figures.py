"""Measured figures in handwritten pages are quoted from the generated ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.figures import update_figures, with_figures, without_figures
from tests.checkout import REPOSITORY
from tests.docs.blocks import PAGES

DOCS = REPOSITORY / "docs"
GENERATED = ("docs/benchmarks.md", "docs/comparison.md", "docs/faults.md")
HANDWRITTEN = [page for page in PAGES if page not in GENERATED]
QUOTE = '[{} µs of CPU](docs/benchmarks.md#near "one thread, hit; a call")'
TABLE = "| threads | what | a call |\n| --- | --- | --: |\n| one thread | hit | 4.14 |\n"


@pytest.mark.parametrize("page", HANDWRITTEN)
def test_quoted_figures_are_those_of_the_generated_pages(page: str) -> None:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    assert with_figures(text, DOCS) == text


@pytest.mark.parametrize("page", HANDWRITTEN)
def test_a_page_quotes_the_times_that_it_gives_in_microseconds(page: str) -> None:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    text = re.sub(r"(?ms)^```.*?^```$", "", text)
    assert re.findall(r".*\d µs.*", without_figures(text)) == []


def test_figures_of_the_advice_are_those_of_its_example() -> None:
    example = (DOCS / "advise.md").read_text(encoding="utf-8").partition("## An example")[2]
    texts = [(REPOSITORY / page).read_text(encoding="utf-8") for page in HANDWRITTEN]
    figures = re.findall(r"\[([\d.,]+%)\]\(advise\.md#an-example\)", "".join(texts))
    assert len(figures) == 2
    assert all(f" {figure} hits" in example for figure in figures)


def test_a_benchmark_updates_the_pages_that_quote_it(tmp_path: Path) -> None:
    docs, readme = tmp_path / "docs", tmp_path / "README.md"
    docs.mkdir()
    (docs / "benchmarks.md").write_text(f"# Benchmarks\n\n## Near\n\n{TABLE}\n## Far\n\n{TABLE}")
    readme.write_text(QUOTE.format("9.99"))
    update_figures(docs)
    assert readme.read_text() == QUOTE.format("4.14")


@pytest.mark.parametrize("name", ["one thread, miss; a call", "one thread, hit; a batch"])
def test_a_quote_without_a_row_is_an_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "benchmarks.md").write_text(f"## Near\n\n{TABLE}")
    with pytest.raises(LookupError, match=name):
        with_figures(f'[4.14](benchmarks.md#near "{name}")', tmp_path)

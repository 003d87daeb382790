"""The figures of the README, which is the site's first page, are those that the pages measured."""

from __future__ import annotations

import re

from tests.checkout import REPOSITORY

DOCS = REPOSITORY / "docs"
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
MEASURED = "".join(
    (DOCS / name).read_text(encoding="utf-8") for name in ("benchmarks.md", "comparison.md")
)
ARTICLES = "article's code"
TRIALS = ("types", "changes", "outage")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def trials() -> dict[str, dict[str, tuple[int, int]]]:
    """Return the wrong and the failed answers of each cache in each trial."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    header: list[str] = []
    for line in re.findall(r"^\|.*\|$", MEASURED, re.M):
        name, *values = cells(line)
        if set(TRIALS) <= set(values):
            header = [name, *values]
        elif set(TRIALS) <= set(header) and re.search(r"\d \+ \d", line):
            row = dict(zip(header[1:], values, strict=True))
            pairs = {trial: row[trial].split(" + ") for trial in TRIALS}
            found[name] = {trial: (int(a), int(b)) for trial, (a, b) in pairs.items()}
    return found


def wrong(name: str) -> int:
    return sum(trials()[name][trial][0] for trial in ("types", "changes"))


def test_the_wrong_answers_were_counted() -> None:
    assert wrong("dogpile.cache, memory") == wrong("aiocache, memory")
    others = [wrong(name) for name in ("dogpile.cache", "cashews, async", "aiocache, async")]
    assert others == [0, 0, 0]
    assert (
        f"| {wrong('model_cache')} | `functools.lru_cache` {wrong('functools.lru_cache')}, "
        f"dogpile.cache and aiocache in memory {wrong('aiocache, memory')} each, "
        f"cashews in memory {wrong('cashews, memory')}, "
        f"the article's code {wrong(ARTICLES)}; "
        "dogpile.cache, cashews and aiocache in Redis 0 |"
    ) in README
    assert [wrong(name) for name in trials() if name.startswith("model_cache")] == 6 * [0]


def test_the_failed_answers_were_counted() -> None:
    failed = {name: sum(results["outage"]) for name, results in trials().items()}
    assert failed["dogpile.cache"] == failed[ARTICLES]
    assert failed["cashews, async"] == failed["aiocache, async"]
    assert (
        f"| {failed['model_cache']} | dogpile.cache and the article's code "
        f"{failed['dogpile.cache']} each; cashews and aiocache {failed['cashews, async']} |"
    ) in README


def test_a_first_screen_is_short() -> None:
    assert len(README.splitlines()) <= 150

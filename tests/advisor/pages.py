"""Advices and pages for the tests of the report."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from typing import Any

from model_cache.advisor import Advice, advise
from model_cache.advisor.findings import Choice
from tests.advisor.logs import Score, Visit, VisitModel, score, visits

HOSTILE = '</title><script>alert("1")</script><img src=x onerror=alert(2)>\' &amp; \x00\u202e\ud800'
_VOID = {"meta", "br", "img", "link", "input", "hr"}


def advised() -> Advice:
    """Return an advice to cache, with every part."""

    def slow(data: Visit) -> Score:
        sum(range(30_000))
        return score(data)

    log = list(visits(2_000, ids=True))
    options = {"budget": 60.0, "tolerance": 1.0, "price_per_hour": 1000.0}
    return advise(VisitModel(slow), log, **options)  # type: ignore[arg-type]


def large(advice: Advice) -> Advice:
    """Return an advice about entries that take more memory than an empty server."""
    capacity = [
        replace(
            each,
            by_entries=tuple(
                replace(point, plain=40_000 * point.entries, packed=20_000 * point.entries)
                for point in each.by_entries
            ),
        )
        for each in advice.capacity
    ]
    return replace(advice, capacity=tuple(capacity))


def hostile(advice: Advice) -> Advice:
    """Return an advice all of whose texts attack the page."""

    def attacked(choice: Choice) -> Choice:
        places = {f"{name}{HOSTILE}": places for name, places in choice.places.items()}
        ignored = tuple(f"{name}{HOSTILE}" for name in choice.ignored)
        return replace(choice, places=places, ignored=ignored)

    return replace(
        advice,
        model=HOSTILE,
        version=HOSTILE,
        sentence=HOSTILE,
        notes=(HOSTILE,),
        unit_fields=(HOSTILE,),
        choices=tuple(map(attacked, advice.choices)),
        capacity=tuple(replace(each, choice=HOSTILE) for each in advice.capacity),
        log=replace(
            advice.log,
            source=HOSTILE,
            bad=2,
            bad_reasons={HOSTILE: 2},
            failed=1,
            failures={HOSTILE: 1},
        ),
    )


def without_times(advice: Advice) -> Advice:
    """Return an advice about a log without times."""
    economics, reuse = advice.economics, advice.reuse
    assert economics is not None
    timeless = [replace(each, cpu_hours=None, money=None) for each in economics.curve]
    return replace(
        advice,
        log=replace(advice.log, seconds=None, per_second=None, first=None, time_column=None),
        reuse=replace(
            reuse,
            points=tuple(replace(each, seconds=None) for each in reuse.points),
            reached_seconds=None,
        ),
        capacity=tuple(
            replace(
                each,
                by_ttl=(),
                by_entries=tuple(replace(point, near=None) for point in each.by_entries),
            )
            for each in advice.capacity
        ),
        economics=replace(
            economics,
            requests_per_month=None,
            exact=replace(economics.exact, cpu_hours=None, money=None),
            recommended=replace(economics.recommended, cpu_hours=None, money=None),
            curve=tuple(timeless),
        ),
    )


def without_sizes(advice: Advice) -> Advice:
    """Return an advice that was interrupted before anything was measured."""
    bare = [
        replace(
            each,
            by_entries=tuple(
                replace(point, plain=None, packed=None, near_bytes=None)
                for point in each.by_entries
            ),
        )
        for each in advice.capacity
    ]
    return replace(
        advice, complete=False, verdict="unknown", capacity=tuple(bare), sizes=None, economics=None
    )


def with_labels(advice: Advice) -> Advice:
    """Return an advice about a model that returns labels."""
    numbers: dict[str, Any] = {"mean": None, "p99": None, "maximum": None}
    choices = [
        replace(each, changes=replace(each.changes, **numbers, flipped=each.changes.share))
        for each in advice.choices
    ]
    return replace(advice, unit_fields=(), label_fields=("label",), choices=tuple(choices))


@dataclass
class Element:
    """An element, with its attributes and text."""

    name: str
    attributes: dict[str, str]
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, name: str) -> list[Element]:
        """Return all elements of a name in this one, in order."""
        found = [self] if self.name == name else []
        return found + [each for child in self.children for each in child.all(name)]

    def whole(self) -> str:
        """Return the text in this element and in its children."""
        return self.text + "".join(child.whole() for child in self.children)


class Parsed(HTMLParser):
    """Parses a page, and fails where it is not well-formed."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self._open = [self.root]
        self.feed(page)
        self.close()
        assert self._open == [self.root], f"not closed: {[each.name for each in self._open[1:]]}"

    def handle_starttag(self, tag: str, attrs: list[Any]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        assert all(value is not None for _, value in attrs), (tag, attrs)
        found = Element(tag, dict(attrs))
        self._open[-1].children.append(found)
        if tag not in _VOID:
            self._open.append(found)

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1].name == tag, f"</{tag}> in <{self._open[-1].name}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].text += data


def parsed(page: str) -> Element:
    """Return a page's elements; fail if it is not well-formed."""
    return Parsed(page).root

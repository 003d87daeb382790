"""The report: one page, which fetches nothing and runs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

from model_cache.advisor.advice import Advice
from model_cache.advisor.findings import Economics
from model_cache.advisor.report.chart import Bars, Chart, Series
from model_cache.advisor.report.curves import memory_chart, reuse_chart, ttl_chart
from model_cache.advisor.report.drawing import WIDE, bars_picture, picture
from model_cache.advisor.report.frontier import frontier_chart
from model_cache.advisor.report.markup import Markup, element, joined
from model_cache.advisor.report.money import LEAST_MONEY, cost_bars, month_chart, time_chart
from model_cache.advisor.report.tables import choices_table, memory_table, ttl_table
from model_cache.advisor.summary import best_name, failures
from model_cache.words import count, duration, number, percent

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_LOOKS = {"cache": "yes", "cache reduced": "yes", "do not cache": "no", "unknown": "maybe"}


def as_page(advice: Advice) -> str:
    """Return the advice as a page of HTML."""
    title = f"Advice for {advice.model} {advice.version}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("title", title),
        # No markup of ours, and no text of anybody else's.
        element("style", Markup(files(__package__).joinpath("style.css").read_text("utf-8"))),
    )
    body = element("body", _header(advice, title), element("main", *_main(advice)), _footer(advice))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _header(advice: Advice, title: str) -> Markup:
    warning = Markup("")
    if not advice.complete:
        text = "Interrupted: this is the advice so far, and is less certain."
        warning = element("p", text, class_="warning")
    return element(
        "header",
        element("h1", title),
        element("p", advice.sentence, class_=f"verdict {_LOOKS[advice.verdict]}"),
        warning,
        element("dl", *_figures(advice), class_="figures"),
    )


def _figures(advice: Advice) -> Iterator[Markup]:
    """Yield the numbers to remember."""
    log = advice.log
    during = f" in {duration(log.seconds)}" if log.seconds else ""
    yield _figure(f"{log.traffic:,}", f"{'request' if log.traffic == 1 else 'requests'}{during}")
    yield _figure(percent(advice.reuse.hit_ratio.value), "hits at most, as it is")
    if advice.choice is not None and not advice.choice.is_exact:
        yield _figure(percent(advice.choice.hit_ratio.value), f"hits with the {_best(advice)}")
    if advice.economics is not None:
        yield from _economic_figures(advice.economics)


def _best(advice: Advice) -> str:
    return "recommended choice" if best_name(advice) == "recommended" else "best choice"


def _economic_figures(economics: Economics) -> Iterator[Markup]:
    limit = economics.break_even
    yield _figure("never" if limit is None else percent(limit), "hits from which it pays")
    best = economics.recommended
    word = "saved" if best.seconds >= 0 else "lost"
    yield _figure(duration(abs(best.seconds)), f"{word} per request")
    if best.money is not None and abs(best.money) >= LEAST_MONEY:
        word = "saved" if best.money >= 0 else "lost"
        price = number(economics.price_per_hour or 0)
        yield _figure(number(abs(best.money)), f"{word} per month, at {price} per CPU hour")
    elif best.cpu_hours is not None:
        word = "saved" if best.cpu_hours >= 0 else "lost"
        yield _figure(duration(abs(best.cpu_hours) * 3600), f"of CPU time {word} per month")


def _figure(value: str, meaning: str) -> Markup:
    return element("div", element("dt", meaning), element("dd", value))


def _main(advice: Advice) -> Iterator[Markup]:
    yield element("h2", "In pictures")
    yield element("div", *_charts(advice), class_="grid")
    if advice.choices:
        yield element("h2", "The choices")
        yield element("div", _scrolled(choices_table(advice)), class_="card choices")
    yield element("h2", "The options to paste")
    yield element("pre", element("code", advice.to_yaml()), tabindex="0")
    yield element("h2", "Memory and TTL in numbers")
    yield element("div", *_details(advice), class_="tables")
    notes = [*_notes(advice)]
    if notes:
        yield element("h2", "What limits this advice")
        yield element("ul", *(element("li", note) for note in notes), class_="notes")


def _charts(advice: Advice) -> Iterator[Markup]:
    economics = advice.economics
    charts: list[Chart | Bars | None] = [frontier_chart(advice), reuse_chart(advice)]
    titles = ("How much memory does it take?", "How much memory does the best choice take?")
    charts += [memory_chart(advice, *each) for each in zip(advice.capacity, titles, strict=False)]
    charts.append(ttl_chart(advice))
    if economics is not None:
        charts += [cost_bars(economics), time_chart(advice, economics)]
        charts.append(month_chart(advice, economics))
    for chart in charts:
        if isinstance(chart, Bars):
            yield element("figure", _caption(chart), bars_picture(chart))
        elif chart is not None:
            yield _chart(chart)


def _chart(chart: Chart) -> Markup:
    if not chart.wide:
        return element("figure", _caption(chart), _legend(chart), picture(chart))
    narrow = element("div", picture(chart), class_="at-narrow")
    wide = element("div", picture(chart, WIDE), class_="at-wide")
    return element("figure", _caption(chart), _legend(chart), narrow, wide, class_="wide")


def _caption(chart: Chart | Bars) -> Markup:
    return element("figcaption", element("h3", chart.title), element("p", chart.sentence))


def _legend(chart: Chart) -> Markup:
    named = [series for series in chart.series if series.name and series.points]
    if len(named) < 2:
        return Markup("")
    items = [element("li", _swatch(series), series.name) for series in named]
    return element("ul", *items, class_="legend")


def _swatch(series: Series) -> Markup:
    parts = []
    if series.form != "dots":
        parts.append(element("path", d="M0 7H26", class_=f"line {series.kind}"))
    if series.kind == "best":
        parts.append(element("path", d="M13 0l7 7l-7 7l-7-7Z", class_="dot best"))
    elif series.form != "line":
        radius = 2.5 if series.kind == "others" else 4.5
        parts.append(element("circle", cx=13, cy=7, r=radius, class_=f"dot {series.kind}"))
    return element("svg", *parts, viewBox="0 0 26 14", aria_hidden="true")


def _scrolled(table: Markup) -> Markup:
    return element("div", table, class_="scroll", tabindex="0", role="group", aria_label="Table")


def _details(advice: Advice) -> Iterator[Markup]:
    for capacity in advice.capacity:
        tables = [_scrolled(memory_table(advice, capacity))]
        if capacity.by_ttl:
            tables.append(_scrolled(ttl_table(capacity)))
        yield element(
            "details",
            element("summary", f"Hit ratio by memory and TTL: {capacity.choice}"),
            *tables,
        )


def _notes(advice: Advice) -> Iterator[str]:
    log = advice.log
    yield from advice.notes
    if log.bad:
        reasons = "; ".join(f"{times:,}: {reason}" for reason, times in log.bad_reasons.items())
        yield f"{count(log.bad, 'line was', 'lines were')} skipped ({reasons})."
    if log.failed:
        yield f"The model raised in {failures(log)}."


def _footer(advice: Advice) -> Markup:
    return element(
        "footer",
        joined(
            f"From {advice.log.source}. The model made {count(advice.log.sampled, 'prediction')}; "
            f"the run took {duration(advice.seconds)}. Numbers after ± and ranges in parentheses "
            f"are intervals with {number(100 * advice.confidence)}% confidence; the others were "
            "counted. Times were measured on the machine that ran it.",
        ),
    )

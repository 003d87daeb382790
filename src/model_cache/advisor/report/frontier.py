"""The chart of choices: what more hits cost in changed answers."""

from __future__ import annotations

from model_cache.advisor.advice import Advice
from model_cache.advisor.findings import Choice, Estimate
from model_cache.advisor.report.chart import Axis, Chart, Point, Series
from model_cache.advisor.report.scales import Scale, linear, logarithmic
from model_cache.advisor.summary import best_name, shown_choices
from model_cache.advisor.words import change, mean, ratio
from model_cache.words import number, percent

_WIDE_RANGE = 50.0
_BEYOND = 1.15
_NAMED = 3


def frontier_chart(advice: Advice) -> Chart | None:
    """Return the hit ratio of each choice against its change; None if nothing was compared."""
    compared = [choice for choice in advice.choices if choice.changes is not None]
    shown = [(row, choice) for row, choice in numbered(advice) if choice.changes is not None]
    if not shown:
        return None
    limit = _BEYOND * max(_cost(choice).value for _, choice in shown)
    frontier = [(row, choice) for row, choice in shown if choice.on_frontier]
    best = [(row, choice) for row, choice in shown if choice is advice.choice]
    numbers = {id(choice) for _, choice in shown}
    plain = [
        _point(row, each) for row, each in shown if not each.on_frontier and (row, each) not in best
    ]
    others = plain + [
        Point(_cost(each).value, each.hit_ratio.value, _words(each))
        for each in compared
        if id(each) not in numbers and _cost(each).value <= limit
    ]
    steps = tuple(_point(row, each) for row, each in frontier)
    return Chart(
        title="What do more hits cost?",
        sentence=_sentence(advice, [each for _, each in frontier]),
        x=Axis(_change_label(advice), _change_scale(advice, [each for _, each in shown])),
        y=Axis("Hit ratio", linear([1.0], lambda value: f"{100 * value:.0f}%")),
        series=(
            Series("other choices", tuple(others), "others", "dots"),
            Series("worth having, numbered as in the table", steps, "first", "steps"),
            Series(
                best_name(advice), tuple(_point(row, each) for row, each in best), "best", "dots"
            ),
        ),
        wide=True,
    )


def numbered(advice: Advice) -> list[tuple[int, Choice]]:
    """Return the choices of the table, with their numbers."""
    return [*enumerate((choice for choice, _ in shown_choices(advice)), 1)]


def _cost(choice: Choice) -> Estimate:
    changes = choice.changes
    assert changes is not None
    return changes.cost


def _change_label(advice: Advice) -> str:
    if advice.unit_fields:
        names = ", ".join(advice.unit_fields[:_NAMED])
        names = names if len(names) <= 20 else f"{names[:19]}…"
        return f"Mean change of the answer ({names})"
    return "Answers with another label" if advice.label_fields else "Answers that change"


def _change_scale(advice: Advice, shown: list[Choice]) -> Scale:
    values = [_cost(choice).value for choice in shown]
    positive = [each for each in values if each > 0]
    form = number if advice.unit_fields else _share
    if positive and max(positive) > _WIDE_RANGE * min(positive):
        return logarithmic([0.0, *positive], form)
    return linear(values, form, most=8)


def _share(value: float) -> str:
    return f"{number(100 * value)}%"


def _point(row: int, choice: Choice) -> Point:
    cost = _cost(choice)
    across = (cost.low, cost.high) if cost.low < cost.high < float("inf") else None
    return Point(cost.value, choice.hit_ratio.value, _words(choice), str(row), across)


def _words(choice: Choice) -> str:
    """Return the tooltip of a choice."""
    parts = [f"{choice.label}: {ratio(choice.hit_ratio)} hits"]
    changes = choice.changes
    if changes is not None:
        parts.append(f"{ratio(changes.share)} of the answers change")
        if changes.mean is not None and changes.p99 is not None:
            parts += [
                f"by {mean(changes.mean)} on average",
                f"99% by at most {change(changes.p99)}",
            ]
        if changes.errors.value > 0:
            parts.append(f"{ratio(changes.errors)} because of errors")
    return ", ".join(parts)


def _sentence(advice: Advice, frontier: list[Choice]) -> str:
    exact = percent(advice.choices[0].hit_ratio.value)
    if not frontier or frontier[-1].is_exact:
        return f"The traffic as it is has {exact} hits, and no choice of fields has more."
    last = frontier[-1]
    change = f"changes {percent(last.changes.share.value)} of the answers" if last.changes else ""
    return (
        f"The traffic as it is has {exact} hits. The most is {percent(last.hit_ratio.value)}, "
        f"which {change}. Further up and to the left is better."
    )

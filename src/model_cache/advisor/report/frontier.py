"""The chart of choices: what more hits cost in changed answers."""

from __future__ import annotations

from model_cache.advisor.advice import Advice
from model_cache.advisor.findings import Choice
from model_cache.advisor.report.chart import Axis, Chart, Point, Series
from model_cache.advisor.report.scales import Scale, as_percentage, linear, logarithmic
from model_cache.advisor.summary import best_name, shown_choices
from model_cache.advisor.words import change, mean, ratio
from model_cache.words import number, percent

_WIDE_RANGE = 50.0
_BEYOND = 1.15
_NAMED = 3


def frontier_chart(advice: Advice) -> Chart | None:
    """Return the hit ratio of each choice against its change; None if nothing was compared."""
    shown = [choice for choice, _ in shown_choices(advice)]
    if not shown:
        return None
    numbered = [(choice, _point(choice, str(row))) for row, choice in enumerate(shown, 1)]
    best = [point for each, point in numbered if each is advice.choice]
    steps = [point for each, point in numbered if each.on_frontier]
    others = [point for _, point in numbered if point not in best + steps]
    limit, in_table = _BEYOND * max(map(_cost, shown)), set(map(id, shown))
    others += [
        _point(each) for each in advice.choices if id(each) not in in_table and _cost(each) <= limit
    ]
    return Chart(
        title="What do more hits cost?",
        sentence=_sentence(advice, [each for each in shown if each.on_frontier]),
        x=Axis(_change_label(advice), _change_scale(advice, shown)),
        y=Axis("Hit ratio", linear([1.0], as_percentage)),
        series=(
            Series("other choices", tuple(others), "others", "dots"),
            Series("worth having, numbered as in the table", tuple(steps), "first", "steps"),
            Series(best_name(advice), tuple(best), "best", "dots"),
        ),
        wide=True,
    )


def _cost(choice: Choice) -> float:
    return choice.changes.cost.value


def _change_label(advice: Advice) -> str:
    if advice.unit_fields:
        names = ", ".join(advice.unit_fields[:_NAMED])
        names = names if len(names) <= 20 else f"{names[:19]}…"
        return f"Mean change of the answer ({names})"
    return "Answers with another label" if advice.label_fields else "Answers that change"


def _change_scale(advice: Advice, shown: list[Choice]) -> Scale:
    values = [*map(_cost, shown)]
    positive = [each for each in values if each > 0]
    form = number if advice.unit_fields else as_percentage
    if positive and max(positive) > _WIDE_RANGE * min(positive):
        return logarithmic([0.0, *positive], form)
    return linear(values, form, most=8)


def _point(choice: Choice, number: str = "") -> Point:
    """Return the point of a choice; without a number, it has no interval either."""
    cost = choice.changes.cost
    across = (cost.low, cost.high) if number and cost.low < cost.high < float("inf") else None
    return Point(cost.value, choice.hit_ratio.value, _words(choice), number, across)


def _words(choice: Choice) -> str:
    """Return the tooltip of a choice."""
    changes = choice.changes
    parts = [
        f"{choice.label}: {ratio(choice.hit_ratio)} hits",
        f"{ratio(changes.share)} of the answers change",
    ]
    if changes.mean is not None and changes.p99 is not None:
        parts += [f"by {mean(changes.mean)} on average", f"99% by at most {change(changes.p99)}"]
    if changes.errors.value > 0:
        parts.append(f"{ratio(changes.errors)} because of errors")
    return ", ".join(parts)


def _sentence(advice: Advice, frontier: list[Choice]) -> str:
    exact = percent(advice.choices[0].hit_ratio.value)
    if not frontier or frontier[-1].is_exact:
        return f"The traffic as it is has {exact} hits, and no choice of fields has more."
    last = frontier[-1]
    return (
        f"The traffic as it is has {exact} hits. The most is {percent(last.hit_ratio.value)}, "
        f"which changes {percent(last.changes.share.value)} of the answers. Further up and to the "
        "left is better."
    )

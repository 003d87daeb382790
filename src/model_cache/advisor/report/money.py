"""The charts of time and money."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from model_cache.advisor.advice import Advice
from model_cache.advisor.findings import Economics
from model_cache.advisor.report.chart import Axis, Bars, Chart, Point, Series
from model_cache.advisor.report.scales import Scale, as_duration, as_percentage, durations, linear
from model_cache.advisor.summary import best_name
from model_cache.words import duration, number, percent

_HOUR = 3600.0
LEAST_MONEY = 0.01
"""Less than this is shown as CPU time instead."""


@dataclass(frozen=True)
class _Saved:
    """What is saved: in words, its values by rising hit ratio, and how to write and draw them."""

    title: str
    label: str
    thing: str
    noun: str
    values: list[float]
    scale: Scale
    form: Callable[[float], str]

    def at(self, hit_ratio: float) -> float:
        """Return the value at a hit ratio: it is linear in it."""
        return self.values[0] + hit_ratio * (self.values[-1] - self.values[0])

    def pays_from(self) -> float | None:
        """Return the hit ratio from which it is saved."""
        first, last = self.values[0], self.values[-1]
        return max(0.0, -first / (last - first)) if last > max(0.0, first) else None


def cost_bars(economics: Economics) -> Bars:
    """Return how long each way to a prediction takes."""
    costs = economics.costs
    found = [
        ("Hit in the near cache", costs.near_hit),
        ("Hit in Redis", costs.hit),
        ("Model alone, a row of a batch", costs.model_batch),
        ("Model alone", costs.model),
        ("Miss: lookup, model and write", costs.model + costs.miss),
    ]
    compared = "less time than"
    if costs.model >= costs.hit > 0:
        compared = f"{number(costs.model / costs.hit)} times as long as"
    return Bars(
        title="How long does a prediction take?",
        sentence=f"The model takes {compared} a hit, with a server on the same machine.",
        bars=tuple((name, each, duration(each)) for name, each in found if each is not None),
    )


def time_chart(advice: Advice, economics: Economics) -> Chart:
    """Return the time saved per request against the hit ratio."""
    values = [each.seconds for each in economics.curve]
    scale = linear(values, as_duration)
    title, label = "When does it save time?", "Time saved per request"
    return _chart(
        advice, economics, _Saved(title, label, "time", "per request", values, scale, duration)
    )


def month_chart(advice: Advice, economics: Economics) -> Chart | None:
    """Return the money saved per month, or the CPU time where there is no price or no money."""
    title = "What does it save in a month?"
    money = [each.money for each in economics.curve if each.money is not None]
    if money and max(map(abs, money)) >= LEAST_MONEY:
        label = f"Saved per month, at {number(economics.price_per_hour or 0)} per CPU hour"
        saved = _Saved(title, label, "money", "per month", money, linear(money, number), number)
        return _chart(advice, economics, saved)
    hours = [each.cpu_hours for each in economics.curve if each.cpu_hours is not None]
    if not hours:
        return None
    seconds, label = [_HOUR * each for each in hours], "CPU time saved per month"
    scale, noun = durations(seconds), "of CPU time per month"
    saved = _Saved(title, label, "CPU time", noun, seconds, scale, duration)
    return _chart(advice, economics, saved)


def _chart(advice: Advice, economics: Economics, saved: _Saved) -> Chart:
    ratios = [each.hit_ratio for each in economics.curve]
    line = tuple(
        Point(x, y, f"{percent(x)} hits: {_outcome(saved, y)}")
        for x, y in zip(ratios, saved.values, strict=True)
    )
    best, exact = economics.recommended.hit_ratio, economics.exact.hit_ratio
    others = () if exact == best else (_mark(saved, "as it is", exact),)
    name = best_name(advice) if advice.choice and not advice.choice.is_exact else "as it is"
    return Chart(
        title=saved.title,
        sentence=_sentence(saved, best),
        x=Axis("Hit ratio", linear([1.0], as_percentage)),
        y=Axis(saved.label, saved.scale),
        series=(
            Series("", line, "first"),
            Series("", others, "second", "dots"),
            Series("", (_mark(saved, name, best),), "best", "dots"),
        ),
    )


def _mark(saved: _Saved, name: str, hit_ratio: float) -> Point:
    y = saved.at(hit_ratio)
    return Point(hit_ratio, y, f"{name}, {percent(hit_ratio)} hits: {_outcome(saved, y)}", name)


def _outcome(saved: _Saved, value: float) -> str:
    word = "saves" if value >= 0 else "loses"
    return f"{word} {saved.form(abs(value))} {saved.noun}"


def _sentence(saved: _Saved, best: float) -> str:
    limit = saved.pays_from()
    pays = f"No hit ratio saves {saved.thing}"
    if limit is not None:
        pays = f"A cache saves {saved.thing} from {percent(limit)} hits"
    return f"{pays}. With {percent(best)} hits, it {_outcome(saved, saved.at(best))}."

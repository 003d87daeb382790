"""Time and money: what a hit ratio saves, and from which one the cache pays."""

from __future__ import annotations

from model_cache.advisor.findings import Costs, Economics, Savings

MONTH = 30 * 86_400.0
_HOUR = 3600.0
_STEPS = 20


def economics_of(
    costs: Costs,
    exact: float,
    recommended: float,
    per_second: float | None,
    price: float | None,
) -> Economics:
    """Return what a cache saves.

    Args:
        costs: the measured costs.
        exact: the hit ratio of the traffic as it is.
        recommended: the hit ratio of the recommended choice.
        per_second: the log's rate; None without times.
        price: the price of a CPU hour; None if it was not given.
    """

    def saved(ratio: float) -> Savings:
        cpu = saved_by(ratio, costs.model_cpu, costs.hit_cpu, costs.miss_cpu)
        hours = None if per_second is None else cpu * per_second * MONTH / _HOUR
        money = None if hours is None or price is None else hours * price
        seconds = saved_by(ratio, costs.model, costs.hit, costs.miss)
        return Savings(ratio, seconds, cpu, hours, money)

    return Economics(
        costs=costs,
        break_even=break_even(costs),
        requests_per_month=None if per_second is None else per_second * MONTH,
        price_per_hour=price,
        exact=saved(exact),
        recommended=saved(recommended),
        curve=tuple(saved(step / _STEPS) for step in range(_STEPS + 1)),
    )


def saved_by(ratio: float, model: float, hit: float, miss: float) -> float:
    """Return the time that a hit ratio saves per request."""
    return ratio * (model - hit) - (1 - ratio) * miss


def break_even(costs: Costs) -> float | None:
    """Return the hit ratio from which a cache saves time; None if none does."""
    gain = costs.model - costs.hit
    return costs.miss / (gain + costs.miss) if gain > 0 else None

"""The verdict in one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence

from model_cache.advisor.advice import Verdict
from model_cache.advisor.findings import Changes, Choice, Economics, Reuse
from model_cache.advisor.search import is_tolerated
from model_cache.words import duration, number, percent


def verdict_of(
    reuse: Reuse,
    best: Choice | None,
    economics: Economics | None,
    choices: Sequence[Choice],
    tolerance: float | None,
) -> tuple[Verdict, str]:
    """Return the verdict, and the sentence that explains it; None stands for what is unknown."""
    allowed = percent(reuse.hit_ratio.value)
    if economics is None:
        return "unknown", f"This traffic allows {allowed} hits; whether they pay was not measured."
    costs, limit = economics.costs, economics.break_even
    if limit is None:
        return "do not cache", (
            f"Do not cache: a prediction takes {duration(costs.model)}, a hit "
            f"{duration(costs.hit)}."
        )
    if economics.exact.seconds > 0 and (best is None or best.is_exact):
        return "cache", (
            f"Cache: {allowed} hits, each {duration(costs.hit)} instead of "
            f"{duration(costs.model)}; {percent(limit)} are enough to pay."
        )
    if best is not None and not best.is_exact and economics.recommended.seconds > 0:
        too_few = "" if economics.exact.seconds > 0 else ", which does not pay"
        return "cache reduced", (
            f"Cache {best.phrase}: {percent(best.hit_ratio.value)} hits, each "
            f"{duration(costs.hit)} instead of {duration(costs.model)}; as it is, {allowed}"
            f"{too_few}."
        )
    with_best = ""
    if best is not None and not best.is_exact:
        with_best = f" ({percent(best.hit_ratio.value)} {best.phrase})"
    return "do not cache", (
        f"Do not cache: this traffic allows {allowed} hits{with_best}, and a cache pays from "
        f"{percent(limit)}{_alternative(limit, choices, tolerance)}."
    )


def _alternative(limit: float, choices: Sequence[Choice], tolerance: float | None) -> str:
    """Return which choice would pay, and what it costs: the one that changes the answers least."""
    found = [
        choice
        for choice in choices
        if choice.changes.sampled
        and choice.hit_ratio.value > limit
        and (tolerance is None or is_tolerated(choice.changes, tolerance, sure=False))
    ]
    if not found:
        return ""
    best = min(found, key=lambda each: (each.changes.cost.value, -each.hit_ratio.value))
    hits = percent(best.hit_ratio.value)
    return f"; it would pay {best.phrase} ({hits} hits), which changes {_cost(best.changes)}"


def _cost(changes: Changes) -> str:
    if not changes.share.value:
        return f"none of the {changes.sampled:,} answers that were compared"
    parts = [f"{percent(changes.share.value)} of the answers"]
    if changes.errors.value:
        parts.append(f"{percent(changes.errors.value)} by errors")
    if changes.p99 is not None and 0 < changes.p99.value < math.inf:
        parts.append(f"99% by at most {number(changes.p99.value)}")
    return ", ".join(parts)

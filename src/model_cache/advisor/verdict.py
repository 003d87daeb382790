"""The verdict in one sentence."""

from __future__ import annotations

from model_cache.advisor.advice import Verdict
from model_cache.advisor.findings import Choice, Economics, Reuse
from model_cache.advisor.words import duration, percent


def verdict_of(
    reuse: Reuse | None, best: Choice | None, economics: Economics | None
) -> tuple[Verdict, str]:
    """Return the verdict, and the sentence that explains it."""
    if reuse is None:
        return "unknown", "Interrupted before the log was read."
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
        without = (
            f"as it is, {allowed}" if economics.exact.seconds > 0 else
            f"as it is, {allowed}, which does not pay"
        )  # fmt: skip
        return "cache reduced", (
            f"Cache {best.phrase}: {percent(best.hit_ratio.value)} hits, each "
            f"{duration(costs.hit)} instead of {duration(costs.model)}; {without}."
        )
    with_best = ""
    if best is not None and not best.is_exact:
        with_best = f" ({percent(best.hit_ratio.value)} {best.phrase})"
    return "do not cache", (
        f"Do not cache: this traffic allows {allowed} hits{with_best}, and a cache pays from "
        f"{percent(limit)}."
    )

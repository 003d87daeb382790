"""The advice as text."""

from __future__ import annotations

import math
from collections.abc import Iterator

from model_cache.advisor.advice import Advice
from model_cache.advisor.findings import Capacity, CapacityPoint, Choice, Economics, LogFacts, Reuse
from model_cache.advisor.words import NO_LIMIT, change, mean, ratio
from model_cache.words import count, duration, entry_count, number, percent, size

_MOST_ROWS = 12


def summary(advice: Advice) -> Iterator[str]:
    """Yield the lines of a summary."""
    if not advice.complete:
        yield "INTERRUPTED: this is the advice so far."
    yield advice.sentence
    yield ""
    yield from facts(advice)
    if advice.choices:
        yield ""
        yield from choice_lines(advice)
    for capacity in advice.capacity:
        yield ""
        yield memory_title(advice, capacity)
        yield from capacity_lines(capacity)


def facts(advice: Advice) -> Iterator[str]:
    """Yield what was read and measured."""
    yield from log_lines(advice)
    yield from reuse_lines(advice.reuse)
    if advice.economics is not None:
        yield from economics_lines(advice.economics)
    for note in advice.notes:
        yield f"note      {note}"


def log_lines(advice: Advice) -> Iterator[str]:
    """Yield what was read."""
    log = advice.log
    parts = [count(log.traffic, "request")]
    if log.seconds:
        parts[0] += f" in {duration(log.seconds)}"
    if log.share < 1.0:
        parts.append(f"{log.requests:,} of them sampled")
    if log.bad:
        parts.append(f"{log.bad:,} skipped")
    yield f"log       {', '.join(parts)}"
    for reason, times in log.bad_reasons.items():
        yield f"            {times:,}: {reason}"
    if log.failed:
        yield f"failures  the model raised in {failures(log)}"


def failures(log: LogFacts) -> str:
    """Return in how many predictions the model raised, and what."""
    kinds = ", ".join(f"{name} {times:,}" for name, times in log.failures.items())
    return f"{log.failed:,} of {count(log.sampled, 'prediction')}: {kinds}"


def reuse_lines(reuse: Reuse) -> Iterator[str]:
    """Yield how much the traffic as it is repeats."""
    yield (
        f"reuse     as it is: at most {ratio(reuse.hit_ratio)} hits, {ratio(reuse.steady)} in the "
        f"last quarter; {count(round(reuse.distinct.value), 'different input')}"
    )
    if reuse.reached_requests is not None:
        after = count(reuse.reached_requests, "request")
        if reuse.reached_seconds is not None:
            after += f" ({duration(reuse.reached_seconds)})"
        yield f"            nine tenths of that are reached after {after}"


def economics_lines(found: Economics) -> Iterator[str]:
    """Yield time and money."""
    costs = found.costs
    batch = "" if costs.model_batch is None else f" ({duration(costs.model_batch)} in a batch)"
    near = "" if costs.near_hit is None else f", a near hit {duration(costs.near_hit)}"
    yield (
        f"time      model {duration(costs.model)}{batch}, a hit {duration(costs.hit)}{near}, "
        f"a miss {duration(costs.miss)} more than the model"
    )
    limit = "never" if found.break_even is None else f"from {percent(found.break_even)} hits"
    yield f"pays      {limit}"
    best = found.recommended
    per_request = f"{duration(abs(best.seconds))} per request"
    saved = [per_request]
    if best.cpu_hours is not None:
        saved.append(f"{number(abs(best.cpu_hours))} CPU hours per month")
    if best.money is not None:
        saved.append(f"{abs(best.money):,.2f} at {found.price_per_hour:g} per CPU hour")
    word = "saves" if best.seconds >= 0 else "loses"
    yield f"{word}     {', '.join(saved)}, with {percent(best.hit_ratio)} hits"


def best_name(advice: Advice) -> str:
    """Return how to call the choice that has the most hits without changing too much."""
    return "recommended" if advice.verdict.startswith("cache") else "best choice"


def shown_choices(advice: Advice) -> list[tuple[Choice, str]]:
    """Return the choices of a table, with a mark for the best: it and the frontier."""
    best = advice.choice
    found = [choice for choice in advice.frontier if choice is not best]
    step = max(1, -(-len(found) // _MOST_ROWS))
    rows = [choice for choice in advice.choices[:1] if choice is not best]
    rows += [choice for choice in found[::step] if choice not in rows]
    if best is not None:
        rows.append(best)
    rows.sort(key=lambda choice: choice.hit_ratio.value)
    return [(choice, "*" if choice is best else "") for choice in rows]


def headings(advice: Advice) -> list[str]:
    """Return the headings of the table of choices, but for the choice."""
    kind = "mean change" if advice.unit_fields else "flipped labels"
    errors = ["errors"] if _has_errors(advice) else []
    return ["hits", "changed", *errors, kind, "99% within", "largest"]


def cells(advice: Advice, choice: Choice) -> list[str]:
    """Return the cells of a choice under these headings."""
    found = choice.changes
    hits, errors = ratio(choice.hit_ratio), _has_errors(advice)
    first = [hits, ratio(found.share), *([ratio(found.errors)] if errors else [])]
    if found.mean is None or found.p99 is None:
        return [*first, ratio(found.flipped or found.share), "-", "-"]
    return [*first, mean(found.mean), change(found.p99), _largest(found.maximum or 0.0)]


def _largest(maximum: float) -> str:
    if not math.isfinite(maximum):
        return NO_LIMIT
    return f">= {number(maximum)}" if maximum else "0"


def _has_errors(advice: Advice) -> bool:
    return any(choice.changes.errors.value > 0 for choice, _ in shown_choices(advice))


def choices_title(advice: Advice) -> str:
    """Return the title of the table of choices."""
    return f"Choices worth having (* {best_name(advice)})"


def choice_lines(advice: Advice) -> Iterator[str]:
    """Yield the table of the choices worth having."""
    yield choices_title(advice)
    yield f"  {_columns(headings(advice))}   choice"
    for choice, mark in shown_choices(advice):
        yield f"{mark or ' '} {_columns(cells(advice, choice))}   {choice.label}"


def _columns(texts: list[str]) -> str:
    *first, p99, most = texts
    return " ".join([*(f"{each:>14}" for each in first), f"{p99:>20}", f"{most:>10}"])


def memory_title(advice: Advice, capacity: Capacity) -> str:
    """Return the title of a table of memory, which says what it counts."""
    sizes = advice.sizes
    empty = "" if sizes is None else f", of which an empty Redis takes {size(sizes.empty)}"
    return f"Memory ({capacity.choice}){empty}"


def capacity_lines(capacity: Capacity) -> Iterator[str]:
    """Yield the hit ratio against memory and TTL."""
    for point in thinned(capacity):
        packed = "-" if point.packed is None else size(point.packed)
        near = "-" if point.near is None else percent(point.near)
        yield (
            f"  {entry_count(point.entries):>20}  {ratio(point.hit_ratio):>14}  "
            f"plain {size(point.plain):>8}  packed {packed:>8}  near {near:>6}"
        )
    yield from ttl_lines(capacity)


def ttl_lines(capacity: Capacity) -> Iterator[str]:
    """Yield the hit ratio against the TTL."""
    if capacity.by_ttl:
        points = [
            f"{duration(each.ttl)} {percent(each.hit_ratio.value)}" for each in capacity.by_ttl
        ]
        yield f"hits by TTL: {', '.join(points)}"


def thinned(capacity: Capacity) -> list[CapacityPoint]:
    """Return some of the points of a curve, the last one included."""
    points = capacity.by_entries
    step = max(1, len(points) // 8)
    return [*points[::-1][::step]][::-1]

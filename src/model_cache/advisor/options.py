"""The recommended options, and the YAML to paste."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from model_cache.advisor.advice import Advice
from model_cache.advisor.findings import Capacity
from model_cache.words import count, percent, size

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
# What YAML 1.1 does not read as a string.
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_PACKED_FROM = 100_000
_NEAR_FROM = 0.05


def recommended_options(advice: Advice) -> dict[str, Any]:
    """Return the options; `enabled: false` if a cache does not pay."""
    if advice.verdict == "do not cache":
        return {"enabled": False}
    found: dict[str, Any] = {}
    best = advice.choice
    if best is not None and best.places:
        found["reduced_precision_fields"] = [*best.places]
        found["number_of_places"] = dict(best.places)
    ignored = dict.fromkeys((*advice.log.left_out, *(best.ignored if best is not None else ())))
    if ignored:
        found["ignored_fields"] = [*ignored]
    return found | _capacity_options(advice, advice.capacity[-1])


def _capacity_options(advice: Advice, capacity: Capacity) -> dict[str, Any]:
    found: dict[str, Any] = {}
    points = capacity.by_entries
    entries = points[-1].entries
    sizes = advice.sizes
    if sizes is not None and sizes.packed is not None and entries >= _PACKED_FROM:
        found["layout"] = "packed"
        found["expected_entries"] = _rounded_up(1.2 * entries)
    near = [point for point in points if point.near is not None]
    most = max((point.near or 0.0 for point in near), default=0.0)
    costs = advice.economics.costs if advice.economics else None
    if most >= _NEAR_FROM and costs is not None and costs.near_hit is not None:
        enough = next(point for point in near if (point.near or 0.0) >= 0.9 * most)
        found["near_cache"] = _rounded_up(enough.entries)
    return found


def _rounded_up(value: float) -> int:
    step: int = 10 ** max(0, math.floor(math.log10(max(1.0, value))) - 1)
    return int(math.ceil(value / step) * step)


def as_yaml(advice: Advice) -> str:
    """Return the options as YAML, with comments."""
    lines = [f"# {advice.sentence}"]
    if not advice.complete:
        lines.append("# The advice was interrupted, and is less certain.")
    best = advice.choice
    pays = advice.verdict != "do not cache"
    if pays and best is not None and not best.is_exact:
        lines.append(f"# Answers that change: {percent(best.changes.share.value)}.")
    if advice.sizes is not None and pays:
        lines.append(f"# {_memory(advice.capacity[-1], advice.sizes.empty)}")
    options = advice.options()
    lines += [f"{name}: {_flow(value)}" for name, value in options.items()]
    if not options:
        lines += ["# The defaults are right.", "{}"]
    return "\n".join([*lines, ""])


def _memory(capacity: Capacity, empty: int) -> str:
    last = capacity.by_entries[-1]
    packed = f", packed {size(last.packed)}" if last.packed is not None else ""
    taken = f"{size(last.plain or 0)} in Redis{packed}; an empty Redis takes {size(empty)}"
    return f"{count(last.entries, 'entry takes', 'entries take')} {taken}."


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        inside = ", ".join(f"{_flow(name)}: {_flow(each)}" for name, each in value.items())
        return f"{{{inside}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)

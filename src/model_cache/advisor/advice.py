"""The advice: what was found out about one model and one log."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from model_cache.advisor.findings import Capacity, Choice, Economics, EntrySizes, LogFacts, Reuse

Verdict: TypeAlias = Literal["cache", "cache reduced", "do not cache", "unknown"]


@dataclass(frozen=True)
class Advice:
    """The advice about one model and one log.

    Attributes:
        model: the model's qualified name.
        version: its version.
        complete: whether the run was finished; if False, parts may be None or less certain.
        notes: what limits the advice.
        verdict: "cache", "cache reduced" (only with reduced precision or ignored fields),
            "do not cache", or "unknown" if it was interrupted too early.
        sentence: the verdict in one sentence.
        confidence: the confidence of all intervals.
        tolerance: the tolerance that was given.
        unit_fields: the output's fields that are compared as numbers.
        label_fields: those that are compared as labels.
        log: what was read.
        reuse: the reuse of the traffic as it is.
        choices: all choices that were compared, the one as it is first.
        recommended: the place of the recommended one in `choices`.
        capacity: what the hit ratio takes, of the traffic as it is and of the recommended choice.
        sizes: the memory of entries.
        economics: time and money.
        seconds: how long the run took.
    """

    model: str
    version: str
    complete: bool
    notes: tuple[str, ...]
    verdict: Verdict
    sentence: str
    confidence: float
    tolerance: float | None
    unit_fields: tuple[str, ...]
    label_fields: tuple[str, ...]
    log: LogFacts
    reuse: Reuse
    choices: tuple[Choice, ...]
    recommended: int | None
    capacity: tuple[Capacity, ...]
    sizes: EntrySizes | None
    economics: Economics | None
    seconds: float

    @property
    def frontier(self) -> tuple[Choice, ...]:
        """The choices worth having, by rising hit ratio."""
        found = [choice for choice in self.choices if choice.on_frontier]
        return tuple(sorted(found, key=lambda choice: choice.hit_ratio.value))

    @property
    def choice(self) -> Choice | None:
        """The recommended choice."""
        return None if self.recommended is None else self.choices[self.recommended]

    def options(self) -> dict[str, Any]:
        """Return the options of `RedisCachingDecorator` that are recommended."""
        from model_cache.advisor.options import recommended_options

        return recommended_options(self)

    def to_yaml(self) -> str:
        """Return the recommended options as YAML to paste, with comments that say why."""
        from model_cache.advisor.options import as_yaml

        return as_yaml(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as dicts, lists, strings and numbers, ready for JSON.

        The keys are the attributes of the dataclasses here and in `model_cache.advisor.findings`,
        `label` for each choice, and `options` and `yaml`. An infinite number becomes None.
        """
        found: dict[str, Any] = _plain(self)
        return {**found, "options": self.options(), "yaml": self.to_yaml()}

    def to_html(self) -> str:
        """Return the advice as a page of HTML with charts: one file, which fetches nothing."""
        from model_cache.advisor.report import as_page

        return as_page(self)

    def _repr_html_(self) -> str:
        from model_cache.advisor.report import as_cell

        return as_cell(self)

    def __str__(self) -> str:
        from model_cache.advisor.summary import summary

        return "\n".join(summary(self))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        found = {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
        if isinstance(value, Choice):
            found["label"] = value.label
        return found
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

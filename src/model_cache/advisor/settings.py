"""The settings of one run, checked."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from model_cache.errors import ConfigurationError

LogFormat: TypeAlias = Literal["jsonl", "csv", "parquet"]


@dataclass(frozen=True)
class Settings:
    """The settings of one run; see `advise`."""

    budget: float = 60.0
    tolerance: float | None = None
    price_per_hour: float | None = None
    time_column: str | None = None
    log_format: LogFormat | None = None
    random: random.Random = field(default_factory=lambda: random.Random(0))

    def __post_init__(self) -> None:
        _check("budget", self.budget, "seconds above 0", above=0.0)
        if self.tolerance is not None:
            _check("tolerance", self.tolerance, "a number from 0")
        if self.price_per_hour is not None:
            _check("price_per_hour", self.price_per_hour, "a number from 0")
        if self.log_format is not None and self.log_format not in get_args(LogFormat):
            raise ConfigurationError(
                "log_format", f"expected jsonl, csv or parquet, got {self.log_format!r}"
            )


def _check(option: str, value: object, allowed: str, above: float | None = None) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(float(value)) or float(value) < 0 or value == above:  # type: ignore[arg-type]
        raise ConfigurationError(option, f"expected {allowed}, got {value!r}")

"""How long the entry of one prediction lives: by the option `ttl`, and by the model."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any

from model_cache.errors import ConfigurationError
from model_cache.interruptions import reraise_interruption
from model_cache.option_values import TEN_YEARS, seconds
from model_cache.options.config import TtlRule


class TtlRefusedError(Exception):
    """There is no valid ttl; the message says why, and is the same for all such predictions."""


def shortest_ttl(
    option: int | TtlRule | None, data: Any, prediction: Any, by_model: Iterable[object]
) -> int | None:
    """Return a time to live in milliseconds: the shortest of all.

    Args:
        option: the option: a time in milliseconds, or a function.
        data: the input.
        prediction: the prediction.
        by_model: what the model has set while predicting.

    Returns:
        The time; None for no limit; 0 if the prediction is not to be stored.

    Raises:
        TtlRefusedError: one of them is not a time.
    """
    if callable(option):
        option = _milliseconds("ttl", _called(option, data, prediction))
    shortest = option
    for each in by_model:
        time = _milliseconds("set_ttl", each)
        if shortest is None or (time is not None and time < shortest):
            shortest = time
    return shortest


def _called(rule: TtlRule, data: Any, prediction: Any) -> object:
    try:
        return rule(data, prediction)
    except Exception as error:
        reraise_interruption(error)
        raise TtlRefusedError(f"ttl raised {type(error).__name__}") from error


def _milliseconds(source: str, value: object) -> int | None:
    if value is None:
        return None
    # Also numpy's, which models have at hand.
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else value
    try:
        given = seconds(source, number, 0.0, TEN_YEARS)
    except ConfigurationError as error:
        # Without the value, so that it is logged once.
        raise TtlRefusedError(
            f"{source}: expected a time in seconds from 0 to {TEN_YEARS:,}, got an invalid "
            f"{type(value).__name__}"
        ) from error
    return max(1, round(1000 * given)) if given else 0

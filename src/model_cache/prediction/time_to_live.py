"""How long the entry of one prediction lives: by the option `ttl`, and by the model."""

from __future__ import annotations

import random
import time
from heapq import heappush
from numbers import Real
from typing import Any

from model_cache.interruptions import reraise_interruption
from model_cache.option_values import TEN_YEARS, seconds
from model_cache.options.config import TtlRule

# Not the module's generator: a model may have seeded it.
_jitter = random.SystemRandom().random


class TtlRefusedError(Exception):
    """There is no valid ttl; the message says why, and is the same for all such predictions."""


class TtlOfModel:
    """The times to live that a model sets while predicting.

    Attributes:
        refusal: why one of them is not a time; empty if all are.
    """

    refusal: str = ""

    def __init__(self) -> None:
        self._times: list[int] = []  # a heap, to which threads of the model may add at any time

    @property
    def shortest(self) -> int | None:
        """The shortest time in milliseconds; None for no limit; 0 if nothing is to be stored."""
        return self._times[0] if self._times else None

    def limit(self, given: object) -> None:
        """Take a time in seconds; anything else is a refusal, which must not raise in the model."""
        try:
            milliseconds = _milliseconds("set_ttl", given)
        except TtlRefusedError as error:
            self.refusal = str(error)
            return
        if milliseconds is not None:
            heappush(self._times, milliseconds)


def shortest_ttl(
    option: int | TtlRule | None, data: Any, prediction: Any, by_model: TtlOfModel | None
) -> int | None:
    """Return a time to live in milliseconds: the shortest of all.

    Args:
        option: the option: a time in milliseconds, or a function.
        data: the input.
        prediction: the prediction.
        by_model: what the model has set while predicting; None if it has not predicted.

    Returns:
        The time; None for no limit; 0 if the prediction is not to be stored.

    Raises:
        TtlRefusedError: one of them is not a time.
    """
    if callable(option):
        option = _milliseconds("ttl", _called(option, data, prediction))
    if by_model is None:
        return option
    if by_model.refusal:
        raise TtlRefusedError(by_model.refusal)
    return _shorter(option, by_model.shortest)


def _shorter(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)


def expiry(ttl: int | None, stale: int) -> tuple[int | None, int | None]:
    """Return the ttl of an entry in Redis, and the time when it becomes stale.

    Args:
        ttl: how long it stays fresh, in milliseconds; None for no limit.
        stale: for how many milliseconds after that it may still be returned as stale.

    Returns:
        Its ttl in Redis, in milliseconds; and the time when it becomes stale, in milliseconds
        since 1970, or None if it does not stay in Redis after that.
    """
    if ttl is None:
        return None, None
    # Shortened at random, so that entries that were written together do not expire together.
    ttl = max(1, ttl - int(_jitter() * ttl / 10))
    return (ttl + stale, int(1000 * time.time()) + ttl) if stale else (ttl, None)


def _called(rule: TtlRule, data: Any, prediction: Any) -> object:
    try:
        return rule(data, prediction)
    except Exception as error:
        reraise_interruption(error)
        raise TtlRefusedError(f"ttl raised {type(error).__name__}") from error


def _milliseconds(source: str, value: object) -> int | None:
    if value is None:
        return None
    try:
        # Also numpy's, which models have at hand.
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else value
        given = seconds(source, number, 0.0, TEN_YEARS)
    except Exception as error:  # also of a class of the user's
        reraise_interruption(error)
        # Without the value, so that it is logged once.
        raise TtlRefusedError(
            f"{source}: expected a time in seconds from 0 to {TEN_YEARS:,}, got an invalid "
            f"{type(value).__name__}"
        ) from error
    return max(1, round(1000 * given)) if given else 0

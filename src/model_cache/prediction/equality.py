"""Check that a model's `predict_many` returns the same predictions as its `predict`.

Linear algebra rounds differently by batch size, and some runtimes split a batch among threads. Then
batch predictions differ from single ones in their last digits, and which of the two a caller gets
depends on which was cached first.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Sequence
from typing import Any, Literal, Protocol
from weakref import WeakKeyDictionary

from model_cache.binding import Bound
from model_cache.entries.disagreement import largest_difference
from model_cache.errors import NotCacheableError
from model_cache.interruptions import reraise_interruption
from model_cache.keys.canonical import PREDICTIONS
from model_cache.prediction.effects import Predict, Steps
from model_cache.prediction.veto import ModelCall, model_calls

logger = logging.getLogger("model_cache")

# How many rows of the first batch to also predict one by one.
_SAMPLES = 3


class Computed(Protocol):
    """A row of a batch: its input and its prediction."""

    @property
    def data(self) -> Any: ...

    answer: Any | None


class BatchEquality:
    """Compares some rows of a model's first batch with single predictions.

    Args:
        mode: on a difference, "warn", "refuse" to call the model with batches, or "ignore" it.
        methods: a model whose class has one of these can be called with batches.
    """

    def __init__(
        self,
        mode: Literal["warn", "refuse", "ignore"],
        methods: Sequence[str] = ("predict_many",),
    ) -> None:
        self._mode = mode
        self._methods = methods
        self._verdicts: WeakKeyDictionary[Bound, bool] = WeakKeyDictionary()

    def allows(self, binding: Bound) -> bool:
        """Return whether to call the model with a batch."""
        return binding.answers_many_by(self._methods) and self._verdicts.get(binding, True)

    def refuse(self, binding: Bound, reason: str) -> None:
        """Stop calling the model with batches, and warn with the reason."""
        self._verdicts[binding] = False
        many, _ = binding.many_and_one
        _warn(f"{binding.qualified_name}: {many} {reason}; predicting row by row from now on")

    def check(self, binding: Bound, rows: Sequence[Computed]) -> Steps[bool]:
        """Return whether the answers of a batch may be used; compares them the first time."""
        if self._mode == "ignore" or binding in self._verdicts or len(rows) < 2:
            return True
        largest, differing = 0.0, 0
        sample = [rows[0], rows[len(rows) // 2], rows[-1]][: min(_SAMPLES, len(rows))]
        for row in sample:
            try:
                # Other callers may wait for the batch.
                with model_calls.raised(ModelCall(leads=True)):
                    single: Any = yield Predict(binding, row.data)
            except Exception as error:
                reraise_interruption(error)
                return True  # nothing to compare with
            if _differ(single, row.answer):
                differing += 1
                values = (binding.value_of(row.data, each) for each in (single, row.answer))
                largest = max(largest, largest_difference(*values))
        self._verdicts[binding] = True
        if not differing:
            return True
        many, one = binding.many_and_one
        size = f"by up to {largest:.3g}" if largest else "in values that are not numbers"
        if self._mode == "refuse":
            self.refuse(binding, f"answers differently {size}")
            return False
        _warn(
            f"{binding.qualified_name}: {many} answers differently from {one}: "
            f"{differing} of {len(sample)} rows differ, {size}. Callers get whichever was cached "
            'first. Set batch_equality="refuse" to predict rows one by one, '
            'or "ignore" if the difference does not matter.'
        )
        return True


def _warn(message: str) -> None:
    """Warn; log the message if warnings are errors, since it must not fail a prediction."""
    try:
        warnings.warn(message, UserWarning, stacklevel=3)
    except Exception as error:
        reraise_interruption(error)
        with contextlib.suppress(Exception):  # from a logging filter
            logger.warning(message)


def _differ(one: object, other: object) -> bool:
    """Return whether two predictions differ; False if they have no canonical form."""
    try:
        return PREDICTIONS.encode(one) != PREDICTIONS.encode(other)
    except NotCacheableError as error:
        reraise_interruption(error.__cause__ or error)
        return False

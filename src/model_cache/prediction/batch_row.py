"""A row of a batch: an input that missed, on its way to a prediction."""

from __future__ import annotations

from typing import Any

from model_cache.prediction.barrier import Computation
from model_cache.prediction.call import Call
from model_cache.prediction.single_flight import ABANDONED, Flight, Landed, Landing
from model_cache.prediction.veto import ModelCall


class Row:
    """An input that missed, with all calls that have the same input.

    Attributes:
        call: the first of these calls.
        others: the other calls.
        computation: the computation of the prediction; None without a key.
        joined: the row's part in a flight, if any.
        model_call: the model call that has computed it.
        answer: the prediction, once there is one.
        error: the exception that the model raised instead.
        entry: the entry, if the prediction is stored.
    """

    computation: Computation | None = None
    joined: Flight | Landing | Landed | None = None
    model_call: ModelCall | None = None
    answer: Any | None = None
    error: Exception | None = None
    entry: bytes | None = None

    def __init__(self, call: Call) -> None:
        self.call = call
        self.others: list[Call] = []

    @property
    def data(self) -> Any:
        """The input."""
        return self.call.data

    @property
    def waits(self) -> bool:
        """Whether another caller computes it."""
        return isinstance(self.joined, (Landing, Landed))

    def land(self) -> None:
        """Wake the callers that wait for this row."""
        if isinstance(self.joined, Flight) and not self.joined.has_landed:
            is_abandoned = self.answer is None and self.error is None
            landed = Landed(self.entry, failed=self.answer is None)
            self.joined.land(ABANDONED if is_abandoned else landed)

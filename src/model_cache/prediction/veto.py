"""Context of a model call: `do_not_store()`, `set_ttl()`, and whether other callers wait for it."""

from __future__ import annotations

from datetime import timedelta

from model_cache.context import Flag, FlagVar
from model_cache.prediction.time_to_live import TtlOfModel


class ModelCall(Flag):
    """A model call in progress.

    Args:
        leads: whether other callers wait for its prediction.

    Attributes:
        may_be_stored: whether its prediction may be stored.
        ttl: the shortest time to live that the model has set.
    """

    may_be_stored = True

    def __init__(self, *, leads: bool) -> None:
        self.leads = leads
        self.ttl = TtlOfModel()


model_calls: FlagVar[ModelCall] = FlagVar("model_cache_model_call")


def do_not_store() -> None:
    """Exclude the current prediction from the cache.

    Call it inside a model's `predict`, for example when a dependency is unavailable and the model
    falls back to a default answer that must not be cached. It also applies to outer cached models.
    Outside a prediction it does nothing; a thread that the model starts counts as outside, unless
    it runs in a copy of the context.
    """
    call = model_calls.get()
    while call is not None:
        call.may_be_stored = False
        call = call.outer


def set_ttl(seconds: float | timedelta | None) -> None:
    """Limit how long the current prediction stays in the cache.

    Call it inside a model's `predict`, for example when the answer uses a price that changes at a
    known time. The shortest of all calls and of the option `ttl` counts, so it can only shorten;
    0 means not to store. It also applies to outer cached models; in `predict_many`, to the whole
    batch. Outside a prediction it does nothing, as `do_not_store()`.

    Args:
        seconds: the time in seconds, or as a timedelta; None for no limit. With anything else the
            prediction is returned, not stored, and logged once.
    """
    call = model_calls.get()
    while call is not None:
        call.ttl.limit(seconds)
        call = call.outer


def is_inside_a_flight() -> bool:
    """Return whether other callers wait for an enclosing model call; if so, do not wait."""
    call = model_calls.get()
    while call is not None:
        if call.leads and not call.has_ended:
            return True
        call = call.outer
    return False

"""The call of a model, as code inside it sees it: `do_not_store()`, and who may wait."""

from __future__ import annotations

from model_cache.context import Flag, FlagVar


class ModelCall(Flag):
    """A call of a model that is under way.

    Args:
        leads: whether other callers wait for its prediction.

    Attributes:
        may_be_stored: whether its prediction may go into the cache.
    """

    __slots__ = ("leads", "may_be_stored")

    def __init__(self, *, leads: bool) -> None:
        super().__init__()
        self.leads = leads
        self.may_be_stored = True


model_calls: FlagVar[ModelCall] = FlagVar("model_cache_model_call")


def do_not_store() -> None:
    """Keep the prediction that is being made out of the cache.

    Call it inside a model's `predict`, for example when a dependency is out of reach and the model
    falls back to a default answer that must not live on. It also holds for the cached models
    around this one. Outside a prediction it does nothing. A thread that the model starts is
    outside, unless it runs in a copy of the context.
    """
    call = model_calls.get()
    while call is not None:
        call.may_be_stored = False
        call = call.outer


def is_inside_a_flight() -> bool:
    """Whether other callers wait for a model call around this one, which must not wait itself."""
    call = model_calls.get()
    while call is not None:
        if call.leads and not call.has_ended:
            return True
        call = call.outer
    return False

"""`do_not_store()`: a model's own word that the prediction being made must not be kept."""

from __future__ import annotations

from contextvars import ContextVar, Token
from types import TracebackType

_current: ContextVar[Prediction | None] = ContextVar("model_cache_prediction", default=None)


def do_not_store() -> None:
    """Keep the prediction that is being made out of the cache.

    For use inside a model's `predict`: say, when a part that it relies on is out of reach and
    it falls back to a default answer, which must not live on. It also holds for the cached
    models around this one. Outside a prediction it does nothing; a thread that the model
    starts is outside, unless it runs in a copy of the context.
    """
    prediction = _current.get()
    while prediction is not None:
        prediction.may_be_stored = False
        prediction = prediction.outer


class Prediction:
    """The time in which a model makes a prediction; `do_not_store()` finds it."""

    __slots__ = ("_token", "may_be_stored", "outer")

    def __init__(self) -> None:
        self.may_be_stored = True
        self.outer = _current.get()

    def __enter__(self) -> Prediction:
        self._token: Token[Prediction | None] = _current.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _current.reset(self._token)

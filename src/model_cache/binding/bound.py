"""The protocol of bindings: all that a prediction needs to know of what it caches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from model_cache.entries.codec import Codec
from model_cache.keys.key import KeyMaker, Namespace


class Bound(Protocol):
    """One model, function or estimator at one moment; immutable."""

    @property
    def qualified_name(self) -> str:
        """The name in keys, outcomes and log lines."""
        ...

    @property
    def version(self) -> str:
        """The version in keys and outcomes."""
        ...

    @property
    def namespace(self) -> Namespace:
        """The namespace of the entries."""
        ...

    @property
    def output_schema(self) -> type:
        """The class of the predictions."""
        ...

    @property
    def near_prefix(self) -> bytes:
        """Distinguishes the bindings of a process in a near cache."""
        ...

    @property
    def rounds(self) -> bool:
        """Whether inputs are rounded."""
        ...

    @property
    def known_inputs(self) -> Mapping[type, bool]:
        """The classes seen so far, and whether their instances are inputs."""
        ...

    @property
    def input_encoders(self) -> Mapping[type, Callable[[Any], bytes]]:
        """The encoders of inputs by class; they may raise any exception."""
        ...

    @property
    def left_out(self) -> Sequence[str]:
        """The paths of the fields that are not part of the key."""
        ...

    def is_current(self) -> bool:
        """Return whether it still describes the model."""
        ...

    def rounded(self, data: Any) -> Any:
        """Return the input as the model receives it, with or without a cache."""
        ...

    def canonical(self, data: Any) -> bytes:
        """Return the canonical bytes of an input that is already rounded.

        Raises:
            NotCacheableError: the input has no key; the message says why.
        """
        ...

    @property
    def keys(self) -> KeyMaker:
        """What makes keys from canonical bytes."""
        ...

    @property
    def codec(self) -> Codec:
        """What converts predictions to entries and back."""
        ...

    def predict(self, data: Any) -> Any:
        """Return the model's own answer."""
        ...

    def predict_many(self, inputs: list[Any]) -> list[Any]:
        """Return the model's own answers to many inputs, by one call."""
        ...

    @property
    def apredict(self) -> Callable[[Any], Any] | None:
        """What returns an awaitable of the model's own answer; None if nothing does."""
        ...

    @property
    def apredict_many(self) -> Callable[[list[Any]], Any] | None:
        """What returns an awaitable of the model's own answers; None if nothing does."""
        ...

    @property
    def many_and_one(self) -> tuple[str, str]:
        """What calls with many inputs, and with one, are called in warnings."""
        ...

    def value_of(self, data: Any, prediction: Any) -> Any:
        """Return what the user knows of the prediction for an input, such as a result."""
        ...

    def recorded(self, data: Any) -> Any:
        """Return an input as values for the log of requests; see `recorded`.

        Raises:
            NotCacheableError: it is not known which fields may be recorded.
        """
        ...

    def answers_many_by(self, methods: Collection[str]) -> bool:
        """Return whether one call of the model answers many inputs, by one of these methods."""
        ...


class Current(Protocol):
    """Holds the binding for new predictions."""

    @property
    def binding(self) -> Bound | None:
        """The binding; None before the first model."""
        ...

    def bound(self) -> Bound:
        """Return the binding without renewing it.

        Raises:
            ModelCacheError: no model is set.
        """
        ...

    def get(self) -> Bound:
        """Return the binding, renewed if the model has changed.

        Raises:
            ModelCacheError: no model is set.
        """
        ...

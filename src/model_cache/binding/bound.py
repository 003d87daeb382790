"""The protocol of bindings: all that a prediction needs to know of what it caches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from model_cache.entries.codec import Codec, Read
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

    def key(self, canonical: bytes) -> bytes:
        """Return the key for an input, from its canonical bytes."""
        ...

    def read(self, key: bytes, entry: bytes) -> Read:
        """Return an entry's prediction, if it can be decoded, and whether it is fresh."""
        ...

    def reader(self, key: bytes, entry: bytes) -> Callable[[], Any]:
        """Return a function that decodes an entry to a new object each time."""
        ...

    def fresh_for(self, entry: bytes) -> float | None:
        """Return how many seconds a fresh entry stays fresh; None for no limit."""
        ...

    def encode(self, key: bytes, prediction: Any, fresh_until: int | None = None) -> bytes:
        """Return a prediction as an entry.

        Raises:
            EntryRefusedError: the prediction can't be stored.
        """
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


class Coded:
    """The base of bindings whose predictions have keys and entries; implements a part of `Bound`.

    Args:
        keys: makes keys from canonical bytes.
        codec: converts predictions to entries and back.
    """

    def __init__(self, keys: KeyMaker, codec: Codec) -> None:
        self._keys = keys
        self._codec = codec

    def key(self, canonical: bytes) -> bytes:
        """Return the key for an input, from its canonical bytes."""
        return self._keys.key_of(canonical)

    def keys(self, head: bytes, tails: Iterable[bytes]) -> list[bytes]:
        """Return the keys for inputs whose canonical bytes have the same beginning."""
        return self._keys.keys_of(head, tails)

    def read(self, key: bytes, entry: bytes) -> Read:
        """Return an entry's prediction, if it can be decoded, and whether it is fresh."""
        return self._codec.read(key, entry)

    def reader(self, key: bytes, entry: bytes) -> Callable[[], Any]:
        """Return a function that decodes an entry to a new object each time."""
        return self._codec.reader(key, entry)

    def fresh_for(self, entry: bytes) -> float | None:
        """Return how many seconds a fresh entry stays fresh; None for no limit."""
        return self._codec.fresh_for(entry)

    def encode(self, key: bytes, prediction: Any, fresh_until: int | None = None) -> bytes:
        """Return a prediction as an entry.

        Raises:
            EntryRefusedError: the prediction can't be stored.
        """
        return self._codec.encode(key, prediction, fresh_until)


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

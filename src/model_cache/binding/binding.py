"""The binding of a decorator to a model: an immutable snapshot for predictions.

`predict` reads the binding once, so that a `set_model` in the middle of a request can't store one
model's answer under another's key. A binding computes keys and encodes and decodes entries. It
does no I/O.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ml_base.ml_model import MLModel
from pydantic import BaseModel

from model_cache.binding import fitting
from model_cache.binding.decorators import NOTHING, Inside
from model_cache.binding.fingerprint import fingerprint
from model_cache.binding.inputs import Inputs
from model_cache.binding.recorded import recorded
from model_cache.binding.unkeyed import check_canonical
from model_cache.entries.serders import JSON, MESSAGE_PACK, VALUES
from model_cache.errors import NotCacheableError
from model_cache.keys.key import KeyMaker, Namespace
from model_cache.options.config import Config
from model_cache.protocols import Serder

_numbers = itertools.count()


def new_near_prefix() -> bytes:
    """Return what distinguishes a new binding in a near cache of this process."""
    return b"%x:" % next(_numbers)


class _Answering:
    """What a model answers by itself, without the cache."""

    model: MLModel

    def predict(self, data: BaseModel) -> BaseModel:
        """Return the model's own answer."""
        prediction: BaseModel = self.model.predict(data)
        return prediction

    def predict_many(self, inputs: list[BaseModel]) -> list[BaseModel]:
        """Return the model's own answers to many inputs, by one call."""
        return list(self.model.predict_many(inputs))

    # Methods are looked up on the class: ml-base's decorators forward missing attributes to the
    # inner model.

    @property
    def apredict(self) -> Callable[[Any], Any] | None:
        """What returns an awaitable of the model's own answer; None if nothing does."""
        return _asynchronous(self.model, "apredict") or _coroutine_function(self.model, "predict")

    @property
    def apredict_many(self) -> Callable[[list[Any]], Any] | None:
        """What returns an awaitable of the model's own answers; None if nothing does."""
        many = _asynchronous(self.model, "apredict_many")
        return many or _coroutine_function(self.model, "predict_many")

    @property
    def many_and_one(self) -> tuple[str, str]:
        """What calls with many inputs, and with one, are called in warnings."""
        return "predict_many", "predict"

    def value_of(self, data: Any, prediction: Any) -> Any:  # noqa: ARG002 - as Bound's
        """Return the prediction itself."""
        return prediction

    def answers_many_by(self, methods: Collection[str]) -> bool:
        """Return whether one call of the model answers many inputs, by one of these methods."""
        kind = type(self.model)
        return any(callable(getattr(kind, method, None)) for method in methods)


def _asynchronous(model: MLModel, method: str) -> Callable[[Any], Any] | None:
    return getattr(model, method) if hasattr(type(model), method) else None


def _coroutine_function(model: MLModel, method: str) -> Callable[[Any], Any] | None:
    function = getattr(model, method, None)
    return function if inspect.iscoroutinefunction(function) else None


class Binding(_Answering):
    """A snapshot of one model.

    Args:
        model: the model.
        config: the decorator's options.
        revision: the model's revision; "" if none is given.
        inside: the decorators between the cache and the model.

    Attributes:
        rounds: whether inputs are rounded.
        known_inputs: the classes seen so far, and whether their instances are inputs.
        input_encoders: the encoders of inputs by class; they may raise any exception.
        keys: makes keys from canonical bytes.
        codec: converts predictions to entries and back.
        near_prefix: distinguishes the bindings of a process in a near cache.

    Raises:
        ConfigurationError: an option does not fit the model's schemas.
    """

    def __init__(
        self, model: MLModel, config: Config, revision: str = "", inside: Inside = NOTHING
    ) -> None:
        self.model = model
        self.near_prefix = new_near_prefix()
        self.qualified_name: str = model.qualified_name
        self.version: str = model.version
        self.revision = revision
        self.inside = inside
        self._inputs = Inputs(model, config)
        self.rounds = self._inputs.rounds
        self.known_inputs = self._inputs.known
        self.input_schema = self._inputs.schema
        self.output_schema = fitting.schema("output_schema", model)
        self.output_fingerprint = fingerprint(self.output_schema)
        self.namespace = Namespace(config.prefix, self.qualified_name, self.version)
        self.selection = fitting.selection(self.input_schema, config)
        self.left_out = fitting.left_out(self.input_schema, self.selection)
        check_canonical(self.input_schema, self.selection)
        self.keys = KeyMaker(
            self.namespace,
            revision=revision,
            schema=self.output_fingerprint,
            decorators=inside.identity,
            selection=self.selection,
            ordered_dicts=config.ordered_dicts,
            secret=config.digest_secret,
        )
        self.codec = config.codec(self.output_schema, _serder(config))
        self.input_encoders = self.keys.encoders

    def is_current(self) -> bool:
        """Return whether the model still has the binding's name, version and decorators."""
        model = self.model
        return (
            model.version == self.version
            and model.qualified_name == self.qualified_name
            and (not self.inside.watched or self.inside.is_current())
        )

    def rounded(self, data: BaseModel) -> BaseModel:
        """Return the input as the model receives it, with or without a cache."""
        return self._inputs.rounded(data)

    def recorded(self, data: BaseModel) -> Any:
        """Return an input as values for the log of requests."""
        return recorded(data, self.selection)

    def canonical(self, data: BaseModel) -> bytes:
        """Return the canonical bytes of an input that is already rounded.

        Raises:
            NotCacheableError: the input has no key; the message says why.
        """
        if not self._inputs.accept(type(data)):
            raise NotCacheableError(
                f"expected an instance of {self.input_schema.__qualname__}, "
                f"got {type(data).__qualname__}"
            )
        return self.keys.canonical(data)


@dataclass(eq=False)
class Unbound(_Answering):
    """A model that currently can't be cached; it is predicted without the cache.

    Attributes:
        model: the model.
        qualified_name: its current name.
        version: its current version.
        namespace: the namespace of its entries.
        inputs: its inputs, which are still rounded; None if the options don't match its schema.
        reason: why it can't be cached.
        lasts: returns whether it still can't be cached.
    """

    model: MLModel
    qualified_name: str
    version: str
    namespace: Namespace
    inputs: Inputs | None
    reason: str
    lasts: Callable[[], bool]

    near_prefix = b""
    output_schema: ClassVar[type] = object
    left_out = ()
    known_inputs: ClassVar[Mapping[type, bool]] = {}
    input_encoders: ClassVar[Mapping[type, Callable[[Any], bytes]]] = {}

    @property
    def rounds(self) -> bool:
        """Whether inputs are rounded."""
        return self.inputs is not None and self.inputs.rounds

    def is_current(self) -> bool:
        """Return whether the model is still the same and still can't be bound."""
        model = self.model
        return (
            model.version == self.version
            and model.qualified_name == self.qualified_name
            and self.lasts()
        )

    def rounded(self, data: BaseModel) -> BaseModel:
        """Return the input as the model receives it, with or without a cache."""
        return data if self.inputs is None else self.inputs.rounded(data)

    def _refuse(self, *_: Any, **__: Any) -> Any:
        """Raise `NotCacheableError`: no input has a key, and without a key there is no entry."""
        raise NotCacheableError(self.reason)

    canonical = recorded = _refuse
    keys = codec = property(_refuse)


def _serder(config: Config) -> Serder:
    """Return what entries are written with: packed ones do without names."""
    packs = config.layout == "packed" and config.serder in (JSON, MESSAGE_PACK)
    return VALUES if packs else config.serder

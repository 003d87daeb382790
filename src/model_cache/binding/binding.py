"""The binding of a decorator to a model: all that a prediction needs to know, frozen.

`predict` reads the binding once, so that a `set_model` in the middle of a request can't store
one model's answer under another's key. The logic of a prediction is here, without any I/O:
which key an input has, what an entry means, and what entry a prediction becomes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TypeAlias

from ml_base.ml_model import MLModel
from pydantic import BaseModel

from model_cache.binding import fitting
from model_cache.binding.fingerprint import fingerprint
from model_cache.binding.inner_caches import NOTHING, Inside
from model_cache.binding.inputs import Inputs
from model_cache.binding.unkeyed import check_canonical
from model_cache.entries.codec import Codec, Read
from model_cache.errors import NotCacheableError
from model_cache.interruptions import reraise_interruption
from model_cache.keys.key import KeyMaker, Namespace, tag_key
from model_cache.options.config import Config

_numbers = itertools.count()


class Binding:
    """One model, as it was at one moment.

    Args:
        model: the model.
        config: the decorator's options.
        revision: of the model; "" if none is given.
        inside: the decorators between the cache and the model.

    Attributes:
        codec: turns predictions into entries, and back.
        rounds: whether inputs are rounded.
        known_inputs: classes that were looked at, and whether their instances are inputs.
        input_encoders: what encodes inputs of a class, and may raise anything.
        near_prefix: tells apart the bindings of a process in a near cache.

    Raises:
        ConfigurationError: an option does not fit the model's schemas.
    """

    def __init__(
        self, model: MLModel, config: Config, revision: str = "", inside: Inside = NOTHING
    ) -> None:
        self.model = model
        self.near_prefix = b"%x:" % next(_numbers)
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
        check_canonical(self.input_schema, self.selection)
        self._keys = KeyMaker(
            self.namespace,
            revision=revision,
            schema=self.output_fingerprint,
            decorators=inside.identity,
            selection=self.selection,
            secret=config.key_secret,
        )
        self.input_encoders = self._keys.encoders
        self.codec = Codec(
            self.output_schema,
            serder=config.serder,
            compressor=config.compressor,
            max_entry_bytes=config.max_entry_bytes,
            integrity=config.integrity,
            tag_key=tag_key(config.key_secret),
            ttl=config.ttl,
        )

    def predict(self, data: BaseModel) -> BaseModel:
        """Return the model's own answer."""
        prediction: BaseModel = self.model.predict(data)
        return prediction

    @property
    def predicts_many(self) -> bool:
        """Whether the model has a `predict_many` of its own."""
        return _predicts_many(self.model)

    def predict_many(self, inputs: list[BaseModel]) -> list[BaseModel]:
        """Return the model's own answers to many inputs."""
        return list(self.model.predict_many(inputs))

    def is_current(self) -> bool:
        """Whether the model is still the one that was bound: its name, version and decorators."""
        model = self.model
        return (
            model.version == self.version
            and model.qualified_name == self.qualified_name
            and (not self.inside.watched or self.inside.is_current())
        )

    def rounded(self, data: BaseModel) -> BaseModel:
        """Return an input as the model is to see it, whether or not there is a cache."""
        return self._inputs.rounded(data)

    def canonical(self, data: BaseModel) -> bytes:
        """Return the canonical bytes of an input, which is rounded already.

        Raises:
            NotCacheableError: the input has no key, and why.
        """
        if not self._inputs.accept(type(data)):
            raise NotCacheableError(
                f"expected an instance of {self.input_schema.__qualname__}, "
                f"got {type(data).__qualname__}"
            )
        try:
            return self._keys.canonical(data)
        except NotCacheableError:
            raise
        except Exception as error:  # a property's, say
            reraise_interruption(error)
            raise NotCacheableError(f"reading it raised {type(error).__name__}") from error

    def key(self, canonical: bytes) -> bytes:
        """Return where the prediction for an input is kept, by its canonical bytes."""
        return self._keys.key_of(canonical)

    def read(self, key: bytes, entry: bytes) -> Read:
        """Return the prediction that an entry holds, if any, and whether it is fresh."""
        return self.codec.read(key, entry)

    def reader(self, key: bytes, entry: bytes) -> Callable[[], BaseModel]:
        """Return what decodes an entry that has been read, to a new object each time."""
        return self.codec.reader(key, entry)

    def fresh_for(self, entry: bytes) -> float | None:
        """Return for how many seconds a fresh entry stays fresh; None for ever."""
        return self.codec.fresh_for(entry)

    def encode(self, key: bytes, prediction: BaseModel, fresh_until: int | None = None) -> bytes:
        """Return a prediction as an entry.

        Raises:
            EntryRefusedError: the prediction can't be stored.
        """
        return self.codec.encode(key, prediction, fresh_until)


class Unbound:
    """A model that can't be cached for the moment, which is predicted without the cache.

    Args:
        model: the model.
        qualified_name: its name now.
        version: its version now.
        namespace: of its entries.
        inputs: its inputs, which are rounded nevertheless; None if the options don't fit them.
        reason: why it can't be cached.
        lasts: whether that may still be so.
    """

    def __init__(
        self,
        model: MLModel,
        qualified_name: str,
        version: str,
        namespace: Namespace,
        inputs: Inputs | None,
        reason: str,
        lasts: Callable[[], bool],
    ) -> None:
        self.model = model
        self.qualified_name = qualified_name
        self.version = version
        self.namespace = namespace
        self.reason = reason
        self.near_prefix = b""
        self._inputs = inputs
        self._lasts = lasts

    def predict(self, data: BaseModel) -> BaseModel:
        """Return the model's own answer."""
        prediction: BaseModel = self.model.predict(data)
        return prediction

    @property
    def predicts_many(self) -> bool:
        """Whether the model has a `predict_many` of its own."""
        return _predicts_many(self.model)

    def predict_many(self, inputs: list[BaseModel]) -> list[BaseModel]:
        """Return the model's own answers to many inputs."""
        return list(self.model.predict_many(inputs))

    def is_current(self) -> bool:
        """Whether the model is still the same, and binding it would still be in vain."""
        model = self.model
        return (
            model.version == self.version
            and model.qualified_name == self.qualified_name
            and self._lasts()
        )

    def rounded(self, data: BaseModel) -> BaseModel:
        """Return an input as the model is to see it, whether or not there is a cache."""
        return data if self._inputs is None else self._inputs.rounded(data)

    def canonical(self, data: BaseModel) -> bytes:  # noqa: ARG002 - as Binding's
        """Raise `NotCacheableError`."""
        raise NotCacheableError(self.reason)

    def key(self, canonical: bytes) -> bytes:  # noqa: ARG002
        """Raise `NotCacheableError`."""
        raise NotCacheableError(self.reason)

    def read(self, key: bytes, entry: bytes) -> Read:  # noqa: ARG002
        """Return that there is no prediction: a model without keys has no entries."""
        return Read(None, fresh=False)

    def reader(self, key: bytes, entry: bytes) -> Callable[[], BaseModel]:  # noqa: ARG002
        """Raise `NotCacheableError`."""
        raise NotCacheableError(self.reason)

    def fresh_for(self, entry: bytes) -> float | None:  # noqa: ARG002
        """Return 0: there are no entries."""
        return 0.0

    def encode(
        self,
        key: bytes,  # noqa: ARG002
        prediction: BaseModel,  # noqa: ARG002
        fresh_until: int | None = None,  # noqa: ARG002
    ) -> bytes:
        """Raise `NotCacheableError`."""
        raise NotCacheableError(self.reason)


Bound: TypeAlias = Binding | Unbound
"""What a prediction begins with."""


def _predicts_many(model: MLModel) -> bool:
    # Its class must have it: ml-base's decorators forward what they lack to the model inside.
    return callable(getattr(type(model), "predict_many", None))

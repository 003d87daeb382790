"""The binding of a decorator to a model: all that a prediction needs to know, frozen.

`predict` reads the binding once, so that a `set_model` in the middle of a request can't store
one model's answer under another's key. The logic of a prediction is here, without any I/O:
which key an input has, what an entry means, and what entry a prediction becomes.
"""

from __future__ import annotations

import time
import warnings
from typing import Any, NamedTuple

from ml_base import MLModelDecorator
from ml_base.ml_model import MLModel
from pydantic import BaseModel

from model_cache.canonical import INPUTS, Selection
from model_cache.canonical.identities import class_identity, text
from model_cache.codec import Codec
from model_cache.config import Config
from model_cache.errors import ConfigurationError, ModelCacheError, NotCacheableError
from model_cache.events import BindingFailed, Hook
from model_cache.forks import ForkSafeLock
from model_cache.keyless import check_canonical, warn_of_fresh_defaults
from model_cache.keys import KeyMaker, Namespace, tag_key
from model_cache.layers import layers
from model_cache.precision import Rounder, Rules
from model_cache.revision import revision_of
from model_cache.schemas import fields_at, fingerprint, holds_numbers, path_tree

# After which a model that could not be bound is tried again: a file may have been on its way.
_RETRY_SECONDS = 1.0
# How many classes of inputs are remembered as instances of the schema, or not.
_MOST_CLASSES = 256


class Request(NamedTuple):
    """An input that can be cached.

    Attributes:
        data: the input as the model is to see it: rounded, if so configured.
        key: where its prediction is kept.
    """

    data: BaseModel
    key: bytes


class Binding:
    """One model, as it was at one moment.

    Args:
        model: the model.
        config: the decorator's options.

    Raises:
        ConfigurationError: an option does not fit the model's schemas.
    """

    def __init__(self, model: MLModel, config: Config) -> None:
        self.model = model
        self.qualified_name: str = model.qualified_name
        self.version: str = model.version
        # Once: some decorators make a new class at each access.
        self.input_schema = _schema("input_schema", model)
        self.output_schema = _schema("output_schema", model)
        self.namespace = Namespace(config.prefix, self.qualified_name, self.version)
        selection = _selection(self.input_schema, config)
        check_canonical(self.input_schema, selection)
        self._selection = selection
        self._keys = KeyMaker(
            self.namespace,
            revision=revision_of(config.revision),
            schema=fingerprint(self.output_schema),
            decorators=_decorators(model),
            selection=selection,
            secret=config.key_secret,
        )
        codec = Codec(
            self.output_schema,
            serder=config.serder,
            compressor=config.compressor,
            max_entry_bytes=config.max_entry_bytes,
            integrity=config.integrity,
            tag_key=tag_key(config.key_secret),
        )
        self.decode, self.encode = codec.decode, codec.encode
        self._rounder = _rounder(self.input_schema, config)
        self._accepted: dict[type, bool] = {}

    def predict(self, data: BaseModel) -> BaseModel:
        """Return the model's own answer."""
        prediction: BaseModel = self.model.predict(data)
        return prediction

    def is_current(self) -> bool:
        """Whether the model still has the name and version that it was bound under."""
        model = self.model
        return bool(model.version == self.version and model.qualified_name == self.qualified_name)

    def request(self, data: BaseModel) -> Request:
        """Return what to look up for an input.

        Raises:
            NotCacheableError: the input has no key, and why.
        """
        try:
            accepted = self._accepted.get(type(data))
            if accepted is None:
                accepted = self._accept(type(data))
            if accepted:
                if self._rounder is not None:
                    data = self._rounder(data)
                return Request(data, self._keys.key(data))
        except NotCacheableError:
            raise
        except Exception as error:  # an unhashable class, say
            raise NotCacheableError(f"reading it raised {type(error).__name__}") from error
        raise NotCacheableError(
            f"a {type(data).__qualname__} is no instance of {self.input_schema.__qualname__}"
        )

    def warn_of_echoed_fields(self) -> None:
        """Warn if a hit would return a field of another request's input, or if nothing can hit."""
        warn_of_fresh_defaults(self.input_schema, self._selection, stacklevel=3)
        echoed = self.input_schema.model_fields.keys() & self.output_schema.model_fields.keys()
        for name in sorted(echoed):
            if self._selection is not None and self._selection.omits(name):
                warnings.warn(
                    f"{name!r} is a field of the output and of the input, but not part of the "
                    "key: a hit returns the value that another request came with. If a decorator "
                    "passes it through (a prediction id, say), put that decorator outside the "
                    "cache: the cache's set_model gets the model, and the other's gets the cache.",
                    UserWarning,
                    stacklevel=3,
                )

    def _accept(self, cls: type) -> bool:
        """Whether instances of a class are inputs: by name, since schemas may be built anew."""
        schema = self.input_schema
        accepted = any(
            base is schema
            or (base.__module__, base.__qualname__) == (schema.__module__, schema.__qualname__)
            for base in cls.__mro__
        )
        if len(self._accepted) >= _MOST_CLASSES:
            self._accepted.clear()
        self._accepted[cls] = accepted
        return accepted


class Unbindable(Binding):
    """A model that changed into one which the options don't fit: predicted without the cache."""

    def __init__(
        self, before: Binding, prefix: str | None, name: str, version: str, reason: str
    ) -> None:
        self.model = before.model
        self.qualified_name = name
        self.version = version
        self.namespace = Namespace(prefix, name, version)
        self._reason = reason
        self._retried_at = time.monotonic() + _RETRY_SECONDS

    def is_current(self) -> bool:
        """Whether the model is still the same, for a while: what failed may have passed by then."""
        return super().is_current() and time.monotonic() < self._retried_at

    def request(self, data: BaseModel) -> Request:  # noqa: ARG002 - as Binding's
        raise NotCacheableError(self._reason)


class CurrentBinding:
    """The binding that predictions begin with, made anew when the model changes under it.

    Args:
        config: the decorator's options.
        hook: is told if the model changed into one which they don't fit.

    Attributes:
        binding: the binding; None before the first model.
        lock: to be held while setting it.
    """

    def __init__(self, config: Config, hook: Hook) -> None:
        self.binding: Binding | None = None
        self.lock = ForkSafeLock()
        self._config = config
        self._hook = hook

    def bound(self) -> Binding:
        """Return the binding as it is.

        Raises:
            ModelCacheError: there is no model yet.
        """
        if self.binding is None:
            raise ModelCacheError("there is no model yet; give one with set_model")
        return self.binding

    def get(self) -> Binding:
        """Return the binding, made anew if the model was reloaded under another version or name.

        A prediction must not fail for what the cache can't do: it goes without, then.

        Raises:
            ModelCacheError: there is no model yet.
        """
        binding = self.bound()
        model = binding.model
        try:
            if binding.is_current():
                return binding
            name, version = model.qualified_name, model.version
        except Exception as error:  # it can't tell now, and may the next time
            return self._unbindable(binding, binding.qualified_name, binding.version, error)
        try:
            renewed = Binding(model, self._config)
        except Exception as error:  # the options don't fit its schemas any more
            renewed = self._unbindable(binding, name, version, error)
        with self.lock:
            if self.binding is binding:  # else a set_model came in between
                self.binding = renewed
        return renewed

    def _unbindable(
        self, binding: Binding, name: str, version: str, error: Exception
    ) -> Unbindable:
        self._hook(BindingFailed(type(binding.model).__qualname__, str(error)))
        return Unbindable(binding, self._config.prefix, name, version, str(error))


def _decorators(model: MLModel) -> bytes:
    """Return what identifies the decorators around a model, which may change its answers.

    They pass the model's name and version through, so the namespace does not tell.
    """
    parts = []
    for layer in layers(model):
        if not isinstance(layer, MLModelDecorator):
            break
        cls = type(layer)
        parts.append(class_identity(cls))
        configuration = layer.__dict__.get("_configuration") or {}
        relevant = getattr(cls, "ANSWER_OPTIONS", configuration)
        for name, value in sorted(configuration.items()):
            if name in relevant:
                parts += (text(name), _encoded_option(cls, name, value))
    return b"".join(parts)


def _encoded_option(cls: type, name: str, value: object) -> bytes:
    try:
        return INPUTS.encode(value)
    except NotCacheableError as error:
        # Its type alone would let two decorators that answer differently share entries.
        raise ConfigurationError(
            "model",
            f"the decorator {cls.__qualname__} inside the cache has an option {name!r} that has no "
            f"canonical form ({error}); give its type one with model_cache.register_canonical, "
            f"or list the options that make a difference in {cls.__qualname__}.ANSWER_OPTIONS",
        ) from None


def _schema(name: str, model: MLModel) -> type[BaseModel]:
    schema = getattr(model, name)
    if not (isinstance(schema, type) and issubclass(schema, BaseModel)):
        raise ConfigurationError("model", f"its {name} is {schema!r}, not a pydantic model")
    return schema


def _selection(schema: type[BaseModel], config: Config) -> Selection | None:
    for option, paths in (
        ("hashing_fields", config.hashing_fields),
        ("ignored_fields", config.ignored_fields),
    ):
        if paths is None:
            continue
        for path in paths:
            fields_at(option, schema, path)
        selection = Selection(path_tree(paths), keep=option == "hashing_fields")
        if all(selection.omits(name) for name in schema.model_fields):
            raise ConfigurationError(option, "leaves no field, so all inputs would share one entry")
        return selection
    return None


def _rounder(schema: type[BaseModel], config: Config) -> Rounder | None:
    if config.places is None or isinstance(config.places, int):
        return None if config.places is None else Rounder(config.places)
    rules: dict[str, Any] = {}
    for path, places in sorted(config.places.items()):
        found = fields_at("reduced_precision_fields", schema, path)
        if not any(map(holds_numbers, found)):
            raise ConfigurationError(
                "reduced_precision_fields", f"{path!r} holds no numbers, so it can't be rounded"
            )
        node: dict[str, Rules | int] = rules
        *parents, leaf = path.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})  # type: ignore[assignment]
        node[leaf] = places
    return Rounder(rules)

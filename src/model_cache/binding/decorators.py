"""The decorators between a cache and its model, which may change the model's answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ml_base import MLModelDecorator
from ml_base.ml_model import MLModel

from model_cache.errors import ConfigurationError, NotCacheableError
from model_cache.keys.canonical import INPUTS
from model_cache.keys.canonical.identities import class_identity, text


def layers(model: MLModel | None) -> Iterator[MLModel]:
    """Yield a model's decorators, outermost first, and then the model."""
    while model is not None:
        yield model
        # Through __dict__, since ml-base forwards attribute access to the inner model.
        model = model.__dict__.get("_model") if isinstance(model, MLModelDecorator) else None


def innermost(model: MLModel) -> MLModel:
    """Return the model inside all decorators."""
    *_, last = layers(model)
    return last


class Inside(NamedTuple):
    """A snapshot of the decorators inside a cache.

    Attributes:
        identity: canonical bytes for their effect on an answer.
        watched: attributes that must not have changed: (attributes, name, value).
    """

    identity: bytes
    watched: tuple[tuple[dict[str, Any], str, object], ...]

    def is_current(self) -> bool:
        """Return whether the decorators still wrap the same models."""
        return all(attributes.get(name) is value for attributes, name, value in self.watched)


NOTHING = Inside(b"", ())


def decorator_identity(layer: MLModel, revision: str = "") -> bytes:
    """Return canonical bytes for a decorator: its class, relevant options and revision.

    The namespace is not enough, because a decorator has the name and version of its model.

    Args:
        layer: the decorator.
        revision: the revision of its model, if it is a cache.
    """
    cls = type(layer)
    parts = [class_identity(cls)]
    configuration = layer.__dict__.get("_configuration") or {}
    relevant = getattr(cls, "ANSWER_OPTIONS", configuration)
    for name, value in sorted(configuration.items()):
        if name in relevant:
            parts += (text(name), _encoded_option(cls, name, value))
    if revision:
        parts.append(b"r" + text(revision))  # can't be confused with an option's name
    return b"".join(parts)


def _encoded_option(cls: type, name: str, value: object) -> bytes:
    try:
        return INPUTS.encode(value)
    except NotCacheableError as error:
        # If only the type counted, decorators that answer differently would share entries.
        raise ConfigurationError(
            "model",
            f"the option {name!r} of the decorator {cls.__qualname__} inside the cache has no "
            f"canonical form ({error}); register one with model_cache.register_canonical, "
            f"or list the options that affect answers in {cls.__qualname__}.ANSWER_OPTIONS",
        ) from None

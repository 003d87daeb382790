"""The decorators between a cache and its model, which may change the model's answers."""

from __future__ import annotations

from typing import Any, NamedTuple

from ml_base.ml_model import MLModel

from model_cache.errors import ConfigurationError, NotCacheableError
from model_cache.keys.canonical import INPUTS
from model_cache.keys.canonical.identities import class_identity, text


class Inside(NamedTuple):
    """The decorators inside a cache, as they were at one moment.

    Attributes:
        identity: canonical bytes for what they do to an answer.
        watched: whose attributes must still be what they were: (attributes, name, value).
    """

    identity: bytes
    watched: tuple[tuple[dict[str, Any], str, object], ...]

    def is_current(self) -> bool:
        """Whether no decorator was given another model since."""
        return all(attributes.get(name) is value for attributes, name, value in self.watched)


NOTHING = Inside(b"", ())


def decorator_identity(layer: MLModel, revision: str = "") -> bytes:
    """Return what identifies a decorator: its class, the options that matter, its revision.

    It passes the model's name and version through, so the namespace does not tell.

    Args:
        layer: the decorator.
        revision: what it tells models of one version apart by, if it is a cache.
    """
    cls = type(layer)
    parts = [class_identity(cls)]
    configuration = layer.__dict__.get("_configuration") or {}
    relevant = getattr(cls, "ANSWER_OPTIONS", configuration)
    for name, value in sorted(configuration.items()):
        if name in relevant:
            parts += (text(name), _encoded_option(cls, name, value))
    if revision:
        parts.append(b"r" + text(revision))  # no name of an option begins so
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

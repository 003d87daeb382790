"""Models of different classes that answer for each other, since their keys are the same."""

from __future__ import annotations

import warnings
import weakref
from typing import Any

from model_cache.binding.binding import Binding
from model_cache.binding.decorators import innermost
from model_cache.keys.canonical.identities import class_identity
from model_cache.options.config import Config

# The models of this process, by all that the keys of their entries depend on. A model that is
# gone says nothing: a test's, or one that was replaced before.
_models: weakref.WeakValueDictionary[tuple[Any, ...], Any] = weakref.WeakValueDictionary()


def warn_of_namesakes(binding: Binding, config: Config, stacklevel: int) -> None:
    """Warn if a model of another class in this process has the same keys in the same store."""
    model, endpoint = innermost(binding.model), config.endpoint
    key = (
        (str(endpoint), endpoint.database, endpoint.embedded),
        binding.namespace.text,
        binding.revision,
        class_identity(binding.input_schema),
        binding.output_fingerprint,
        binding.inside.identity,
        repr(binding.selection),
    )
    other = _models.get(key)
    _models[key] = model
    # By name: a class that was reloaded is the same one.
    if other is None or _name(other) == _name(model):
        return
    warnings.warn(
        f"two models answer for each other: {_name(other)} and {_name(model)} both have the name "
        f"{binding.qualified_name!r}, the version {binding.version!r} and the same schemas. Give "
        "one of them another name or version, or give the caches different revisions or prefixes.",
        UserWarning,
        stacklevel=stacklevel + 1,
    )


def _name(model: object) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"

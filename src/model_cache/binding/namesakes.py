"""Detect models of different classes whose keys are the same, so that they share entries."""

from __future__ import annotations

import warnings
import weakref
from typing import Any

from model_cache.binding.binding import Binding
from model_cache.binding.decorators import innermost
from model_cache.keys.canonical.identities import class_identity
from model_cache.options.config import Config

# The models of this process, by everything that their keys depend on. Weak: a model that no
# longer exists, such as one that was replaced, does not conflict.
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
    # By name: a reloaded class counts as the same.
    if other is None or _name(other) == _name(model):
        return
    warnings.warn(
        f"two models share cache entries: {_name(other)} and {_name(model)} both have the name "
        f"{binding.qualified_name!r}, the version {binding.version!r} and the same schemas. Change "
        "the name or version of one of them, or use different revisions or prefixes.",
        UserWarning,
        stacklevel=stacklevel + 1,
    )


def _name(model: object) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"

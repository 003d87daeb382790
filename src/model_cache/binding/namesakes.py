"""Detect models whose code differs and whose keys are the same, so that they share entries."""

from __future__ import annotations

import contextlib
import types
import warnings
import weakref
from typing import Any

from model_cache.binding.binding import Binding
from model_cache.binding.decorators import innermost
from model_cache.binding.facts import OpaqueError, carried_facts
from model_cache.keys.canonical.identities import class_identity
from model_cache.options.config import Config

# The models of this process, by everything that their keys depend on. Weak: a model that no
# longer exists, such as one that was replaced, does not conflict.
_models: weakref.WeakValueDictionary[tuple[Any, ...], Any] = weakref.WeakValueDictionary()


def warn_of_namesakes(binding: Binding, config: Config, stacklevel: int) -> None:
    """Warn if a model with other code in this process has the same keys in the same store."""
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
    if other is None:
        return
    if _name(other) == _name(model):  # its module was reloaded, or its notebook's cell run again
        _warn_of_other_code(binding, other, model, stacklevel + 1)
        return
    warnings.warn(
        f"two models share cache entries: {_name(other)} and {_name(model)} both have the name "
        f"{binding.qualified_name!r}, the version {binding.version!r} and the same schemas. Change "
        "the name or version of one of them, or use different revisions or prefixes.",
        UserWarning,
        stacklevel=stacklevel + 1,
    )


def _warn_of_other_code(binding: Binding, other: object, model: object, stacklevel: int) -> None:
    if type(other) is type(model) or _code(type(other)) == _code(type(model)):
        return
    warnings.warn(
        f"{_name(model)} was defined again with other code, but still has the version "
        f"{binding.version!r}: it finds the cache entries of the old code. Change the version, set "
        "a revision, or call purge().",
        UserWarning,
        stacklevel=stacklevel + 1,
    )


def _code(cls: type) -> dict[str, bytes]:
    """Return the code of the methods that a class defines itself, as far as it can be compared."""
    known = {}
    for name, function in vars(cls).items():
        if isinstance(function, types.FunctionType):
            with contextlib.suppress(OpaqueError):
                known[name] = carried_facts(function)
    return known


def _name(model: object) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"

"""Detect different functions of a process that have the same name and version."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Callable
from typing import Any

from model_cache.errors import ConfigurationError
from model_cache.options.config import Config

# Weak: a function that no longer exists does not conflict.
_functions: weakref.WeakValueDictionary[tuple[Any, ...], Any] = weakref.WeakValueDictionary()


def refuse_namesake(
    function: Callable[..., Any], name: str, version: str, revision: str, config: Config
) -> None:
    """Refuse a function whose name in keys is that of another one in this process.

    Raises:
        ConfigurationError: they would return each other's results.
    """
    endpoint = config.endpoint
    place = str(endpoint), endpoint.database, endpoint.embedded
    key = (place, config.prefix, name, version, revision)
    if _other(key, function) is not None:
        gc.collect()  # it may be garbage already
    if (other := _other(key, function)) is not None:
        raise ConfigurationError(
            "name",
            f"{name!r} with version {version!r} is already the name of {'.'.join(_place(other))}; "
            f"choose another name or version for {'.'.join(_place(function))}",
        )
    with contextlib.suppress(TypeError):  # a ufunc can't be referred to weakly
        _functions[key] = function


def _other(key: tuple[Any, ...], function: Any) -> Any | None:
    """Return another function that has this key; one that was defined again is the same."""
    found = _functions.get(key)
    return None if found is None or _place(found) == _place(function) else found


def _place(function: Any) -> tuple[str, str]:
    named = function if hasattr(function, "__qualname__") else type(function)
    return str(named.__module__), str(named.__qualname__)

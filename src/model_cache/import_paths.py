"""Resolve import paths `package.module:name` in options."""

from __future__ import annotations

import importlib
from typing import Any

from model_cache.errors import ConfigurationError


def imported(option: str, path: str) -> Any:
    """Import the object at `package.module:name`.

    Raises:
        ConfigurationError: the path is malformed or can't be imported.
    """
    module, _, name = path.partition(":")
    if not (module and name):
        raise ConfigurationError(option, f"expected package.module:name, got {path!r}")
    try:
        found: Any = importlib.import_module(module)
        for attribute in name.split("."):
            found = getattr(found, attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigurationError(
            option, f"can't import {path!r} (package.module:name): {error}"
        ) from error
    return found

"""Report why a value has no canonical form, and where it is in the input."""

from __future__ import annotations

from typing import Any, NoReturn, TypeGuard

from model_cache.errors import NotCacheableError
from model_cache.interruptions import reraise_interruption

_LONGEST_NAME = 60
_LONGEST_PATH = 120


def refuse(error: Exception, place: str = "") -> NoReturn:
    """Raise `NotCacheableError` for the value at `place`.

    Args:
        error: the exception raised while encoding it. An interruption is re-raised unchanged.
        place: its place in the containing value.
    """
    if isinstance(error, NotCacheableError):
        path = _joined(place, error.path)
        raise NotCacheableError(error.reason, path) from error.__cause__
    reraise_interruption(error)
    if isinstance(error, RecursionError):
        reason = "it contains itself, or is nested too deeply"
    else:  # a half-built object, or an error in a user's function
        reason = f"reading it raised {type(error).__name__}"
    raise NotCacheableError(reason, place) from error


def item_of(key: object) -> str:
    """Return the place of a dict's item; keys that do not look like names are data, not shown."""
    return f"[{key!r}]" if is_name(key) else "[...]"


def attribute(name: Any) -> str:
    """Return the place of an attribute, without names that are data: those of extra fields."""
    return name if is_name(name) else "..."


def is_name(key: object) -> TypeGuard[str]:
    """Return whether a key of a dict looks like a name; others are data."""
    return type(key) is str and len(key) <= _LONGEST_NAME and key.isidentifier()


def _joined(place: str, path: str) -> str:
    dot = "." if place and path and not path.startswith("[") else ""
    joined = place + dot + path
    return joined if len(joined) <= _LONGEST_PATH else joined[:_LONGEST_PATH] + "..."

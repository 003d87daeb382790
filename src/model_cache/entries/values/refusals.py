"""Say that a value can't be stored."""

from __future__ import annotations


class NotStorableError(TypeError):
    """A part of a value can't be stored; the message says what and why, without its content."""


def not_storable(cls: type, why: str = "") -> NotStorableError:
    """Return the error for an instance of a class."""
    reason = f": {why}" if why else ""
    return NotStorableError(
        f"a value of type {cls.__module__}.{cls.__qualname__} can't be stored{reason}"
    )

"""Why what a function returns can't be stored."""

from __future__ import annotations

from model_cache.errors import ModelCacheError


class NotStorableError(TypeError):
    """A part of a value can't be stored; the message says which and why, without its content."""


def not_storable(cls: type, why: str = "") -> NotStorableError:
    """Return the error for an instance of a class."""
    reason = f": {why}" if why else ""
    return NotStorableError(
        f"a value of type {cls.__module__}.{cls.__qualname__} can't be stored{reason}"
    )


class RowsRefusedError(Exception):
    """A result can't be stored row by row; the message says why."""


class LengthError(ModelCacheError, ValueError):
    """A result does not have exactly one item for each row.

    Attributes:
        expected: the number of rows.
        found: the number of items.
    """

    def __init__(self, expected: int, found: int) -> None:
        super().__init__(expected, found)
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        rows = "1 row" if self.expected == 1 else f"{self.expected} rows"
        results = "1 result" if self.expected == 1 else f"{self.expected} results"
        return f"expected {results} for {rows}, got {self.found}"

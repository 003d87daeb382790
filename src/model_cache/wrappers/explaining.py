"""Explain to a user why two calls of a cached function share a key, or why they do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec

from model_cache.binding.explaining import Explanation, Keyed, explanation
from model_cache.keys.comparing import Comparer, Difference
from model_cache.keys.tables import Table
from model_cache.keys.tables.comparing import row_differences

P = ParamSpec("P")


class ExplainedCall(Generic[P]):
    """A call of a cached function, to `print` or to compare with another call.

    Attributes:
        key: the key of the call, or of its first row; None if it has none.
        no_key: which argument prevents a key, and why; None if it has a key.
    """

    def __init__(
        self, key: str | None, no_key: str | None, compare: Callable[P, Explanation]
    ) -> None:
        self.key = key
        self.no_key = no_key
        self._compare = compare

    def compared_to(self, *args: P.args, **kwargs: P.kwargs) -> Explanation:
        """Explain why this call and another one have the same key, or different ones.

        Of calls with many rows, it compares the first rows.

        Returns:
            What differs, and what of it is part of the key; `print` it. With `key_secret` or
            `encryption_key`, it shows no values.
        """
        return self._compare(*args, **kwargs)

    def __str__(self) -> str:
        return f"The call has no key: {self.no_key}" if self.key is None else f"Key: {self.key}"

    def __repr__(self) -> str:
        return f"ExplainedCall(key={self.key!r}, no_key={self.no_key!r})"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ExplainableCall:
    """The parts of a call that matter for its key.

    Attributes:
        keyed: returns its key.
        arguments: its arguments by name, with defaults, but without rows.
        shared: the arguments that are part of the key, as they are in the key.
        rows: the name of the parameter that takes rows, if one does.
        first_row: a table of the first row; None if there is none.
    """

    keyed: Callable[[], Keyed]
    arguments: Mapping[str, Any]
    shared: Mapping[str, Any]
    rows: str = ""
    first_row: Table | None = None

    def differences(self, other: ExplainableCall, comparer: Comparer) -> Iterator[Difference]:
        """Yield where another call differs in what is part of the key."""
        if self.first_row is not None and other.first_row is not None:
            yield from row_differences(self.first_row, other.first_row, comparer, self.rows)
        yield from _between(self.shared, other.shared, comparer)


def explainer(
    read: Callable[P, ExplainableCall], *, hides_values: bool
) -> Callable[P, ExplainedCall[P]]:
    """Return a function that explains calls.

    Args:
        read: returns the call with some arguments.
        hides_values: whether to show no values.
    """

    def explain(*args: P.args, **kwargs: P.kwargs) -> ExplainedCall[P]:
        a = read(*args, **kwargs)

        def compare(*args: P.args, **kwargs: P.kwargs) -> Explanation:
            b, comparer = read(*args, **kwargs), Comparer(hides=hides_values)
            return explanation(
                a.keyed(),
                b.keyed(),
                list(a.differences(b, comparer)),
                list(_between(a.arguments, b.arguments, comparer)),
                hides_values=hides_values,
            )

        return ExplainedCall(*a.keyed(), compare)

    return explain


def _between(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], comparer: Comparer
) -> Iterator[Difference]:
    """Yield where the arguments of two calls differ."""
    for name, value in ours.items():
        yield from comparer.differences(value, theirs[name], path=name)

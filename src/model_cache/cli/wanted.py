"""Which models a command is asked for, and what there is instead if there are none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from model_cache.errors import did_you_mean


@dataclass(frozen=True)
class ModelVersion:
    """One version of a model.

    Attributes:
        prefix: the prefix of the keys; None for none.
        model: the qualified name.
        version: the model's version.
    """

    prefix: str | None
    model: str
    version: str


class Wanted(NamedTuple):
    """Which models to show; None for all."""

    prefix: str | None
    model: str | None
    version: str | None

    def has(self, prefix: str | None, model: str, version: str) -> bool:
        """Return whether a version of a model is wanted."""
        return (
            self.prefix in (None, prefix)
            and self.model in (None, model)
            and self.version in (None, version)
        )

    @property
    def is_limited(self) -> bool:
        """Whether not all models are wanted."""
        return self != EVERYTHING

    def instead(self, there: Iterable[ModelVersion]) -> str:
        """Return what may have been meant, if nothing that there is is wanted."""
        parts = ((each.prefix, each.model, each.version) for each in there)
        hint = instead(parts, self.model, lambda prefix: self.prefix in (None, prefix))
        return f"nothing matches the options; {hint}"


EVERYTHING = Wanted(None, None, None)


def instead(
    there: Iterable[tuple[str | None, str, str]],
    model: str | None,
    is_prefix: Callable[[str | None], bool],
) -> str:
    """Return which entries may have been meant.

    Args:
        there: prefix, qualified name and version of all entries.
        model: the name that was asked for; None for any.
        is_prefix: returns whether a prefix was asked for.
    """
    everything = set(there)
    if not everything:
        return "there are no entries"
    names = {name for _, name, _ in everything}
    if model is not None and model not in names:
        return did_you_mean(model, names)
    of_model = [parts for parts in everything if model in (None, parts[1])]
    subject = "there are" if model is None else "it has"
    if versions := sorted({version for prefix, _, version in of_model if is_prefix(prefix)}):
        return f"{subject} versions {', '.join(map(repr, versions))}"
    prefixes = {prefix for prefix, _, _ in of_model}
    named = sorted(repr(prefix) for prefix in prefixes if prefix is not None)
    given = [f"under prefix {', '.join(named)}"] if named else []
    return f"{subject} entries {' and '.join(given + ['without a prefix'] * (None in prefixes))}"

"""Explain to a user why two inputs share a key, or why they do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from pydantic import BaseModel

from model_cache.binding.binding import Binding, Unbound
from model_cache.errors import NotCacheableError
from model_cache.keys.comparing import Comparer, Difference

_MOST_LINES = 20


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """A value that is rounded for the key and for the model.

    Attributes:
        input: "a" or "b".
        field: the dotted path of the value.
        before: the value in the input; None if it is not shown.
        after: the rounded value.
    """

    input: str
    field: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        values = "" if self.before is None else f": {self.before} becomes {self.after}"
        return f"{self.field} of {self.input}{values}"


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why two inputs share a key, or why they do not; `print` it.

    It contains no value of a secret or of a field with `repr=False`, and with `key_secret` or
    `encryption_key` no values at all.

    Attributes:
        same: whether the inputs have the same key.
        key_a: the first input's key; None if it has none.
        key_b: the second input's key.
        no_key_a: which field of the first input prevents a key, and why; None if it has a key.
        no_key_b: the same of the second input.
        differences: where the inputs differ, after rounding, in what is part of the key.
        ignored: where they differ in what is not part of the key.
        rounded: the values that are rounded.
        hides_values: whether no values are shown, because `key_secret` or `encryption_key` is set.
    """

    same: bool
    key_a: str | None
    key_b: str | None
    no_key_a: str | None
    no_key_b: str | None
    differences: tuple[Difference, ...]
    ignored: tuple[Difference, ...]
    rounded: tuple[Rounded, ...]
    hides_values: bool

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        if self.key_a is not None and self.key_b is not None:
            yield f"The inputs have {'the same key' if self.same else 'different keys'}."
        for name, problem in (("a", self.no_key_a), ("b", self.no_key_b)):
            if problem is not None:
                yield f"Input {name} has no key: {problem}"
        yield from _section("They differ in:", self.differences)
        yield from _section("Not part of the key:", self.ignored)
        yield from _section("Rounded:", self.rounded)
        if self.hides_values and (self.differences or self.ignored or self.rounded):
            yield "Values are not shown, because key_secret or encryption_key is set."


def explain(
    bound: Binding | Unbound, a: BaseModel, b: BaseModel, *, hides_values: bool
) -> Explanation:
    """Explain how two inputs' keys come about.

    Args:
        bound: the model.
        a: an input.
        b: another input.
        hides_values: whether to show no values.
    """
    rounded_a, rounded_b = bound.rounded(a), bound.rounded(b)
    comparer = Comparer(hides=hides_values)
    differences: list[Difference] = []
    everything: list[Difference] = []
    if isinstance(bound, Binding):
        keyed = Comparer(bound.keys.canonicalizer, hides=hides_values)
        differences = keyed.differences(rounded_a, rounded_b, bound.selection)
        everything = comparer.differences(rounded_a, rounded_b)
    return explanation(
        Keyed.of(lambda: bound.keys.key_of(bound.canonical(rounded_a)).decode()),
        Keyed.of(lambda: bound.keys.key_of(bound.canonical(rounded_b)).decode()),
        differences,
        everything,
        rounded=tuple(
            Rounded(input=name, field=each.field, before=each.a, after=each.b)
            for name, before, after in (("a", a, rounded_a), ("b", b, rounded_b))
            for each in comparer.differences(before, after)
        ),
        hides_values=hides_values,
    )


class Keyed(NamedTuple):
    """The key of an input, or why it has none."""

    key: str | None
    no_key: str | None

    @classmethod
    def of(cls, make: Callable[[], str]) -> Self:
        """Return the key that a function returns, or the reason that it raises."""
        try:
            return cls(make(), None)
        except NotCacheableError as error:
            return cls(None, str(error))


def explanation(
    a: Keyed,
    b: Keyed,
    differences: Sequence[Difference],
    everything: Sequence[Difference],
    *,
    rounded: tuple[Rounded, ...] = (),
    hides_values: bool,
) -> Explanation:
    """Return an explanation.

    Args:
        a: the first input's key.
        b: the second input's key.
        differences: where the inputs differ in what is part of the key.
        everything: where they differ at all.
        rounded: the values that are rounded.
        hides_values: whether no values are shown.
    """
    fields = {each.field for each in differences}
    return Explanation(
        same=a.key is not None and a.key == b.key,
        key_a=a.key,
        key_b=b.key,
        no_key_a=a.no_key,
        no_key_b=b.no_key,
        differences=tuple(differences),
        ignored=tuple(each for each in everything if each.field not in fields),
        rounded=rounded,
        hides_values=hides_values,
    )


def _section(title: str, lines: Iterable[Any]) -> Iterator[str]:
    found = list(lines)
    if found:
        yield title
        yield from (f"  {line}" for line in found[:_MOST_LINES])
        if len(found) > _MOST_LINES:
            yield f"  ... and {len(found) - _MOST_LINES} more"

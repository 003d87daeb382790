"""Find what differs between two inputs, field by field, as their keys see it.

It descends where the canonical bytes of two values differ, so it misses nothing that makes a key.
It is for people, not for predictions: it compiles and encodes anew at each step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from model_cache.errors import NotCacheableError
from model_cache.interruptions import reraise_interruption
from model_cache.keys.canonical import (
    INPUTS,
    Canonicalizer,
    Selection,
    fields_of,
    guarded,
    has_fields,
)
from model_cache.keys.canonical.attributes import slot_reader, state_reader
from model_cache.keys.canonical.identities import class_identity
from model_cache.keys.canonical.refusals import attribute, is_name, item_of
from model_cache.keys.showing import apart, hidden_fields, is_secret, shown
from model_cache.pydantic_attributes import EXTRA, PRIVATE

_DEEPEST = 100


@dataclass(frozen=True)
class Difference:
    """A place at which two inputs differ.

    Attributes:
        field: the dotted path of the place; "" for the input itself.
        a: the first input's value, shortened; None if it has none, or if it is not shown.
        b: the same of the second input.
        reason: how they differ, if the two values do not show it; may be "".
    """

    field: str
    a: str | None
    b: str | None
    reason: str = ""

    def __str__(self) -> str:
        values = " and ".join(dict.fromkeys(filter(None, (self.a, self.b))))
        return f"{self.field or 'the input'}: {', '.join(filter(None, (values, self.reason)))}"


@dataclass(frozen=True)
class _Part:
    label: str
    value: Any
    selection: Selection | None
    is_shown: bool


@dataclass(frozen=True)
class _Pair:
    """Two values at the same place."""

    path: str
    a: Any
    b: Any
    selection: Selection | None = None
    is_shown: bool = True
    above: tuple[tuple[int, int], ...] = ()

    def is_circular(self) -> bool:
        return (id(self.a), id(self.b)) in self.above or len(self.above) > _DEEPEST

    def below(self, a: _Part, b: _Part) -> _Pair:
        above = (*self.above, (id(self.a), id(self.b)))
        path = _joined(self.path, a.label)
        return _Pair(path, a.value, b.value, a.selection, a.is_shown and b.is_shown, above)


class Comparer:
    """Compares inputs.

    Args:
        canonicalizer: encodes what counts; by default everything does.
        hides: whether to show no values, nor names that are data.
    """

    def __init__(self, canonicalizer: Canonicalizer = INPUTS, *, hides: bool = False) -> None:
        self._canonicalizer = canonicalizer
        self._hides = hides

    def hides_name(self, name: object) -> bool:
        """Return whether to hide a name, such as that of a column, because it may be data."""
        return self._hides and not is_name(name)

    def differences(
        self, a: Any, b: Any, selection: Selection | None = None, *, path: str = ""
    ) -> list[Difference]:
        """Return where two values at a path differ; nothing if their canonical bytes are the same.

        Args:
            a: a value.
            b: another one.
            selection: what of them counts; None for all.
            path: where they are; "" for inputs.
        """
        return list(self._inside(_Pair(path, a, b, selection, is_shown=not self._hides)))

    def _inside(self, pair: _Pair) -> Iterator[Difference]:
        same = True if pair.is_circular() else self._are_same(pair)
        if same:
            return
        found: list[Difference] | None = None
        if _same_kind(pair.a, pair.b) and _has_parts(pair.a):
            try:
                found = list(self._between_parts(pair))
            except Exception as error:  # an object that can't be read; see `refuse`
                reraise_interruption(error)
        yield from found or ([] if found == [] and same is None else [_whole(pair)])

    def _are_same(self, pair: _Pair) -> bool | None:
        """Return whether two values count as the same; None if one has no canonical form."""
        encode = guarded(self._canonicalizer.encoders(pair.selection))
        try:
            return encode(pair.a) == encode(pair.b)
        except NotCacheableError:
            return True if pair.a is pair.b else None

    def _between_parts(self, pair: _Pair) -> Iterator[Difference]:
        ours, theirs = (
            dict(self._parts(value, pair.selection, pair.is_shown)) for value in (pair.a, pair.b)
        )
        if isinstance(pair.a, (list, tuple)) and len(ours) != len(theirs):
            counts = f": {len(pair.a)} and {len(pair.b)}" if pair.is_shown else ""
            yield Difference(pair.path, None, None, f"their lengths differ{counts}")
        else:
            yield from _missing(pair, ours, theirs)
        for name, part in ours.items():
            if name in theirs:
                yield from self._inside(pair.below(part, theirs[name]))
        if self._canonicalizer.ordered and _order(ours, theirs) != _order(theirs, ours):
            yield Difference(pair.path, None, None, "the items are in another order")

    def _parts(
        self, value: Any, selection: Selection | None, is_shown: bool
    ) -> Iterator[tuple[object, _Part]]:
        """Yield the parts of a value that count, each with what identifies it."""
        if has_fields(type(value)):
            yield from self._fields(value, selection, is_shown)
        elif type(value) is dict:
            whole = ((key, item, None) for key, item in value.items())
            for key, item, below in selection.items(value) if selection else whole:
                label = f"[{shown(key)}]" if is_shown and not is_secret(key) else item_of(key)
                # Not by the key itself: 1 and 1.0 are equal.
                yield (("[]", self._canonicalizer.encode(key)), _Part(label, item, below, is_shown))
        elif type(value) in (list, tuple):
            for number, item in enumerate(value):
                yield number, _Part(f"[{number}]", item, selection, is_shown)

    def _fields(
        self, value: Any, selection: Selection | None, is_shown: bool
    ) -> Iterator[tuple[object, _Part]]:
        cls, fields = type(value), fields_of(type(value))
        state = state_reader(cls)(value)
        groups: list[tuple[str, Mapping[str, Any], Selection | None]] = [("", state, selection)]
        if isinstance(value, BaseModel):
            undeclared = selection and selection.without(fields)
            groups += [
                (slot, slot_reader(cls, BaseModel, slot)(value) or {}, undeclared)
                for slot in (EXTRA, PRIVATE)
            ]
        names = [fields, *(values for _, values, _ in groups)]
        applies = selection is not None and selection.applies(*names)
        hidden = hidden_fields(cls)
        for group, values, chosen in groups:
            for name, item in (chosen.of(values) if chosen and applies else values).items():
                below = chosen.inside(name) if chosen and applies else None
                label = name if is_shown and type(name) is str else attribute(name)
                yield (group, name), _Part(label, item, below, is_shown and name not in hidden)


def _same_kind(a: Any, b: Any) -> bool:
    # A class that is rebuilt at each access is the same one.
    return type(a) is type(b) or (
        has_fields(type(a))
        and has_fields(type(b))
        and class_identity(type(a)) == class_identity(type(b))
    )


def _has_parts(value: Any) -> bool:
    return type(value) in (dict, list, tuple) or has_fields(type(value))


def _order(ours: Mapping[object, _Part], theirs: Mapping[object, _Part]) -> list[object]:
    """Return what both have and whose order counts: the items of dicts, and extra fields."""
    return [
        each for each in ours if each in theirs and type(each) is tuple and each[0] in ("[]", EXTRA)
    ]


def _missing(
    pair: _Pair, ours: Mapping[object, _Part], theirs: Mapping[object, _Part]
) -> Iterator[Difference]:
    for name, part in ours.items():
        if name not in theirs:
            value = shown(part.value) if part.is_shown else None
            yield Difference(_joined(pair.path, part.label), value, None, "only a has it")
    for name, part in theirs.items():
        if name not in ours:
            value = shown(part.value) if part.is_shown else None
            yield Difference(_joined(pair.path, part.label), None, value, "only b has it")


def _whole(pair: _Pair) -> Difference:
    """Return the difference between two values that have no parts to compare."""
    a, b = pair.a, pair.b
    types = [f"{type(each).__module__}.{type(each).__qualname__}" for each in (a, b)]
    short = [name.removeprefix("builtins.") for name in types]
    reason = "" if type(a) is type(b) else f"their types differ: {short[0]} and {short[1]}"
    if is_secret(a) or is_secret(b):
        return Difference(pair.path, None, None, reason or "they are secrets, which are not shown")
    if not pair.is_shown:
        return Difference(pair.path, None, None, reason or "their values differ")
    return Difference(pair.path, shown(a), shown(b), reason or apart(a, b))


def _joined(path: str, label: str) -> str:
    return path + label if not path or label.startswith("[") else f"{path}.{label}"

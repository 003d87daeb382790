"""Try a choice of options on a sample of the requests: its hit ratio, and how answers change.

The answer that the cache would give to a request is the model's answer to the first request with
the same key, rounded. That is what a cache that never evicts holds.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel

from model_cache.advisor.answers import Answer, Answers
from model_cache.advisor.changes import changes, spread_of
from model_cache.advisor.columns import Array, Hashes, MissingValueError
from model_cache.advisor.findings import Changes, Estimate
from model_cache.advisor.hashing import Keys, hit_ratio
from model_cache.advisor.rebuilding import Rebuilder, rounder_of

ROUGH, PRECISE = 100_000, 400_000
"""How many requests a hit ratio is computed from: while searching, and at last."""

MOST_ROWS = 8_000
"""How many requests are sampled at most."""


class Option(NamedTuple):
    """A choice, hashable: decimal places by field, and ignored fields, both sorted."""

    places: tuple[tuple[str, int], ...] = ()
    ignored: tuple[str, ...] = ()

    def rounding(self, path: str, places: int) -> Option:
        """Return the choice that also rounds a field."""
        return Option(tuple(sorted({**dict(self.places), path: places}.items())), self.ignored)

    def without(self, path: str) -> Option:
        """Return the choice that also ignores a field."""
        places = tuple(each for each in self.places if each[0] != path)
        return Option(places, tuple(sorted({*self.ignored, path})))


@dataclass(frozen=True)
class Trial:
    """What was found out about a choice.

    Attributes:
        option: the choice.
        hit_ratio: its hit ratio.
        changes: how answers change.
        rows: how many sampled rows were compared.
    """

    option: Option
    hit_ratio: Estimate
    changes: Changes
    rows: int


class Bench:
    """Tries choices.

    Args:
        keys: the keys of the log under any choice.
        count: how many requests the log has.
        rebuilder: builds inputs again.
        answers: asks the model.
        chance: chooses the sample.
    """

    def __init__(
        self,
        keys: Keys,
        count: int,
        rebuilder: Rebuilder,
        answers: Answers,
        chance: random.Random,
    ) -> None:
        self._keys = keys
        self._rebuilder = rebuilder
        self._answers = answers
        self._rows = chance.sample(range(count), min(count, MOST_ROWS))
        self._own: dict[int, Answer | None] = {}
        self.unknown = 0
        self.spread = 0.0

    @property
    def most(self) -> int:
        """How many rows the sample has."""
        return len(self._rows)

    def inputs(self, count: int) -> list[BaseModel]:
        """Return some of the sampled inputs."""
        return [data for row in self._rows[:count] if (data := self._built(row, None)) is not None]

    def prepare(self, count: int) -> int:
        """Ask the model about the first rows of the sample; return how many it answered."""
        new = [row for row in self._rows[:count] if row not in self._own]
        inputs = {row: self._built(row, None) for row in new}
        known = {row: data for row, data in inputs.items() if data is not None}
        self.unknown += len(new) - len(known)
        self._own.update(dict.fromkeys(new))
        self._own.update(zip(known, self._answers.of([*known.values()]), strict=True))
        answers = [answer for answer in self._own.values() if answer is not None]
        self.spread = spread_of(answers)
        return len(answers)

    def answer(self) -> Answer | None:
        """Return one of the model's answers; None if there are none."""
        return next((answer for answer in self._own.values() if answer is not None), None)

    def keys(self, option: Option) -> Hashes:
        """Return the keys of the whole log under a choice."""
        return self._keys.of(dict(option.places), option.ignored)

    def hit_ratio(self, option: Option) -> Estimate:
        """Return the hit ratio of a choice, as precisely as it is ever computed."""
        return hit_ratio(self.keys(option), PRECISE, self._keys.sample)

    def trial(self, option: Option, count: int, most: int = ROUGH) -> Trial:
        """Try a choice on the first rows of the sample."""
        self.prepare(count)
        keys = self.keys(option)
        rows = [row for row in self._rows[:count] if self._own[row] is not None]
        own, served = self._compare(option, keys, rows)
        found = changes(own, served, self.spread)
        ratio = hit_ratio(keys, most, self._keys.sample)
        return Trial(option, ratio, found, min(count, self.most))

    def _compare(
        self, option: Option, keys: Hashes, rows: list[int]
    ) -> tuple[list[Answer], list[Answer]]:
        """Return the model's answers to rows, and those that the cache would give."""
        sources = first_rows(keys, rows) if option.ignored else rows
        places = dict(option.places)
        pairs = [
            (row, data)
            for row, source in zip(rows, sources, strict=True)
            if (data := self._built(source, places)) is not None
        ]
        found = self._answers.of([data for _, data in pairs])
        own: list[Answer] = []
        served: list[Answer] = []
        for (row, _), answer in zip(pairs, found, strict=True):
            mine = self._own[row]
            if answer is not None and mine is not None:
                own.append(mine)
                served.append(answer)
        return own, served

    def _built(self, row: int, places: Mapping[str, int] | None) -> BaseModel | None:
        """Return the input of a row as the model would receive it; None if it is not known."""
        try:
            data = self._rebuilder.input(row)
        except MissingValueError:
            return None
        rounder = rounder_of(places or {})
        return data if rounder is None else rounder(data)


def first_rows(keys: Hashes, rows: Sequence[int]) -> list[int]:
    """Return the first row of the log with the same key as each of the rows."""
    wanted: Hashes = keys[np.array(rows, np.int64)]
    # Most rows have another key than any of these: a look at 16 bits drops them.
    flags = np.zeros(2**16, np.bool_)
    flags[(wanted >> np.uint64(48)).astype(np.int64)] = True
    candidates: Array = np.flatnonzero(flags[(keys >> np.uint64(48)).astype(np.uint16)])
    found = keys[candidates]
    order = np.argsort(found, kind="stable")
    at = np.searchsorted(found, wanted, side="left", sorter=order)
    return [int(row) for row in candidates[order[at]]]

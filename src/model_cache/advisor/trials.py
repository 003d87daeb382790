"""Try a choice of options on a sample of the requests: its hit ratio, and how answers change.

The answer that the cache would give to a request is the model's answer to the first request with
the same key, rounded. That is what a cache that never evicts holds. Errors are not cached: if the
model raises for the first request, it is the answer to the second, and so on.
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
from model_cache.advisor.findings import Changes, Choice, Estimate
from model_cache.advisor.hashing import Keys, hit_ratio
from model_cache.advisor.log import Log
from model_cache.advisor.rebuilding import Rebuilder, Tables, rounder_of

ROUGH, PRECISE = 100_000, 400_000
"""How many requests a hit ratio is computed from: while searching, and at last."""

MOST_ROWS = 8_000
"""How many requests are sampled at most."""

_MOST_SOURCES = 10
"""So many requests with the same key are asked about until one has an answer."""


class Option(NamedTuple):
    """A choice, hashable: decimal places by field, and ignored fields, both sorted."""

    places: tuple[tuple[str, int], ...] = ()
    ignored: tuple[str, ...] = ()

    @classmethod
    def of(cls, choice: Choice) -> Option:
        """Return the option behind a choice of the advice."""
        return cls(tuple(choice.places.items()), choice.ignored)

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

    def choice(self, *, on_frontier: bool = False, step: int | None = None) -> Choice:
        """Return it as a part of the advice."""
        places, ignored = dict(self.option.places), self.option.ignored
        return Choice(places, ignored, self.hit_ratio, self.changes, on_frontier, step)


class Bench:
    """Tries choices.

    Args:
        log: the requests.
        answers: asks the model.
        chance: chooses the sample.

    Attributes:
        rebuilder: builds inputs again.
        tables: the rounded values of columns.
        spread: the range of the answers so far.
    """

    def __init__(self, log: Log, answers: Answers, chance: random.Random) -> None:
        self.rebuilder = Rebuilder(log)
        self.tables = Tables(self.rebuilder)
        self._keys = Keys(log, self.tables)
        self._answers = answers
        self._rows = chance.sample(range(len(log)), min(len(log), MOST_ROWS))
        self._own: dict[int, Answer | None] = {}
        self._prepared = 0
        self.spread = 0.0

    @property
    def most(self) -> int:
        """How many rows the sample has."""
        return len(self._rows)

    @property
    def unknown(self) -> int:
        """How many rows so far could not be built again."""
        return self._prepared - len(self._own)

    @property
    def failing(self) -> float:
        """The share of the rows so far, as they are, for which the model raised."""
        return [*self._own.values()].count(None) / max(1, len(self._own))

    def inputs(self, count: int) -> list[BaseModel]:
        """Return some of the sampled inputs."""
        return [data for row in self._rows[:count] if (data := self._built(row, {})) is not None]

    def prepare(self, count: int) -> int:
        """Ask the model about the first rows of the sample; return how many it answered."""
        new = self._rows[self._prepared : count]
        inputs = {row: data for row in new if (data := self._built(row, {})) is not None}
        self._own.update(zip(inputs, self._answers.of([*inputs.values()]), strict=True))
        self._prepared += len(new)
        answers = self._answered
        self.spread = spread_of(answers)
        return len(answers)

    @property
    def _answered(self) -> list[Answer]:
        return [answer for answer in self._own.values() if answer is not None]

    @property
    def has_numbers(self) -> bool:
        """Whether answers have numbers; True if there are none yet."""
        answers = self._answered
        return not answers or any(answer.numbers for answer in answers)

    def keys(self, option: Option) -> Hashes:
        """Return the keys of the whole log under a choice."""
        return self._keys.of(dict(option.places), option.ignored)

    def hit_ratio(self, option: Option) -> Estimate:
        """Return the hit ratio of a choice, as precisely as it is ever computed."""
        return hit_ratio(self.keys(option), PRECISE, self._keys.sample)

    def trial(self, option: Option, count: int, most: int) -> Trial:
        """Try a choice on the first rows of the sample, and on `most` requests for its hits."""
        self.prepare(count)
        keys = self.keys(option)
        rows = [row for row in self._rows[:count] if row in self._own]
        served = self._served(option, keys, rows)
        found = changes([self._own[row] for row in served], [*served.values()], self.spread)
        ratio = hit_ratio(keys, most, self._keys.sample)
        return Trial(option, ratio, found, min(count, self.most))

    def _served(
        self, option: Option, keys: Hashes, rows: Sequence[int]
    ) -> dict[int, Answer | None]:
        """Return the answers that the cache would give to rows; None where the model raises."""
        places = dict(option.places)
        sources = sources_of(keys, rows) if option.ignored else [[row] for row in rows]
        left = dict(zip(rows, sources, strict=True))
        found: dict[int, Answer | None] = {}
        while left:
            inputs = {row: self._built(first, places) for row, (first, *_) in left.items()}
            known = {row: data for row, data in inputs.items() if data is not None}
            answers = self._answers.of([*known.values()])
            found.update(zip(known, answers, strict=True))
            left = {
                row: queue[1:]
                for row, queue in left.items()
                if found.get(row) is None and len(queue) > 1
            }
        return found

    def _built(self, row: int, places: Mapping[str, int]) -> BaseModel | None:
        """Return the input of a row as the model would receive it; None if it is not known."""
        try:
            data = self.rebuilder.input(row)
        except MissingValueError:
            return None
        return rounder_of(places)(data) if places else data


def sources_of(keys: Hashes, rows: Sequence[int]) -> list[list[int]]:
    """Return for each row the requests whose answer the cache may hold, in order.

    These are the first requests of the log with the same key, and the row itself as the last.
    """
    wanted: Hashes = keys[np.array(rows, np.int64)]
    # Most rows have another key than any of these: a look at 16 bits drops them.
    flags = np.zeros(2**16, np.bool_)
    flags[(wanted >> np.uint64(48)).astype(np.int64)] = True
    candidates: Array = np.flatnonzero(flags[(keys >> np.uint64(48)).astype(np.uint16)])
    found = keys[candidates]
    order = np.argsort(found, kind="stable")
    ordered = candidates[order]
    starts = np.searchsorted(found, wanted, side="left", sorter=order)
    first = (ordered[start : start + _MOST_SOURCES - 1].tolist() for start in starts.tolist())
    # The row is in its place among those with its key, so what is before it has this key.
    return [[*_before(row, each), row] for row, each in zip(rows, first, strict=True)]


def _before(row: int, sources: list[int]) -> list[int]:
    return sources[: sources.index(row)] if row in sources else sources

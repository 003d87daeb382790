"""Small trials for a cache of predictions: types, changes, faults of Redis, and flipped bits."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis
from ml_base import MLModel
from pydantic import BaseModel

from benchmarks.cheap_model import CheapModel, inputs
from benchmarks.peer_caches import Cache, Kind, Store

SECONDS = 10.0
ENTRIES = 400
"""How many get a flipped bit, each one."""


class Pair(BaseModel):
    """Two values of any of these types."""

    left: bool | int | float | str
    right: bool | int | float | str


class Text(BaseModel):
    """An answer."""

    text: str


class PairModel(MLModel):  # type: ignore[misc]  # ml-base is untyped
    """Spells out its input."""

    display_name = "Pair"
    qualified_name = "pair_model"
    description = "Spells out its input."
    version = "1.0.0"
    input_schema = Pair
    output_schema = Text

    def __init__(self) -> None:
        pass

    def predict(self, data: Pair) -> Text:
        return Text(text=f"{data.left!r} and {data.right!r}")


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of a trial.

    Attributes:
        calls: how many there were.
        wrong: those that differ from the model's.
        failed: those without an answer.
        slowest: seconds that the slowest call took.
    """

    calls: int
    wrong: int
    failed: int
    slowest: float

    @property
    def wrong_or_failed(self) -> int:
        return self.wrong + self.failed

    def __str__(self) -> str:
        return f"{self.wrong} + {self.failed}"


def types(kind: Kind, store: Store) -> Outcomes:
    """Ask for inputs that look equal but are not."""
    lefts: list[bool | int | float | str] = [1, 1.0, True, "1"]
    asked = [Pair(left=left, right=0) for left in lefts]
    asked += [Pair(left=2, right=3), Pair(left=3, right=2)]
    with _opened(kind, store) as cache:
        return answers(cache, asked)


def changes(kind: Kind, store: Store) -> Outcomes:
    """Ask, change the answer in place, and ask again; each input three times."""
    asked = [Pair(left=number, right=0) for number in range(3) for _ in range(3)]
    with _opened(kind, store) as cache:
        return answers(cache, asked, afterwards=lambda answer: setattr(answer, "text", "changed"))


def during(fault: Callable[[], None], kind: Kind, store: Store) -> Outcomes:
    """Ask for known and for new inputs after a fault of Redis."""
    known = [Pair(left=number, right=0) for number in range(5)]
    new = [Pair(left=number, right=1) for number in range(5)]
    with _opened(kind, store) as cache:
        answers(cache, known)
        fault()
        return answers(cache, known + new)


def flipped_bits(kind: Kind, store: Store) -> Outcomes:
    """Ask for inputs after one bit of each entry, chosen at random, was flipped in Redis."""
    rng, model = random.Random(1), CheapModel()
    asked = inputs(ENTRIES, rng)
    with _opened(kind, store, model) as cache, redis.Redis.from_url(store.url) as client:
        cache.ask(inputs(1, rng))  # from here on, only entries are added
        before = set(client.scan_iter(_type="string"))
        for data in asked:
            cache.ask([data])
        entries: set[Any] = set(client.scan_iter(_type="string")) - before
        if len(entries) != ENTRIES:
            raise RuntimeError(f"{kind.name} made {len(entries)} keys of {ENTRIES} entries")
        for key in sorted(entries):
            bit = rng.randrange(8 * client.strlen(key))
            client.setbit(key, bit, 1 - client.getbit(key, bit))
        return answers(cache, asked, model)


def answers(
    cache: Cache,
    asked: Sequence[Any],
    model: MLModel | None = None,
    *,
    afterwards: Callable[[Any], None] | None = None,
) -> Outcomes:
    """Ask one by one and compare with the model.

    Args:
        cache: the cache.
        asked: the inputs.
        model: the model; that of the pairs by default.
        afterwards: what the caller does to each answer.
    """
    model = model or PairModel()
    wrong, failed, slowest, began = 0, 0, 0.0, time.perf_counter()
    for data in asked:
        started = time.perf_counter()
        if started - began > SECONDS:
            failed += 1
            continue
        try:
            [answer] = cache.ask([data])
        except Exception:
            failed += 1
        else:
            wrong += answer != model.predict(data)
            if afterwards is not None:
                afterwards(answer)
        slowest = max(slowest, time.perf_counter() - started)
    return Outcomes(len(asked), wrong, failed, slowest)


@contextmanager
def _opened(kind: Kind, store: Store, model: MLModel | None = None) -> Iterator[Cache]:
    cache = kind.open(model or PairModel(), store)
    try:
        yield cache
    finally:
        cache.close()

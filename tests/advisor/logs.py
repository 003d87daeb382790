"""Logs and models for the tests of the advisor."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from model_cache.advisor.columns import Hashes
from model_cache.advisor.log import Log, LogBuilder
from model_cache.advisor.reading import Reader
from model_cache.advisor.sources import Given
from tests.models import FunctionModel


class Visit(BaseModel):
    """A request: few customers, noisy amounts, and an id that no model looks at."""

    customer: str
    amount: float
    count: int = 1
    request_id: str = ""


class Score(BaseModel):
    score: float


class Verdict(BaseModel):
    label: str


def score(data: Visit) -> Score:
    return Score(score=data.amount + 100 * data.count + 3 * ord(data.customer[0]))


def label(data: Visit) -> Verdict:
    return Verdict(label="high" if data.amount > 50 else "low")


class VisitModel(FunctionModel):
    """Answers in batches, too."""

    def __init__(self, function: Any = score, output: type[BaseModel] = Score) -> None:
        super().__init__(Visit, output, function)

    def predict_many(self, inputs: list[Any]) -> list[Any]:
        return [self.predict(data) for data in inputs]


def visits(count: int, *, ids: bool = False, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yield requests, one per minute."""
    chance = random.Random(seed)
    for number in range(count):
        yield {
            "time": 1_700_000_000 + 60 * number,
            "customer": chance.choice("abcdefgh"),
            "amount": chance.choice([10.0, 10.1, 10.2, 60.0, 60.1]),
            "count": chance.randrange(3),
            "request_id": f"r{number}" if ids else "",
        }


def read(requests: Any, schema: type[BaseModel] = Visit) -> Log:
    """Return requests as a log."""
    return logged(Reader(Given(requests, schema)))


def logged(reader: Reader) -> Log:
    """Return the log that a reader reads."""
    builder = LogBuilder(reader.source)
    for batch in reader.batches():
        builder.add(batch)
    return builder.finish()


def same(hashes: Hashes) -> list[int]:
    """Return for each row the first row with the same hash."""
    first: dict[int, int] = {}
    return [first.setdefault(each, row) for row, each in enumerate(hashes.tolist())]

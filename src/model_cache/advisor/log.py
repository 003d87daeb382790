"""A log in columns."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel

from model_cache.advisor.columns import Array, Column, ColumnBuilder
from model_cache.advisor.fields import Field, fields_of
from model_cache.advisor.reading import Batch

_FIRST = 20


@dataclass(frozen=True, eq=False)
class Log:
    """The requests of a log, in the order of their times.

    Attributes:
        fields: the fields of the model's input.
        columns: the values, one column for each field.
        times: the times in seconds since 1970; None without times.
        first: the first inputs that were read.
        order: the place of each row among those that were read; None if it is the same.
        bad: why requests were set aside, with how many.
        uncacheable: how many values had no canonical form, by field.
    """

    fields: list[Field]
    columns: list[Column]
    times: Array | None
    first: list[BaseModel]
    order: Array | None
    bad: Counter[str]
    uncacheable: dict[str, int]

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    @property
    def template(self) -> BaseModel:
        """One of the inputs."""
        return self.first[0]

    def row(self, place: int) -> int:
        """Return the row of a request, by its place among those that were read."""
        return place if self.order is None else int(np.flatnonzero(self.order == place)[0])

    @property
    def duration(self) -> float | None:
        """How many seconds it lasts; None without times."""
        return None if self.times is None else float(self.times[-1] - self.times[0])


class LogBuilder:
    """Collects a log batch by batch.

    Args:
        schema: the model's input schema.
    """

    def __init__(self, schema: type[BaseModel]) -> None:
        self._fields = fields_of(schema)
        self._columns = [
            ColumnBuilder(field.path, field.reader(), salt, may_round=field.may_round)
            for salt, field in enumerate(self._fields, 1)
        ]
        self._times: list[Array] = []
        self._bad: Counter[str] = Counter()
        self._first: list[BaseModel] = []
        self.count = 0

    def add(self, batch: Batch) -> None:
        """Add some requests."""
        self._bad.update(batch.bad)
        if len(self._bad) > 1000:  # messages may contain values
            self._bad = Counter(dict(self._bad.most_common(100)))
        if not batch.inputs:
            return
        for column in self._columns:
            column.add(batch.inputs)
        if batch.times:
            self._times.append(np.array(batch.times, np.float64))
        # Last: after an interruption, what is above the count does not count.
        self._first = self._first or batch.inputs[:_FIRST]
        self.count += len(batch.inputs)

    def finish(self) -> Log | None:
        """Return the log; None if there are no requests."""
        if not self._first:
            return None
        uncacheable = {each.path: each.uncacheable for each in self._columns if each.uncacheable}
        columns = [column.finish(self.count) for column in self._columns]
        times = np.concatenate(self._times)[: self.count] if self._times else None
        order: Any = None
        if times is not None and np.any(np.diff(times) < 0):
            order = np.argsort(times, kind="stable")
            columns = [column.ordered(order) for column in columns]
            times = times[order]
        return Log(self._fields, columns, times, self._first, order, self._bad, uncacheable)

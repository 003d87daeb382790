"""A log in columns."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel

from model_cache.advisor.columns import Array, Column, ColumnBuilder, Hashes, mixed
from model_cache.advisor.fields import Field, fields_of
from model_cache.advisor.reading import Batch
from model_cache.advisor.sample import ALL, Recorded, Sample
from model_cache.advisor.sources import Source

MOST_ROWS = 4_000_000
"""How many requests are kept in memory."""

_FIRST = 20


@dataclass(frozen=True, eq=False)
class Log:
    """The requests of a log, in the order of their times.

    Attributes:
        source: a name for where they come from.
        fields: the fields of the model's input.
        columns: the values, one column for each field.
        times: the times in seconds since 1970; None without times.
        first: the first inputs that were read.
        order: the place of each row among those that were read; None if it is the same.
        sample: how they were chosen.
        bad: why requests were skipped, with how many.
        uncacheable: how many values had no canonical form, by field.
    """

    source: Source
    fields: list[Field]
    columns: list[Column]
    times: Array | None
    first: list[BaseModel]
    order: Array | None
    sample: Sample
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
    def left_out(self) -> tuple[str, ...]:
        """The paths of fields that were not recorded."""
        return () if self.source.recorded is None else self.source.recorded.left_out

    @property
    def duration(self) -> float | None:
        """How many seconds it lasts; None without times."""
        return None if self.times is None else float(self.times[-1] - self.times[0])


class _Rows(NamedTuple):
    """The requests so far, in one object: Ctrl-C finds either the old rows or the new ones.

    Attributes:
        columns: the values.
        times: the times.
        units: their keys, by which they are sampled.
        kept: how many there are; what is above that does not count.
        seen: how many were read.
        share: the share of the keys whose requests are kept.
    """

    columns: list[ColumnBuilder]
    times: list[Array]
    units: list[Array]
    kept: int = 0
    seen: int = 0
    share: float = 1.0


class LogBuilder:
    """Collects a log batch by batch.

    Of a log of more than `MOST_ROWS` requests, those of a share of the keys are kept. The share is
    halved each time that there are too many, so that memory does not grow with the log (SHARDS
    with a fixed size: Waldspurger et al., FAST 2015).

    Args:
        source: where the requests come from.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._fields = fields_of(source.schema)
        salted = enumerate(self._fields, 1)
        self._rows = _Rows([ColumnBuilder(field, salt) for salt, field in salted], [], [])
        self._bad: Counter[str] = Counter()
        self._first: list[BaseModel] = []

    @property
    def count(self) -> int:
        """How many requests were read."""
        return self._rows.seen

    def add(self, batch: Batch) -> None:
        """Add some requests."""
        self._bad.update(batch.bad)
        if len(self._bad) > 1000:  # messages may contain values
            self._bad = Counter(dict(self._bad.most_common(100)))
        if not batch.inputs:
            return
        rows = self._rows
        for column in rows.columns:
            column.add(batch.inputs)
        units = _units(rows.columns, batch)
        kept = _below(units, rows.share)
        if not kept.all():
            for column in rows.columns:
                column.keep_of_newest(kept)
        rows.units.append(units[kept])
        if batch.times:
            rows.times.append(np.array(batch.times, np.float64)[kept])
        self._first = self._first or batch.inputs[:_FIRST]
        # Last: after an interruption, what is above the count does not count.
        self._rows = rows._replace(
            kept=rows.kept + int(kept.sum()), seen=rows.seen + len(batch.inputs)
        )
        while self._rows.kept > MOST_ROWS:
            self._rows = _thinned(self._rows)

    def finish(self) -> Log:
        """Return the log, of at least one request."""
        rows, count = self._rows, self._rows.kept
        uncacheable = {each.path: each.uncacheable for each in rows.columns if each.uncacheable}
        columns = [column.finish(count) for column in rows.columns]
        times = np.concatenate(rows.times)[:count] if rows.times else None
        order: Any = None
        if times is not None and np.any(np.diff(times) < 0):
            order = np.argsort(times, kind="stable")
            columns = [column.ordered(order) for column in columns]
            times = times[order]
        return Log(
            self._source,
            self._fields,
            columns,
            times,
            self._first,
            order,
            _sample(rows, self._source.recorded or Recorded(), order),
            self._bad,
            uncacheable,
        )


def _units(columns: list[ColumnBuilder], batch: Batch) -> Hashes:
    """Return the keys of a batch: recorded ones, or those of the inputs as they are."""
    if batch.units:
        return np.array(batch.units, np.uint64)
    units = np.zeros(len(batch.inputs), np.uint64)
    for column in columns:
        units += column.newest()
    return mixed(units, 0)


def _below(units: Hashes, share: float) -> Array:
    return np.ones(len(units), np.bool_) if share >= 1.0 else units < np.uint64(int(share * ALL))


def _thinned(rows: _Rows) -> _Rows:
    """Return the requests of half of the keys."""
    units = np.concatenate(rows.units)[: rows.kept]
    # What was recorded may be a sample already.
    share = min(rows.share, 2.0 ** np.ceil(np.log2((float(units.max()) + 1) / ALL))) / 2
    kept = _below(units, share)
    kept[:_FIRST] = True  # with these it is found out whether inputs can be built again
    return _Rows(
        [column.thinned(kept) for column in rows.columns],
        [np.concatenate(rows.times)[: rows.kept][kept]] if rows.times else [],
        [units[kept]],
        int(kept.sum()),
        rows.seen,
        share,
    )


def _sample(rows: _Rows, recorded: Recorded, order: Any) -> Sample:
    share = min(rows.share, recorded.share)
    if share >= 1.0:
        return Sample(1.0, rows.kept, None)
    units = np.concatenate(rows.units)[: rows.kept]
    units = units if order is None else units[order]
    return Sample(share, max(rows.seen, recorded.requests), units)

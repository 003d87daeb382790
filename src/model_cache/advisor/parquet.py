"""Parquet files, read batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

# pyarrow, not polars: `iter_batches` reads one row group after the other with bounded memory, by a
# documented and stable function. polars reads a file as a whole, or as a lazy query, whose way of
# handing out batches is new and still changes. pyarrow also comes with most tools that write
# request logs as Parquet (pandas, Spark, Athena's clients).
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from model_cache.advisor.sources import Item, Source
from model_cache.errors import ConfigurationError

_ROWS = 20_000


class ParquetRows(Source):
    """A Parquet file, which `stack` closes.

    Raises:
        ConfigurationError: it is no Parquet file, or it is empty.
    """

    def __init__(
        self, path: Path, schema: type[BaseModel], column: str | None, stack: ExitStack
    ) -> None:
        try:
            self._file = stack.enter_context(pq.ParquetFile(path))
        except (pa.ArrowException, OSError) as error:
            raise ConfigurationError(
                "requests", f"{str(path)!r} is not a readable Parquet file: {error}"
            ) from error
        super().__init__(path.name, schema, float(self._file.metadata.num_rows), column)
        self._columns: list[str] = self._file.schema_arrow.names
        self._find_time_column(self._columns)
        if not self.total:
            raise ConfigurationError("requests", f"{str(path)!r} is empty")

    def items(self) -> Iterator[Item]:
        time = self.time_column
        names = [name for name in self._columns if name in self._names or name == time]
        if self.schema.model_config.get("extra") == "allow" or not {*names} - {time}:
            names = self._columns
        for batch in self._file.iter_batches(batch_size=_ROWS, columns=names):
            cells = [
                # Faster than datetimes, which only a field of the model may need.
                _seconds(column) if name == time and name not in self._names else column.to_pylist()
                for name, column in zip(names, batch.columns, strict=True)
            ]
            for row in zip(*cells, strict=True):
                yield self._timed(dict(zip(names, row, strict=True)))

    def parse(self, given: Any) -> BaseModel:
        try:
            return super().parse(given)
        except ValidationError:
            # In Parquet, a null is the only way to say that a field is absent.
            present = {name: value for name, value in given.items() if value is not None}
            if len(present) == len(given):
                raise
            return super().parse(present)


def _seconds(column: Any) -> list[Any]:
    if not pa.types.is_timestamp(column.type):
        found: list[Any] = column.to_pylist()
        return found
    microseconds = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    return [each if each is None else each / 1e6 for each in microseconds.to_pylist()]

"""Parquet files, read batch by batch."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

# pyarrow, not polars: `iter_batches` reads one row group after the other with bounded memory, by a
# documented and stable function. polars reads a file as a whole, or as a lazy query, whose way of
# handing out batches is new and still changes. pyarrow also comes with most tools that write
# request logs as Parquet (pandas, Spark, Athena's clients).
import pyarrow as pa
import pyarrow.parquet as pq

from model_cache.errors import ConfigurationError

_ROWS = 20_000


class Parquet:
    """A Parquet file.

    Args:
        path: the file.

    Attributes:
        columns: the names of its columns.
        count: the number of rows.

    Raises:
        ConfigurationError: it is no Parquet file.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise ConfigurationError(
                "requests", f"{str(path)!r} is not a readable Parquet file: {error}"
            ) from error
        self.columns: list[str] = self._file.schema_arrow.names
        self.count: int = self._file.metadata.num_rows

    def rows(self, wanted: Collection[str], time: str | None) -> Iterator[dict[str, Any]]:
        """Yield the rows by column.

        Args:
            wanted: the columns to read.
            time: the column whose times may become seconds since 1970: quicker than datetimes.
        """
        names = [name for name in self.columns if name in wanted]
        for batch in self._file.iter_batches(batch_size=_ROWS, columns=names):
            cells = [
                _seconds(column) if name == time else column.to_pylist()
                for name, column in zip(names, batch.columns, strict=True)
            ]
            for row in zip(*cells, strict=True):
                yield dict(zip(names, row, strict=True))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _seconds(column: Any) -> list[Any]:
    if not pa.types.is_timestamp(column.type):
        found: list[Any] = column.to_pylist()
        return found
    microseconds = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    return [each if each is None else each / 1e6 for each in microseconds.to_pylist()]

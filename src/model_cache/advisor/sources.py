"""Where requests come from: a file of one of the formats, or an iterable.

A source yields items: what was given and when, or why it can't be read.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from pydantic import BaseModel, ValidationError

from model_cache.advisor.envelopes import EnvelopeError, opened
from model_cache.advisor.request_file import Csv, JsonLines, Line, names_of
from model_cache.advisor.sample import Recorded
from model_cache.advisor.settings import LogFormat, Settings
from model_cache.advisor.times import time_column
from model_cache.errors import ConfigurationError, did_you_mean, said_by


class Item(NamedTuple):
    """A request of a log.

    Attributes:
        given: what was given: an input, or its fields; None with a problem.
        time: when, as it was written; None if there is no time.
        problem: why it can't be read; None if it can.
        unit: its key, if the log is a sample by key.
    """

    given: Any
    time: Any = None
    problem: str | None = None
    unit: int | None = None


class Source:
    """A log.

    Args:
        name: what to call it.
        schema: the model's input schema.
        total: how much there is to read, in the unit of `done`; None if unknown.
        time_column: where the times are; None if there are none, or it is not yet known.

    Attributes:
        recorded: the summary of recorded requests; None for other logs.
    """

    recorded: Recorded | None = None

    def __init__(
        self, name: str, schema: type[BaseModel], total: float | None, time_column: str | None
    ) -> None:
        self.name = name
        self.schema = schema
        self.total = total
        self.time_column = time_column
        self._fields = list(schema.model_fields)
        self._names = names_of(schema)
        self._knows_columns = False

    def items(self) -> Iterator[Item]:
        """Yield the requests."""
        raise NotImplementedError

    def parse(self, given: Any) -> BaseModel:
        """Return an input; raise `ValidationError` if it is invalid."""
        return self.schema.model_validate(given)

    def done(self, count: int) -> float:
        """Return how much has been read, after so many items."""
        return float(count)

    def _find_time_column(self, columns: Iterable[str]) -> None:
        """Find the time column among the log's columns; one that was given must be there."""
        if self._knows_columns:
            return
        self._knows_columns = True
        known = list(columns)
        if self.time_column is None:
            self.time_column = time_column(known, self._names)
        elif self.time_column not in known:
            hint = did_you_mean(self.time_column, known)
            problem = f"the log has no column {self.time_column!r}; {hint}"
            raise ConfigurationError("time_column", problem)

    def _timed(self, given: dict[str, Any]) -> Item:
        """Return a request with its time, which stays in the request if it is one of its fields."""
        column = self.time_column
        if column is None:
            return Item(given)
        return Item(given, given.get(column) if column in self._names else given.pop(column, None))

    def _inside(self, request: dict[str, Any]) -> Iterator[Item]:
        """Yield the requests inside the one of a line."""
        yield self._timed(request)

    def _lines(self, lines: Iterable[Line]) -> Iterator[Item]:
        for line in lines:
            if line.problem is not None:
                yield Item(None, problem=line.problem)
            elif line.request is not None:
                yield from self._inside(line.request)


class Given(Source):
    """Requests that were passed as inputs or dicts."""

    def __init__(
        self, requests: Iterable[Any], schema: type[BaseModel], column: str | None = None
    ) -> None:
        total = float(len(requests)) if isinstance(requests, Sized) else None
        super().__init__("requests", schema, total, column)
        self._requests = requests

    def items(self) -> Iterator[Item]:
        for given in self._requests:
            if isinstance(given, Mapping):
                self._find_time_column(given)
                yield self._timed(dict(given))
            else:
                yield Item(given)

    def parse(self, given: Any) -> BaseModel:
        return given if isinstance(given, self.schema) else super().parse(given)


class FileRows(Source):
    """The lines of a file; CSV, unless a subclass reads another format.

    Args:
        path: the file.
        stream: the file, opened.
        lines: its lines.
        schema: the model's input schema.
        column: the time column, if it was given.
    """

    def __init__(
        self, path: Path, stream: BinaryIO, lines: Csv | JsonLines, schema: type[BaseModel],
        column: str | None,
    ) -> None:  # fmt: skip
        super().__init__(path.name, schema, float(os.fstat(stream.fileno()).st_size), column)
        self._path = path
        self._stream = stream
        self._requests = lines
        if isinstance(lines, Csv):
            self._find_time_column([*lines.unknown_columns, *self._names])

    def items(self) -> Iterator[Item]:
        with _readable(self._path):
            yield from self._lines(self._requests)

    def parse(self, given: Any) -> BaseModel:
        return self._requests.parse(given)

    def done(self, count: int) -> float:  # noqa: ARG002 - as any source
        return float(self._stream.tell())


class JsonRows(FileRows):
    """JSON Lines: requests, or records with requests inside."""

    def _inside(self, request: dict[str, Any]) -> Iterator[Item]:
        try:
            inside = opened(request, self._fields)
        except EnvelopeError as error:
            yield Item(None, problem=str(error))
            return
        if inside is None:
            self._find_time_column(request)
            yield self._timed(request)
            return
        self.time_column = self.time_column or ("time" if inside.time is not None else None)
        for each in inside.requests:
            yield Item(each, inside.time)

    def parse(self, given: Any) -> BaseModel:
        try:
            return super().parse(given)
        except ValidationError:
            # A record of a CSV has text in its rows.
            if given and all(isinstance(each, str) for each in given.values()):
                return self.schema.model_validate_strings(given)
            raise


def open_source(
    requests: str | os.PathLike[str] | Iterable[Any],
    schema: type[BaseModel],
    settings: Settings,
    stack: ExitStack,
    model: str = "",
) -> Source:
    """Return the source of the requests; `stack` closes it.

    Args:
        requests: a file, a folder of recorded requests, or the requests themselves.
        schema: the model's input schema.
        settings: the time column and the format.
        stack: what closes the source.
        model: the model's qualified name.

    Raises:
        ConfigurationError: the file can't be read.
    """
    if not isinstance(requests, (str, os.PathLike)):
        return Given(requests, schema, settings.time_column)
    path = Path(requests)
    with _readable(path):
        recorded = _recorded(path, schema, model)
        if recorded is not None:
            return recorded
        stream = stack.enter_context(path.open("rb"))
        form = settings.log_format or _format(path, stream)
        if form == "parquet":
            from model_cache.advisor.parquet import ParquetRows

            return ParquetRows(path, schema, settings.time_column, stack)
        if not os.fstat(stream.fileno()).st_size:
            raise ConfigurationError("requests", f"{str(path)!r} is empty")
        is_packed = path.suffix.lower() == ".gz"
        raw = cast(BinaryIO, gzip.GzipFile(fileobj=stream)) if is_packed else stream
        if form == "csv":
            return FileRows(path, stream, Csv(raw, schema), schema, settings.time_column)
        return JsonRows(path, stream, JsonLines(raw, schema), schema, settings.time_column)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise `ConfigurationError` if a file can't be read, or unpacked."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        problem = f"can't read {str(path)!r}: {said_by(error)}"
        raise ConfigurationError("requests", problem) from error


def _recorded(path: Path, schema: type[BaseModel], model: str) -> Source | None:
    """Return what the option `record` has written to a folder or a file; None if it has not."""
    from model_cache.advisor.recorded import RecordedRows, files_in, header_of

    if path.is_dir():
        return RecordedRows(path.name, files_in(path, model), schema)
    # Not of a pipe, which can be read only once.
    header = header_of(path) if path.is_file() else None
    return None if header is None else RecordedRows(path.name, {path: header}, schema)


def _format(path: Path, stream: BinaryIO) -> LogFormat:
    """Return the format that the name suggests, else the first bytes."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    by_name: dict[str, LogFormat] = {
        ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv",
        ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
    }  # fmt: skip
    if suffixes and suffixes[-1] in by_name:
        return by_name[suffixes[-1]]
    first = stream.read(4)
    stream.seek(0)
    if first == b"PAR1":
        return "parquet"
    return "csv" if first[:1].isalpha() else "jsonl"

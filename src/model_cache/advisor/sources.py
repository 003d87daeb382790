"""Where requests come from: a file of one of the formats, or an iterable.

A source yields items: what was given and when, or why it can't be read.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sized
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, cast

from pydantic import BaseModel, ValidationError

from model_cache.advisor.envelopes import EnvelopeError, opened
from model_cache.advisor.request_file import Csv, JsonLines, Line, names_by_field
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


class Source(Protocol):
    """A log.

    Attributes:
        name: what to call it.
        total: how much there is to read, in the unit of `done`; None if unknown.
        time_column: where the times are; None if there are none, or it is not yet known.
    """

    name: str
    total: float | None
    time_column: str | None

    def items(self) -> Iterator[Item]:
        """Yield the requests."""
        ...

    def parse(self, given: Any) -> BaseModel:
        """Return an input; raise `ValidationError` if it is invalid."""
        ...

    def done(self, count: int) -> float:
        """Return how much has been read, after so many items."""
        ...


def names_of(schema: type[BaseModel]) -> dict[str, str]:
    """Return the names by which fields may be given, with the names of the fields."""
    return {each: name for name, names in names_by_field(schema).items() for each in names}


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
            return ParquetRows(path, schema, settings.time_column, stack)
        if not os.fstat(stream.fileno()).st_size:
            raise ConfigurationError("requests", f"{str(path)!r} is empty")
        is_packed = path.suffix.lower() == ".gz"
        raw = cast(BinaryIO, gzip.GzipFile(fileobj=stream)) if is_packed else stream
        rows = CsvRows if form == "csv" else JsonRows
        return rows(path, stream, raw, schema, settings.time_column)


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
    is_recorded = path.is_file() and header_of(path) is not None
    return RecordedRows(path.name, [path], schema) if is_recorded else None


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


def _chosen_column(
    columns: Iterable[str], schema: type[BaseModel], given: str | None
) -> str | None:
    """Return the time column: the one that was given, which must exist, or one that looks so."""
    columns = list(columns)
    if given is None:
        return time_column(columns, names_of(schema))
    if given not in columns:
        hint = did_you_mean(given, columns)
        raise ConfigurationError("time_column", f"the log has no column {given!r}; {hint}")
    return given


class Given:
    """Inputs or dicts that were passed as they are."""

    def __init__(
        self, requests: Iterable[Any], schema: type[BaseModel], column: str | None
    ) -> None:
        self.name = "requests"
        self.total = float(len(requests)) if isinstance(requests, Sized) else None
        self.time_column = column
        self._requests = requests
        self._schema = schema
        self._names = names_of(schema)
        self._is_first = True

    def items(self) -> Iterator[Item]:
        for given in self._requests:
            if not isinstance(given, Mapping):
                yield Item(given)
                continue
            if self._is_first:
                self._is_first = False
                self.time_column = _chosen_column(given, self._schema, self.time_column)
            yield _timed(dict(given), self.time_column, self._names)

    def parse(self, given: Any) -> BaseModel:
        if isinstance(given, self._schema):
            return given
        return self._schema.model_validate(given)

    def done(self, count: int) -> float:
        return float(count)


def _timed(given: dict[str, Any], column: str | None, fields: Collection[str]) -> Item:
    if column is None:
        return Item(given)
    if column in fields:  # a field of the model that says when
        return Item(given, given.get(column))
    return Item(given, given.pop(column, None))


class _File:
    """A file of lines."""

    def __init__(
        self, path: Path, stream: BinaryIO, lines: JsonLines | Csv, schema: type[BaseModel],
        column: str | None,
    ) -> None:  # fmt: skip
        self.name = path.name
        self.total: float | None = float(os.fstat(stream.fileno()).st_size)
        self.time_column = column
        self._path = path
        self._stream = stream
        self._lines = lines
        self._schema = schema
        self._names = names_of(schema)

    def items(self) -> Iterator[Item]:
        with _readable(self._path):
            for line in self._lines:
                if line.problem is not None:
                    yield Item(None, problem=line.problem)
                elif line.request is not None:
                    yield from self._inside(line.request)

    def _inside(self, request: dict[str, Any]) -> Iterator[Item]:
        yield _timed(request, self.time_column, self._names)

    def done(self, count: int) -> float:  # noqa: ARG002 - as the protocol
        return float(self._stream.tell())


class JsonRows(_File):
    """JSON Lines: requests, or records with requests inside."""

    def __init__(
        self, path: Path, stream: BinaryIO, raw: BinaryIO, schema: type[BaseModel],
        column: str | None,
    ) -> None:  # fmt: skip
        super().__init__(path, stream, JsonLines(raw, schema), schema, column)
        self._fields = list(schema.model_fields)
        self._is_first = True

    def _inside(self, request: dict[str, Any]) -> Iterator[Item]:
        try:
            inside = opened(request, self._fields)
        except EnvelopeError as error:
            yield Item(None, problem=str(error))
            return
        if inside is not None:
            self.time_column = self.time_column or ("time" if inside.time is not None else None)
            for each in inside.requests:
                yield Item(each, inside.time)
            return
        if self._is_first:
            self._is_first = False
            self.time_column = _chosen_column(request, self._schema, self.time_column)
        yield _timed(request, self.time_column, self._names)

    def parse(self, given: Any) -> BaseModel:
        try:
            return self._schema.model_validate(given)
        except ValidationError:
            # The rows of a CSV in a record are text.
            if given and all(isinstance(each, str) for each in given.values()):
                return self._schema.model_validate_strings(given)
            raise


class CsvRows(_File):
    """CSV with a header."""

    def __init__(
        self, path: Path, stream: BinaryIO, raw: BinaryIO, schema: type[BaseModel],
        column: str | None,
    ) -> None:  # fmt: skip
        super().__init__(path, stream, Csv(raw, schema), schema, column)
        known = [*self._lines.unknown_columns, *self._names]
        self.time_column = _chosen_column(known, schema, column)

    def parse(self, given: Any) -> BaseModel:
        return self._lines.parse(Line(0, b"", given))


class ParquetRows:
    """A Parquet file."""

    def __init__(
        self, path: Path, schema: type[BaseModel], column: str | None, stack: ExitStack
    ) -> None:
        from model_cache.advisor.parquet import Parquet

        self._file = Parquet(path)
        stack.callback(self._file.close)
        self.name = path.name
        self.total: float | None = float(self._file.count)
        self._schema = schema
        self._names = names_of(schema)
        self.time_column = _chosen_column(self._file.columns, schema, column)
        if not self._file.count:
            raise ConfigurationError("requests", f"{str(path)!r} is empty")

    def items(self) -> Iterator[Item]:
        extra = self._schema.model_config.get("extra")
        wanted = {*names_of(self._schema), self.time_column}
        if extra == "allow" or not wanted & set(self._file.columns) - {self.time_column}:
            wanted = set(self._file.columns)
        apart = None if self.time_column in self._names else self.time_column
        for row in self._file.rows({name for name in wanted if name is not None}, apart):
            yield _timed(row, self.time_column, self._names)

    def parse(self, given: Any) -> BaseModel:
        try:
            return self._schema.model_validate(given)
        except ValidationError:
            # A null is the only way of Parquet to say that a field is absent.
            present = {name: value for name, value in given.items() if value is not None}
            if len(present) == len(given):
                raise
            return self._schema.model_validate(present)

    def done(self, count: int) -> float:
        return float(count)

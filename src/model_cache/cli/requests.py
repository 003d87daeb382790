"""Files of requests: JSON Lines or CSV, read line by line from any place between two lines."""

from __future__ import annotations

import codecs
import csv
import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO, Literal, TypeAlias

from pydantic import BaseModel, ValidationError

from model_cache.errors import ConfigurationError, did_you_mean

Format: TypeAlias = Literal["jsonl", "csv"]

csv.field_size_limit(2**26)  # a picture in base64, say
# Of one request of a CSV: else a stray quote would take all that follows for one text.
_MOST_LINES = 10_000


@dataclass(frozen=True)
class Line:
    """One request of a file, which may take several lines, or what is none.

    Attributes:
        number: of its last line, from 1.
        raw: its bytes.
        request: its fields; None if it can't be read, or is blank or a header.
        problem: why it can't be read.
    """

    number: int
    raw: bytes
    request: Any = None
    problem: str | None = None

    @property
    def text(self) -> str:
        """The line, for people."""
        return self.raw.decode("utf-8", "backslashreplace").rstrip("\r\n")


class RequestFile:
    """A stream of requests.

    Args:
        stream: the bytes, from the beginning.
        form: "jsonl", or "csv", whose first line names the fields.
        schema: of the requests.

    Raises:
        ConfigurationError: a CSV without a header that names fields of the schema.
    """

    def __init__(self, stream: BinaryIO, form: Format, schema: type[BaseModel]) -> None:
        self._stream = stream
        self._schema = schema
        self.header: Line | None = None
        self._names: Sequence[str] = ()
        self.unknown_columns: Sequence[str] = ()
        if form == "csv":
            self._read_header()

    def lines(self, number: int = 0) -> Iterator[Line]:
        """Yield what comes next.

        Args:
            number: how many lines are before it.
        """
        if self.header is None:
            yield from self._json_lines(number)
        else:
            yield from self._csv_lines(number or self.header.number)

    def parse(self, line: Line) -> BaseModel:
        """Return a request as an instance of the schema.

        Raises:
            ValidationError: it is none.
        """
        if self.header is None:
            # As a web service reads it, not model_validate_json: the two differ about Decimals.
            return self._schema.model_validate(line.request)
        return self._schema.model_validate_strings(line.request)

    def _json_lines(self, number: int) -> Iterator[Line]:
        for raw in self._stream:
            number += 1
            text = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
            if not text.strip():
                yield Line(number, raw)
                continue
            try:
                request = json.loads(text.decode("utf-8"))
            except UnicodeDecodeError:
                yield Line(number, raw, problem="not UTF-8")
            except (ValueError, RecursionError):
                yield Line(number, raw, problem="no valid JSON")
            else:
                if isinstance(request, dict):
                    yield Line(number, raw, request)
                else:
                    yield Line(number, raw, problem="no JSON object")

    def _csv_lines(self, number: int) -> Iterator[Line]:
        ahead: deque[bytes] = deque()
        while True:
            taken: list[bytes] = []
            rows = csv.reader(islice(self._texts(taken, ahead), _MOST_LINES), strict=True)
            row, problem = [], None
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                problem = f"no valid CSV: {error}"
            if row and len(row) != len(self._names):
                problem = f"{len(row)} cells, but the header has {len(self._names)}"
            if problem is not None and len(taken) > 1:
                # Only its first line is bad for sure: what follows may be requests.
                problem = f"a quote opens that is not closed as it should be: {problem}"
                ahead.extendleft(reversed(taken[1:]))
                del taken[1:]
            number += len(taken)
            yield self._csv_line(number, b"".join(taken), row, problem)

    def _texts(self, taken: list[bytes], ahead: deque[bytes]) -> Iterator[str]:
        """Yield the lines that come next, those read ahead first, and note which were taken."""
        while raw := ahead.popleft() if ahead else self._stream.readline():
            taken.append(raw)
            yield raw.decode("utf-8", "surrogateescape")

    def _csv_line(self, number: int, raw: bytes, row: list[str], problem: str | None) -> Line:
        if problem is None and not _is_utf8(row):
            problem = "not UTF-8"
        if problem is not None:
            return Line(number, raw, problem=problem)
        if not row:
            return Line(number, raw)
        # An empty cell is a field that is absent: CSV has no other way to say so.
        cells = {name: cell for name, cell in zip(self._names, row, strict=True) if cell != ""}
        return Line(number, raw, cells)

    def _read_header(self) -> None:
        raw = self._stream.readline()
        text = raw.removeprefix(codecs.BOM_UTF8).decode("utf-8", "backslashreplace")
        try:
            self._names = next(csv.reader([text], strict=True), [])
        except csv.Error as error:
            lone = b"\r" in raw.rstrip(b"\r\n")
            why = "lines must end with \\n or \\r\\n, not with \\r alone" if lone else error
            raise ConfigurationError(
                "--requests", f"the first line is no header of a CSV: {why}"
            ) from error
        self.header = Line(1, raw)
        known = _names_of(self._schema)
        if not known & set(self._names):
            raise ConfigurationError(
                "--requests",
                f"the first line names no field of {self._schema.__name__}; it must be a header. "
                f"Known: {', '.join(sorted(known))}",
            )
        if len(set(self._names)) < len(self._names):
            raise ConfigurationError("--requests", "the first line names a field twice")
        for name, field in self._schema.model_fields.items():
            by_path = field.validation_alias and not isinstance(field.validation_alias, str)
            missing = not _names_of_field(name, field) & set(self._names)
            if field.is_required() and missing and not by_path:
                hint = did_you_mean(name, set(self._names) - known or self._names)
                raise ConfigurationError("--requests", f"there is no column {name!r}; {hint}")
        self.unknown_columns = [name for name in self._names if name not in known]


def _is_utf8(row: Sequence[str]) -> bool:
    try:
        "".join(row).encode()
    except UnicodeEncodeError:
        return False
    return True


def _names_of(schema: type[BaseModel]) -> set[str]:
    fields = schema.model_fields.items()
    return {each for name, field in fields for each in _names_of_field(name, field)}


def _names_of_field(name: str, field: Any) -> set[str]:
    alias = field.validation_alias
    return {each for each in (name, field.alias, alias) if isinstance(each, str)}


def reason(error: ValidationError) -> str:
    """Return why a request is none, without its values."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'it'}: {each['msg']}" for each in found)

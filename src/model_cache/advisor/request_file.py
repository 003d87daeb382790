"""Files of requests: JSON Lines, or CSV with a header, read one request at a time."""

from __future__ import annotations

import codecs
import csv
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Any, BinaryIO, Literal, TypeAlias, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from model_cache.errors import ConfigurationError, did_you_mean

Format: TypeAlias = Literal["jsonl", "csv"]

csv.field_size_limit(2**26)  # for an image in base64, for example
# The most lines that one request of a CSV may span: a stray quote must not swallow the file.
_MAX_LINES = 10_000
_SEPARATORS = ",;\t|"


@dataclass(frozen=True)
class Line:
    """One request of a file, which may span several lines, or what stands in its place.

    Attributes:
        number: the number of its last line, from 1.
        raw: its bytes.
        request: its fields; None if it is blank or can't be read.
        problem: why it can't be read; None if it can.
    """

    number: int
    raw: bytes
    request: Any = None
    problem: str | None = None

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing to predict."""
        return self.request is None and self.problem is None

    @property
    def text(self) -> str:
        """The line as text."""
        return self.raw.decode("utf-8", "backslashreplace").rstrip("\r\n")


class JsonLines:
    """A stream of JSON objects, one per line."""

    unknown_columns: Sequence[str] = ()

    def __init__(self, stream: BinaryIO, schema: type[BaseModel]) -> None:
        self._stream = stream
        self._schema = schema

    def __iter__(self) -> Iterator[Line]:
        for number, raw in enumerate(self._stream, 1):
            text = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
            yield self._line(number, raw, text) if text.strip() else Line(number, raw)

    def _line(self, number: int, raw: bytes, text: bytes) -> Line:
        try:
            request = json.loads(text.decode("utf-8"))
        except UnicodeDecodeError:
            return Line(number, raw, problem="not UTF-8")
        except (ValueError, RecursionError):
            return Line(number, raw, problem="invalid JSON")
        if not isinstance(request, dict):
            return Line(number, raw, problem="not a JSON object")
        return Line(number, raw, request)

    def parse(self, request: Any) -> BaseModel:
        """Return a request as an instance of the schema.

        Raises:
            ValidationError: the request is invalid.
        """
        # As a web service reads it, not model_validate_json: the two differ about Decimals.
        return self._schema.model_validate(request)


class Csv:
    """A stream of rows under a header that names fields of the schema.

    Attributes:
        unknown_columns: columns that are not in the schema.

    Raises:
        ConfigurationError: there is no header that names the required fields.
    """

    def __init__(self, stream: BinaryIO, schema: type[BaseModel]) -> None:
        self._stream = stream
        self._schema = schema
        known = names_of(schema).keys()
        header = stream.readline()
        self._separator, self._columns = _header(header, known)
        _check_columns(self._columns, schema, known)
        self.unknown_columns: Sequence[str] = [name for name in self._columns if name not in known]
        # pydantic reads every type from text, except the numbers of a Literal or an Enum.
        self._choices = [
            (names, choices)
            for field, names in names_by_field(schema).items()
            if (choices := _choices(schema.model_fields[field].annotation))
        ]

    def __iter__(self) -> Iterator[Line]:
        number = 1
        ahead: deque[bytes] = deque()
        while True:
            taken: list[bytes] = []
            row, problem = self._row(taken, ahead)
            if not taken:
                return
            if problem is not None and len(taken) > 1:
                # Only its first line is bad for sure: those that follow may be requests.
                problem = f"a quote is not closed properly: {problem}"
                ahead.extendleft(reversed(taken[1:]))
                del taken[1:]
            number += len(taken)
            yield self._line(number, b"".join(taken), row, problem)

    def parse(self, request: Any) -> BaseModel:
        """Return a request as an instance of the schema.

        Raises:
            ValidationError: the request is invalid.
        """
        try:
            return self._schema.model_validate_strings(request)
        except ValidationError as error:
            typed = self._with_choices(request, error)
            if typed == request:
                raise
        return self._schema.model_validate(typed)

    def _with_choices(self, cells: dict[str, str], error: ValidationError) -> dict[str, Any]:
        """Return the cells with numbers in those that pydantic does not read from text."""
        wrong = {each["loc"][0] for each in error.errors() if each["loc"]}
        typed: dict[str, Any] = dict(cells)
        for names, choices in self._choices:
            for name in names & cells.keys() if wrong & names else ():
                typed[name] = choices.get(cells[name], cells[name])
        return typed

    def _row(self, taken: list[bytes], ahead: deque[bytes]) -> tuple[list[str], str | None]:
        """Return the next row and what is wrong with it; `taken` gets its lines."""
        lines = islice(self._lines(taken, ahead), _MAX_LINES)
        try:
            row = next(csv.reader(lines, delimiter=self._separator, strict=True), [])
        except csv.Error as error:
            return [], f"invalid CSV: {error}"
        if row and len(row) != len(self._columns):
            return row, f"expected {len(self._columns)} cells as in the header, got {len(row)}"
        return row, None

    def _lines(self, taken: list[bytes], ahead: deque[bytes]) -> Iterator[str]:
        """Yield the next lines, those read ahead first, and add them to `taken`."""
        while raw := ahead.popleft() if ahead else self._stream.readline():
            taken.append(raw)
            yield raw.decode("utf-8", "surrogateescape")

    def _line(self, number: int, raw: bytes, row: list[str], problem: str | None) -> Line:
        if problem is None and not _is_utf8(row):
            problem = "not UTF-8"
        if problem is not None:
            return Line(number, raw, problem=problem)
        if not row:
            return Line(number, raw)
        # An empty cell is an absent field: CSV has no other way to say so.
        cells = {name: cell for name, cell in zip(self._columns, row, strict=True) if cell != ""}
        return Line(number, raw, cells)


def _is_utf8(row: Sequence[str]) -> bool:
    try:
        "".join(row).encode()
    except UnicodeEncodeError:
        return False
    return True


def _header(raw: bytes, known: Set[str]) -> tuple[str, Sequence[str]]:
    """Return the separator with which the header names the most fields, and its columns."""
    text = raw.removeprefix(codecs.BOM_UTF8).decode("utf-8", "backslashreplace")
    if "\r" in text.rstrip("\r\n"):
        raise ConfigurationError(
            "requests", "lines must end with \\n or \\r\\n, not with \\r alone"
        )

    def columns(separator: str, *, strict: bool) -> list[str]:
        return next(csv.reader([text], delimiter=separator, strict=strict), [])

    try:
        separator = max(_SEPARATORS, key=lambda each: len(known & {*columns(each, strict=False)}))
        return separator, columns(separator, strict=True)
    except csv.Error as error:
        raise ConfigurationError(
            "requests", f"the first line is not the header of a CSV file: {error}"
        ) from error


def _check_columns(columns: Sequence[str], schema: type[BaseModel], known: Set[str]) -> None:
    if not known & set(columns):
        raise ConfigurationError(
            "requests",
            f"the first line must be a header that names fields of {schema.__name__} "
            f"({', '.join(sorted(known))}), separated by a comma, semicolon, tab or |",
        )
    if len(set(columns)) < len(columns):
        raise ConfigurationError("requests", "the header names a column twice")
    for name, names in names_by_field(schema).items():
        field = schema.model_fields[name]
        by_path = field.validation_alias and not isinstance(field.validation_alias, str)
        if field.is_required() and not names & set(columns) and not by_path:
            hint = did_you_mean(name, set(columns) - known or columns)
            raise ConfigurationError("requests", f"column {name!r} is missing; {hint}")


def names_by_field(schema: type[BaseModel]) -> dict[str, set[str]]:
    """Return the names by which each field may be given."""
    return {name: _names_of(name, field) for name, field in schema.model_fields.items()}


def names_of(schema: type[BaseModel]) -> dict[str, str]:
    """Return the names by which fields may be given, with the names of the fields."""
    return {each: name for name, names in names_by_field(schema).items() for each in names}


def _names_of(name: str, field: FieldInfo) -> set[str]:
    names = (name, field.alias, field.validation_alias)
    return {each for each in names if isinstance(each, str)}


def _choices(annotation: Any) -> Mapping[str, object]:
    """Return the numbers in the Literals and Enums of a type by their string form."""
    annotation = getattr(annotation, "__value__", annotation)  # `type Name = ...`
    values: tuple[Any, ...]
    if get_origin(annotation) is Literal:
        values = get_args(annotation)
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        values = tuple(annotation)
    else:  # a union, for example
        parts = map(_choices, get_args(annotation))
        return {text: value for part in parts for text, value in part.items()}
    plain = (each.value if isinstance(each, Enum) else each for each in values)
    return {str(value): value for value in plain if isinstance(value, (int, float))}


def open_requests(stream: BinaryIO, form: Format, schema: type[BaseModel]) -> JsonLines | Csv:
    """Return the requests in a stream, which is at its beginning.

    Raises:
        ConfigurationError: a CSV without a header that names fields of the schema.
    """
    return Csv(stream, schema) if form == "csv" else JsonLines(stream, schema)


def reason(error: ValidationError) -> str:
    """Return why a request is invalid, without its values."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'it'}: {each['msg']}" for each in found)

"""Requests that the option `record` has written: one file, or the files of a model in a folder."""

from __future__ import annotations

import copy
import enum
import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel, ValidationError

from model_cache import pydantic_attributes
from model_cache.advisor.envelopes import EnvelopeError, named_row
from model_cache.advisor.request_file import JsonLines
from model_cache.advisor.sample import Recorded
from model_cache.advisor.sources import Item, Source
from model_cache.errors import ConfigurationError
from model_cache.keys.schemas import leaves
from model_cache.keys.showing import hidden_fields
from model_cache.observing.request_log import HEADER
from model_cache.redaction import SECRETS
from model_cache.words import count

_KEYS = 2**64
_LONGEST_HEADER = 2**20
_NUMBERS = ("requests", "dropped", "unrecordable", "key")
# For most types, one of these is valid. Numeric text comes first, since a model may parse it.
_STAND_INS: tuple[Any, ...] = (
    "0", 0, 1, False, None, "00000000-0000-0000-0000-000000000000", [], {}, "", "a",
)  # fmt: skip

Loc = tuple[Any, ...]


def header_of(path: Path) -> dict[str, Any] | None:
    """Return the header of a file; None if the option `record` did not write the file."""
    with path.open("rb") as file:
        first = file.readline(_LONGEST_HEADER)
    try:
        header = json.loads(first)
    except (ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) and HEADER in header else None


def files_in(folder: Path, model: str) -> dict[Path, dict[str, Any]]:
    """Return the files with a model's requests in a folder, each with its header.

    Raises:
        ConfigurationError: there are none.
        OSError: the folder can't be read.
    """
    found: dict[str, dict[Path, dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        header = header_of(path)
        if header is not None:
            found.setdefault(str(header.get("model")), {})[path] = header
    if not found:
        raise ConfigurationError(
            "requests", f"{str(folder)!r} has no files that the option record has written"
        )
    if model not in found and len(found) > 1:
        raise ConfigurationError(
            "requests",
            f"{str(folder)!r} has no requests of {model!r}, only of "
            f"{', '.join(map(repr, sorted(found)))}; pass one of its files instead",
        )
    # Requests of a function are recorded under its name. A model around it has another name.
    return found.get(model) or next(iter(found.values()))


class RecordedRows(Source):
    """The requests in one or more files.

    Args:
        name: what to call them.
        files: the files, each with its header.
        schema: the model's input schema.

    Raises:
        ConfigurationError: a header is damaged.
    """

    def __init__(
        self, name: str, files: Mapping[Path, dict[str, Any]], schema: type[BaseModel]
    ) -> None:
        super().__init__(name, schema, float(sum(path.stat().st_size for path in files)), "time")
        self._paths = list(files)
        self._read = 0.0  # of the files before the one that is being read
        self._stream: BinaryIO | None = None
        self._recorded = self.recorded = _said_by(files)  # complete after all items are read
        self._stand_ins: dict[Loc, Any] = {}  # values for required fields that were not recorded

    def items(self) -> Iterator[Item]:
        for path in self._paths:
            with path.open("rb") as self._stream:
                yield from self._lines(JsonLines(self._stream, self.schema))
                self._read += self._stream.tell()
            self._stream = None

    def done(self, count: int) -> float:  # noqa: ARG002 - as any source
        return self._read + (0.0 if self._stream is None else self._stream.tell())

    def _inside(self, line: dict[str, Any]) -> Iterator[Item]:
        """Yield the request in a line, if there is one and its key is sampled."""
        numbers = [line.get(name, 0) for name in _NUMBERS]
        if any(type(number) is not int or not 0 <= number < _KEYS for number in numbers):
            yield Item(None, problem="not what the option record has written")
        elif "requests" in line:
            self._add(line)
        # Keys below the smallest share are in all files.
        elif "request" in line and line.get("key", 0) < round(self._recorded.share * _KEYS):
            yield self._item(line, line.get("key", 0))

    def _item(self, line: dict[str, Any], key: int) -> Item:
        try:
            given = line["request"]
            if not pydantic_attributes.is_root_model(self.schema):
                given = named_row(given, self._fields)
        except EnvelopeError as error:
            return Item(None, problem=str(error))
        return Item(given, line.get("time"), unit=key)

    def _add(self, counts: dict[str, Any]) -> None:
        self._recorded.requests += counts["requests"]
        self._recorded.dropped += counts.get("dropped", 0)
        self._recorded.unrecordable += counts.get("unrecordable", 0)

    def parse(self, given: Any) -> BaseModel:
        """Return an input, with stand-ins for required fields that were not recorded."""
        while True:
            try:
                return super().parse(self._completed(given))
            except ValidationError as error:
                if not self._found_stand_ins(given, error):
                    raise

    def _completed(self, given: Any) -> Any:
        if not self._stand_ins:
            return given
        completed = copy.deepcopy(given)
        for loc, value in self._stand_ins.items():
            _set(completed, loc, value)
        return completed

    def _found_stand_ins(self, given: Any, error: ValidationError) -> bool:
        """Find values for missing fields; return whether there are new ones."""
        known = self._stand_ins
        missing = [
            each["loc"]
            for each in error.errors(include_url=False, include_input=False)
            if each["type"] == "missing" and each["loc"] not in known
        ]
        for loc in missing:
            for value in (*self._choices(loc), *_STAND_INS):
                known[loc] = value
                if self._is_valid_at(given, loc):
                    break
            else:
                del known[loc]
                return False
        return bool(missing)

    def _is_valid_at(self, given: Any, loc: Loc) -> bool:
        try:
            super().parse(self._completed(given))
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
            # Fields inside it may be missing. Stand-ins for these are found next.
            return not any(
                each["loc"][: len(loc)] == loc and (each["type"] != "missing" or each["loc"] == loc)
                for each in found
            )
        return True

    def _choices(self, loc: Loc) -> Sequence[Any]:
        """Return the values of a field that has a fixed set of them."""
        name = self._names.get(str(loc[0]), "")
        annotation = self.schema.model_fields[name].annotation if name and len(loc) == 1 else None
        if typing.get_origin(annotation) is typing.Literal:
            return typing.get_args(annotation)
        if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
            return [member.value for member in annotation]
        return ()


def _said_by(files: Mapping[Path, dict[str, Any]]) -> Recorded:
    """Return what the headers of files say about their requests."""
    shares = [1.0]
    left_out: dict[str, None] = {}
    for path, header in files.items():
        share, names = header.get("share", 1.0), header.get("left_out", [])
        is_share = type(share) in (int, float) and 0.0 < share <= 1.0
        if not (is_share and type(names) is list and {str}.issuperset(map(type, names))):
            raise ConfigurationError("requests", f"the first line of {str(path)!r} is damaged")
        shares.append(share)
        left_out |= dict.fromkeys(names)
    return Recorded(min(shares), tuple(left_out))


def _set(given: Any, loc: Loc, value: Any) -> None:
    for name in loc[:-1]:
        if not isinstance(given, dict):
            return
        given = given.get(name)
    if isinstance(given, dict):
        given.setdefault(loc[-1], value)


def notes_on(recorded: Recorded, schema: type[BaseModel]) -> Iterator[str]:
    """Yield notes on what limits the advice from recorded requests."""
    if recorded.left_out:
        yield (
            f"Not recorded, because not part of the key: {', '.join(recorded.left_out)}. They "
            "stay in ignored_fields."
        )
    hidden = _hidden(schema)
    if hidden:
        yield (
            f"Not recorded, because secret: {', '.join(hidden)}. Requests that differ only in "
            "secrets count as equal."
        )
    for number, reason in (
        (recorded.dropped, "writing fell behind"),
        (recorded.unrecordable, "of a value that JSON can't represent"),
    ):
        if number:
            not_recorded = count(number, "request was", "requests were")
            yield f"{not_recorded} not recorded, because {reason}."


def _hidden(schema: type[BaseModel]) -> list[str]:
    """Return the fields whose values are not recorded: secrets, and those kept out of the repr."""
    unshown = hidden_fields(schema)
    return [
        name
        for name, info in schema.model_fields.items()
        if name in unshown or any(leaf in SECRETS for leaf in leaves(info.annotation))
    ]

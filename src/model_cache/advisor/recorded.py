"""Requests that the option `record` has written: one file, or the files of a model in a folder."""

from __future__ import annotations

import copy
import enum
import json
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from model_cache import pydantic_attributes
from model_cache.advisor.envelopes import EnvelopeError, named_row
from model_cache.advisor.request_file import JsonLines
from model_cache.advisor.sources import Item, names_of
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


@dataclass
class Recorded:
    """What the files say about their requests.

    Attributes:
        share: the share of the keys whose requests were recorded.
        left_out: the paths of the fields that were not recorded.
        requests: how many requests there were.
        dropped: how many sampled requests were not written in time.
        unrecordable: how many sampled requests could not be written as JSON.
        stand_ins: values for required fields that were not recorded.
    """

    share: float = 1.0
    left_out: tuple[str, ...] = ()
    requests: int = 0
    dropped: int = 0
    unrecordable: int = 0
    stand_ins: dict[Loc, Any] = field(default_factory=dict)


def header_of(path: Path) -> dict[str, Any] | None:
    """Return the header of a file; None if the option `record` did not write the file."""
    with path.open("rb") as file:
        first = file.readline(_LONGEST_HEADER)
    try:
        header = json.loads(first)
    except (ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) and HEADER in header else None


def _checked(header: dict[str, Any], path: Path) -> dict[str, Any]:
    share, left_out = header.get("share", 1.0), header.get("left_out", [])
    is_share = type(share) in (int, float) and 0.0 < share <= 1.0
    if is_share and type(left_out) is list and {str}.issuperset(map(type, left_out)):
        return header
    raise ConfigurationError("requests", f"the first line of {str(path)!r} is damaged")


def files_in(folder: Path, model: str) -> list[Path]:
    """Return the files in a folder with the requests of a model.

    Raises:
        ConfigurationError: there are none.
        OSError: the folder can't be read.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        header = header_of(path)
        if header is not None:
            found.setdefault(str(header.get("model")), []).append(path)
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


class RecordedRows:
    """The requests in one or more files.

    Args:
        name: what to call them.
        paths: the files.
        schema: the model's input schema.

    Attributes:
        recorded: what the files say; complete after all items have been read.
    """

    time_column: str | None = "time"

    def __init__(self, name: str, paths: Sequence[Path], schema: type[BaseModel]) -> None:
        self.name = name
        self.total: float | None = float(sum(path.stat().st_size for path in paths))
        self._paths = paths
        self._schema = schema
        self._fields = list(schema.model_fields)
        self._before = 0.0
        self._position = 0.0
        headers = [_checked(header, path) for path in paths if (header := header_of(path))]
        shares = [header.get("share", 1.0) for header in headers]
        left_out = {name: None for header in headers for name in header.get("left_out", ())}
        self.recorded = Recorded(min(shares, default=1.0), tuple(left_out))

    def items(self) -> Iterator[Item]:
        for path in self._paths:
            with path.open("rb") as stream:
                for line in JsonLines(stream, self._schema):
                    self._position = self._before + stream.tell()
                    if line.problem is not None:
                        yield Item(None, problem=line.problem)
                    elif line.request is not None:
                        yield from self._inside(line.request)
            self._before = self._position

    def _inside(self, line: dict[str, Any]) -> Iterator[Item]:
        """Yield the request in a line, if there is one and its key is sampled."""
        numbers = [line.get(name, 0) for name in _NUMBERS]
        if any(type(number) is not int or not 0 <= number < _KEYS for number in numbers):
            yield Item(None, problem="not what the option record has written")
        elif "requests" in line:
            self._add(line)
        # Keys below the smallest share are in all files.
        elif "request" in line and line.get("key", 0) < round(self.recorded.share * _KEYS):
            yield self._item(line, line.get("key", 0))

    def _item(self, line: dict[str, Any], key: int) -> Item:
        try:
            given = line["request"]
            if not pydantic_attributes.is_root_model(self._schema):
                given = named_row(given, self._fields)
        except EnvelopeError as error:
            return Item(None, problem=str(error))
        return Item(given, line.get("time"), unit=key)

    def _add(self, counts: dict[str, Any]) -> None:
        self.recorded.requests += counts["requests"]
        self.recorded.dropped += counts.get("dropped", 0)
        self.recorded.unrecordable += counts.get("unrecordable", 0)

    def done(self, count: int) -> float:  # noqa: ARG002 - as the protocol
        return self._position

    def parse(self, given: Any) -> BaseModel:
        """Return an input, with stand-ins for required fields that were not recorded."""
        while True:
            try:
                return self._schema.model_validate(self._completed(given))
            except ValidationError as error:
                if not self._found_stand_ins(given, error):
                    raise

    def _completed(self, given: Any) -> Any:
        if not self.recorded.stand_ins:
            return given
        completed = copy.deepcopy(given)
        for loc, value in self.recorded.stand_ins.items():
            _set(completed, loc, value)
        return completed

    def _found_stand_ins(self, given: Any, error: ValidationError) -> bool:
        """Find values for missing fields; return whether there are new ones."""
        known = self.recorded.stand_ins
        missing = [
            each["loc"]
            for each in error.errors(include_url=False, include_input=False)
            if each["type"] == "missing" and each["loc"] not in known
        ]
        for loc in missing:
            for value in (*_choices(self._schema, loc), *_STAND_INS):
                known[loc] = value
                if self._is_valid_at(given, loc):
                    break
            else:
                del known[loc]
                return False
        return bool(missing)

    def _is_valid_at(self, given: Any, loc: Loc) -> bool:
        try:
            self._schema.model_validate(self._completed(given))
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
            # Fields inside it may be missing. Stand-ins for these are found next.
            return not any(
                each["loc"][: len(loc)] == loc and (each["type"] != "missing" or each["loc"] == loc)
                for each in found
            )
        return True


def _set(given: Any, loc: Loc, value: Any) -> None:
    for name in loc[:-1]:
        if not isinstance(given, dict):
            return
        given = given.get(name)
    if isinstance(given, dict):
        given.setdefault(loc[-1], value)


def _choices(schema: type[BaseModel], loc: Loc) -> Sequence[Any]:
    """Return the values of a field that has a fixed set of them."""
    name = names_of(schema).get(str(loc[0]), "")
    annotation = schema.model_fields[name].annotation if name and len(loc) == 1 else None
    if typing.get_origin(annotation) is typing.Literal:
        return typing.get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return [member.value for member in annotation]
    return ()


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

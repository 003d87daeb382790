"""Read a log: requests become inputs in batches, and what can't be read is counted."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pydantic import BaseModel, ValidationError

from model_cache.advisor.request_file import names_by_field, names_of, reason
from model_cache.advisor.sources import Item, Source
from model_cache.advisor.times import seconds_of
from model_cache.errors import ConfigurationError
from model_cache.interruptions import reraise_interruption

_BATCH = 20_000
_SHOWN = 3
_REMEMBERED = 100
_DEPTH = 5


@dataclass(frozen=True)
class Batch:
    """Some requests.

    Attributes:
        inputs: the inputs, validated.
        times: their times in seconds since 1970; empty if the log has none.
        units: their keys, of a sample by key; else empty.
        bad: why others were skipped, with how many.
        done: how much of the source has been read.
    """

    inputs: list[BaseModel]
    times: list[float]
    units: list[int]
    bad: Counter[str]
    done: float


@dataclass
class Reader:
    """Reads a source.

    Args:
        source: the log.
        needs_times: whether it is an error if there are no times.

    Attributes:
        read: how many items were read, bad ones included.
    """

    source: Source
    needs_times: bool = False
    read: int = 0
    _bad: Counter[str] = field(default_factory=Counter)
    _misfits: list[tuple[Any, ValidationError]] = field(default_factory=list)
    _has_times: bool | None = None

    def batches(self) -> Iterator[Batch]:
        """Yield the requests.

        Raises:
            ConfigurationError: there are none, or none fits the schema.
        """
        items = self.source.items()
        fitting = 0
        while taken := list(islice(items, _BATCH)):
            self.read += len(taken)
            batch = self._batch(taken)
            fitting += len(batch.inputs)
            yield batch
        if not self.read:
            raise ConfigurationError("requests", f"{self.source.name!r} has no requests")
        if not fitting:
            raise ConfigurationError("requests", self._nothing_fits())

    def _batch(self, items: list[Item]) -> Batch:
        if self._has_times is None:
            self._has_times = self._find_times(items)
        inputs: list[BaseModel] = []
        times: list[float] = []
        units: list[int] = []
        bad: Counter[str] = Counter()
        parse = self.source.parse
        for given, time, problem, unit in items:
            seconds = seconds_of(time) if self._has_times else 0.0
            if problem is not None or seconds is None:
                bad[problem or f"{self.source.time_column}: missing, or not a time"] += 1
                continue
            try:
                inputs.append(parse(given))
            except ValidationError as error:
                bad[reason(error)] += 1
                if len(self._misfits) < _REMEMBERED:
                    self._misfits.append((given, error))
            except Exception as error:  # a validator of the user
                reraise_interruption(error)
                bad[f"validating it raised {type(error).__name__}"] += 1
            else:
                times.append(seconds)
                if unit is not None:
                    units.append(unit)
        times = times if self._has_times else []
        if not inputs:
            self._bad.update(bad)
        return Batch(inputs, times, units, bad, self.source.done(self.read))

    def _find_times(self, items: list[Item]) -> bool:
        """Return whether any of the first requests has a time: a column may only be named so."""
        found = any(seconds_of(item.time) is not None for item in items)
        if self.needs_times and not found:
            raise ConfigurationError(
                "time_column", f"the column {self.source.time_column!r} has no times"
            )
        return found

    def _nothing_fits(self) -> str:
        """Return why no request fits: where its fields are, or which of them are wrong."""
        schema = self.source.schema
        is_one, name = self.read == 1, schema.__name__
        whole = f"none of the {self.read:,} requests"
        if not self._misfits:
            whole = "the only request can't be read" if is_one else f"{whole} can be read"
            reasons = [f"{why} ({times:,})" for why, times in self._bad.most_common(_SHOWN)]
            return f"{whole}: {', '.join(reasons)}; is this the right format?"
        whole = f"the only request does not fit {name}" if is_one else f"{whole} fits {name}"
        # The first line of an access log may be of another endpoint.
        paths = (_path_to_fields(given, schema) for given, _ in self._misfits)
        if path := next(filter(None, paths), None):
            where = f"its fields are inside {'.'.join(path)!r}"
            return f"{whole}: {where}; make each of these objects a line, for example with jq"
        given, error = self._misfits[0]
        columns = [str(name) for name in given] if isinstance(given, dict) else []
        strange = [name for name in columns if name not in names_of(schema)]
        problems = [
            _problem(each["loc"], each["msg"], strange)
            for each in error.errors(include_url=False, include_input=False)
        ]
        more = len(problems) - _SHOWN
        shown = "; ".join(problems[:_SHOWN])
        return f"{whole}: {shown}" + (f"; and {more} more" if more > 0 else "")


def _path_to_fields(given: Any, schema: type[BaseModel]) -> list[str] | None:
    """Return the keys that lead to an object with all required fields; None if there is none."""
    names = names_by_field(schema)
    required = [names[name] for name, info in schema.model_fields.items() if info.is_required()]
    level: list[tuple[list[str], Any]] = [([], given)]
    for _ in range(_DEPTH):
        for path, found in level:
            if isinstance(found, dict) and all(not each.isdisjoint(found) for each in required):
                return path
        level = [
            ([*path, str(key)], _unpacked(value))
            for path, found in level
            if isinstance(found, dict)
            for key, value in found.items()
        ]
    return None


def _unpacked(value: Any) -> Any:
    """Return what a string of JSON contains; anything else as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith("{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _problem(loc: tuple[int | str, ...], message: str, strange: list[str]) -> str:
    name = ".".join(map(str, loc)) or "the request"
    found = difflib.get_close_matches(name.lower(), [each.lower() for each in strange], n=1)
    nearest = next((each for each in strange if found and each.lower() == found[0]), None)
    hint = f" (nearest column: {nearest!r})" if nearest else ""
    return f"{name}: {message}{hint}"

"""The insurance table, the training data: its rows, and a reader for the published CSV format.

Its limits are wider than the input schema's: the published rows include a body mass index of 53.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from examples.insurance_charges.schemas import (
    InsuranceChargesModelInput,
    RegionEnum,
    SexEnum,
)

MINIMUM_ROWS = 50
"""With fewer rows, there is too little to train on and to hold out."""


@dataclass(frozen=True, slots=True)
class InsuranceRow:
    """One person in the table; units are years, kg/m² and US dollars."""

    age: int
    sex: SexEnum
    bmi: float
    children: int
    smoker: bool
    region: RegionEnum
    charges: float


COLUMNS = tuple(field.name for field in fields(InsuranceRow))
FEATURES = COLUMNS[:-1]


class TableError(ValueError):
    """A file is not a valid training table; the message names the file, line and column.

    Attributes:
        path: the file.
        problem: what is wrong.
        line: the number of the line, from 1; None if the problem is not in one line.
        column: the name of the column; None if the problem is not in one column.
    """

    def __init__(
        self, path: Path, problem: str, line: int | None = None, column: str | None = None
    ) -> None:
        super().__init__(path, problem, line, column)
        self.path = path
        self.problem = problem
        self.line = line
        self.column = column

    def __str__(self) -> str:
        line = f", line {self.line}" if self.line is not None else ""
        column = f", column {self.column!r}" if self.column is not None else ""
        return f"{self.path}{line}{column}: {self.problem}"


def features(person: InsuranceRow | InsuranceChargesModelInput) -> dict[str, str | float]:
    """Return the pipeline's features of a person, the same for training and prediction."""
    return {name: getattr(person, name) for name in FEATURES}


def read_table(path: Path) -> list[InsuranceRow]:
    """Read a CSV file with the columns age, sex, bmi, children, smoker, region and charges.

    The columns may be in any order, and there may be others.

    Raises:
        TableError: the file is not text, lacks a column, contains an invalid value, or has fewer
            than `MINIMUM_ROWS` rows.
        OSError: the file can't be opened.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            rows = list(_rows(path, csv.DictReader(file)))
        except (UnicodeDecodeError, csv.Error) as error:
            raise TableError(path, f"not a CSV file in UTF-8: {error}") from error
    if len(rows) < MINIMUM_ROWS:
        raise TableError(path, f"expected at least {MINIMUM_ROWS} rows, got {len(rows)}")
    return rows


def _rows(path: Path, reader: csv.DictReader[str]) -> Iterator[InsuranceRow]:
    header = reader.fieldnames
    if header is None:
        raise TableError(path, "the file is empty")
    for column in COLUMNS:
        if column not in header:
            raise TableError(path, f"missing; the header is {','.join(header)}", 1, column)
    for record in reader:
        values: dict[str, Any] = {}
        for column, (parse, expected) in _PARSERS.items():
            text = record[column] or ""  # None if the line is too short
            try:
                values[column] = parse(text)
            except (ValueError, KeyError) as error:
                problem = f"{text!r} is not {expected}"
                raise TableError(path, problem, reader.line_num, column) from error
        yield InsuranceRow(**values)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


_WHOLE = (int, "a whole number")
_NUMBER = (_finite, "a number")
_PARSERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "age": _WHOLE,
    "sex": (SexEnum, f"one of {', '.join(SexEnum)}"),
    "bmi": _NUMBER,
    "children": _WHOLE,
    "smoker": ({"yes": True, "no": False}.__getitem__, "yes or no"),
    "region": (RegionEnum, f"one of {', '.join(RegionEnum)}"),
    "charges": _NUMBER,
}

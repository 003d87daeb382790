"""Tables of people, as files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from examples.insurance_charges.table import COLUMNS, InsuranceRow


def write_table(path: Path, rows: Sequence[InsuranceRow]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in rows:
            writer.writerow(asdict(row) | {"smoker": "yes" if row.smoker else "no"})


# Reading a table

HEADER = ",".join(COLUMNS)

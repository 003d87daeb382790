"""The example's table of people, read and refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from examples.insurance_charges.generator import generate_rows, random_inputs
from examples.insurance_charges.schemas import RegionEnum, SexEnum
from examples.insurance_charges.table import InsuranceRow, TableError, read_table
from examples.insurance_charges.train import main
from tests.examples.tables import HEADER, write_table

GOOD = "19,female,27.9,0,yes,southwest,16884.924"


def test_a_written_table_is_read_back_unchanged(tmp_path: Path) -> None:
    rows = generate_rows(60, seed=10)
    write_table(tmp_path / "insurance.csv", rows)
    assert read_table(tmp_path / "insurance.csv") == rows


def test_columns_may_stand_in_another_order_among_others(tmp_path: Path) -> None:
    table = tmp_path / "insurance.csv"
    line = "yes,7,southwest,16884.924,19,female,27.9,0\n"
    table.write_text("\ufeffsmoker,id,region,charges,age,sex,bmi,children\n" + line * 50)
    expected = InsuranceRow(19, SexEnum.female, 27.9, 0, True, RegionEnum.southwest, 16884.924)
    assert read_table(table) == [expected] * 50


@pytest.mark.parametrize(
    ("text", "line", "column", "problem"),
    [
        ("", None, None, "the file is empty"),
        (HEADER, None, None, "expected at least 50 rows, got 0"),
        (f"{HEADER}\n{GOOD}\n", None, None, "expected at least 50 rows, got 1"),
        ("age,sex,bmi", 1, "children", "missing; the header is age,sex,bmi"),
        (f"{HEADER}\n{GOOD}\n{GOOD.replace('27.9', 'x')}", 3, "bmi", "'x' is not a number"),
        (f"{HEADER}\n{GOOD.replace('27.9', 'nan')}", 2, "bmi", "'nan' is not a number"),
        (f"{HEADER}\n{GOOD.replace('19', '19.5')}", 2, "age", "'19.5' is not a whole number"),
        (f"{HEADER}\n{GOOD.replace('yes', 'true')}", 2, "smoker", "'true' is not yes or no"),
        (f"{HEADER}\n{GOOD.replace('female', 'f')}", 2, "sex", "'f' is not one of male, female"),
        (f"{HEADER}\n19,female,27.9,0,yes", 2, "region", "'' is not one of southwest"),
    ],
)
def test_bad_table_is_refused_by_line_and_column(
    text: str,
    line: int | None,
    column: str | None,
    problem: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table, output = tmp_path / "insurance.csv", tmp_path / "model.joblib"
    table.write_text(text)
    with pytest.raises(TableError) as caught:
        read_table(table)
    error = caught.value
    assert (error.line, error.column) == (line, column)
    assert problem in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)

    assert main(["--data", str(table), "--output", str(output)]) == 1
    assert capsys.readouterr().err == f"error: {error}\n"
    assert not output.exists()


def test_table_that_is_not_text_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "insurance.csv"
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TableError, match="not a CSV file in UTF-8"):
        read_table(table)


def test_absent_table_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path / "absent.csv")]) == 1
    assert "absent.csv" in capsys.readouterr().err


# Made-up people


def test_the_same_seed_generates_the_same_people() -> None:
    assert generate_rows(50, seed=1) == generate_rows(50, seed=1) != generate_rows(50, seed=2)
    assert random_inputs(50, seed=1) == random_inputs(50, seed=1) != random_inputs(50, seed=2)
    assert generate_rows(0, seed=1) == []
    assert random_inputs(0, seed=1) == []

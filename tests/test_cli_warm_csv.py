"""`model-cache warm` from a CSV: what its texts are, where it breaks, and where it goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.models import Person, person
from tests.servers import Server
from tests.test_cli_warm import assert_hits, progress_beside, rejected_beside, warm

ROW = "{},female,24,2,no,northwest\n"


def test_a_csv_is_read_by_the_schema(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "requests.CSV"
    path.write_text(
        "\ufeffage,sex,bmi,children,smoker,region,note\r\n"
        '42,female,24,2,no,northwest,"two\r\nlines"\r\n'
        "43,female,24,2,false,northwest,\r\n"
        "\r\n"
        "44,female,,2,no,northwest,\r\n"
        "45,female\r\n",
        newline="",
    )
    result = warm(server, path)
    assert result.code == 1
    assert (result.json["requests"], result.json["stored"]) == (4, 2)
    assert "does not have: 'note'\n" in result.stderr
    found = [(each["line"], each["reason"]) for each in rejected_beside(path)]
    assert found == [(6, "bmi: Field required"), (7, "2 cells, but the header has 7")]
    assert_hits(server, [42, 43])


@pytest.mark.parametrize("lines", [3, 12_000])
def test_a_stray_quote_costs_its_own_line_only(server: Server, tmp_path: Path, lines: int) -> None:
    path = tmp_path / "requests.csv"
    rows = [ROW.format(n % 50) for n in range(lines)]
    path.write_text("age,sex,bmi,children,smoker,region\n" + '"' + "".join(rows))
    result = warm(server, path)
    assert result.code == 1
    assert (result.json["requests"], result.json["rejected"]) == (lines, 1)
    (found,) = rejected_beside(path)
    assert (found["line"], found["request"]) == (2, '"' + rows[0].rstrip())
    assert found["reason"].startswith("a quote opens that is not closed")


def test_a_quote_that_closes_in_the_wrong_place_costs_few_lines(
    server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "requests.csv"
    text = "age,sex,bmi,children,smoker,region\n" + '"' + ROW.format(1) + ROW.format(2)
    path.write_text(text + ROW.format('"3"') + ROW.format("4").replace("24", '"24') + ROW.format(5))
    result = warm(server, path)
    assert (result.json["requests"], result.json["rejected"]) == (5, 2)
    assert [each["line"] for each in rejected_beside(path)] == [2, 5]
    assert_hits(server, [2, 3, 5])


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("1,2,3", "names no field"),
        ("age,sex,bmj,children,smoker,region", "did you mean 'bmj'"),
        ("age,sex,bmi,children,smoker,region\r1,female,2,3,no,northwest", "not with \\r alone"),
        ('"age,sex', "no header of a CSV"),
    ],
)
def test_a_csv_without_its_columns_is_refused(
    server: Server, tmp_path: Path, header: str, message: str
) -> None:
    path = tmp_path / "requests.csv"
    path.write_text(f"{header}\n1,2,3\n", newline="")
    result = warm(server, path)
    assert (result.code, result.stdout) == (2, "")
    assert message in result.stderr


def test_a_csv_goes_on_where_it_stopped_too(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "requests.csv"
    names = list(Person.model_fields)
    rows = [json.loads(person(age=age).model_dump_json()) for age in range(100)]
    cells = [",".join(str(row[name]) for name in names) for row in rows]
    path.write_text("\n".join([",".join(names), *cells]) + "\n")
    assert warm(server, path, TEST_INTERRUPT_AT="80").code == 130
    done = json.loads(progress_beside(path).read_text())["line"]
    assert 1 < done <= 81  # the header is one
    resumed = warm(server, path)
    assert (resumed.code, resumed.json["requests"]) == (0, 100)
    assert resumed.json["resumed_at"] == done
    assert_hits(server, range(100))

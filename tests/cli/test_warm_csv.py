"""`model-cache warm` with a CSV file: how values are parsed, and malformed files."""

from __future__ import annotations

import enum
import io
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import AfterValidator, BaseModel, ValidationError

from model_cache.advisor.request_file import open_requests
from tests.cli.warming import assert_hits, rejected_beside, warm
from tests.servers import Server

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
    assert "not in the input schema: 'note'\n" in result.stderr
    found = [(each["line"], each["reason"]) for each in rejected_beside(path)]
    assert found == [(6, "bmi: Field required"), (7, "expected 7 cells as in the header, got 2")]
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
    assert found["reason"].startswith("a quote is not closed properly")


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
        ("1,2,3", "must be a header that names fields of Person"),
        ("age,sex,bmj,children,smoker,region", "did you mean 'bmj'"),
        ("age,sex,bmi,children,smoker,region\r1,female,2,3,no,northwest", "not with \\r alone"),
        ("age,sex,bmi,children,smoker,region,age", "the header names a column twice"),
        ('"age,sex', "not the header of a CSV"),
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


def test_a_row_that_is_not_utf_8_is_rejected(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "requests.csv"
    path.write_bytes(
        b"age,sex,bmi,children,smoker,region\n" + ROW.format(1).encode() + b"2,\xff,3,4,no,x\n"
    )
    assert warm(server, path).json["stored"] == 1
    assert [(each["line"], each["reason"]) for each in rejected_beside(path)] == [(3, "not UTF-8")]


@pytest.mark.parametrize("name", ["requests.csv", "requests.TSV"])
@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators_are_detected(
    server: Server, tmp_path: Path, separator: str, name: str
) -> None:
    path = tmp_path / name
    lines = ['"age",sex,bmi,children,smoker,region,note\n', ROW.format(7).strip() + ',"a,b;c"\n']
    path.write_text("".join(lines).replace(",", separator))
    result = warm(server, path)
    assert (result.code, result.json["stored"]) == (0, 1)
    assert_hits(server, [7])


class Level(enum.Enum):
    low, high = 1, 2.5


class Choices(BaseModel):
    size: Literal[1, 2]
    maybe: Literal[10, 20] | None = None
    kind: Literal["1", 1] = 1
    level: Level = Level.low
    whole: enum.IntEnum("Whole", {"one": 1}) = 1  # type: ignore[valid-type]
    scale: Annotated[float, AfterValidator(lambda value: value / 100)] = 0.0


@pytest.mark.parametrize(
    ("header", "row", "fields"),
    [
        ("size", "2", {"size": 2}),
        ("size,maybe", "1,20", {"size": 1, "maybe": 20}),
        ("size,level", "1,2.5", {"size": 1, "level": 2.5}),
        ("size,level", "1,1", {"size": 1, "level": 1}),
        ("size,whole", "1,1", {"size": 1, "whole": 1}),
        ("size,kind", "1,1", {"size": 1, "kind": "1"}),
        ("size,scale", "1,50", {"size": 1, "scale": 50.0}),
    ],
)
def test_numbers_to_choose_from_are_those_of_json(
    header: str, row: str, fields: dict[str, object]
) -> None:
    requests = open_requests(io.BytesIO(f"{header}\n{row}\n".encode()), "csv", Choices)
    (line,) = requests
    assert requests.parse(line.request) == Choices.model_validate(fields)


def test_a_number_that_is_not_to_be_chosen_is_rejected() -> None:
    requests = open_requests(io.BytesIO(b"size,level\n3,1\n"), "csv", Choices)
    (line,) = requests
    with pytest.raises(ValidationError, match=r"size\n.*should be 1 or 2"):
        requests.parse(line.request)

"""Logs of every format are read; what can't be read is counted, and what does not fit explained."""

from __future__ import annotations

import base64
import csv as csv_module
import gzip
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel

from model_cache import ConfigurationError
from model_cache.advisor.log import Log
from model_cache.advisor.reading import Reader
from model_cache.advisor.settings import Settings
from model_cache.advisor.sources import open_source
from tests.advisor.logs import Visit, logged, read, visits

ROWS = list(visits(50))


def read_file(
    path: Path, schema: type[BaseModel] = Visit, needs_times: bool = False, **settings: Any
) -> Log:
    with ExitStack() as stack:
        source = open_source(path, schema, Settings(**settings), stack)
        return logged(Reader(source, needs_times))


def rows_of(log: Log) -> list[dict[str, Any]]:
    return [{column.path: column.value(row) for column in log.columns} for row in range(len(log))]


def without_time(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: cell for name, cell in row.items() if name != "time"} for row in rows]


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize(
    ("write", "name"),
    [(jsonl, "log.jsonl"), (csv, "log.csv"), (parquet, "log.parquet"), (parquet, "log")],
)
@pytest.mark.parametrize("timed", [True, False])
def test_a_file_is_read_with_and_without_times(
    tmp_path: Path, write: Any, name: str, timed: bool
) -> None:
    rows = [{**row, "request_id": "x"} for row in ROWS]
    log = read_file(write(tmp_path / name, rows if timed else without_time(rows)))
    assert rows_of(log) == without_time(rows)
    assert (log.times is not None) == timed
    assert log.duration == (49 * 60 if timed else None)


def test_a_compressed_file_is_read(tmp_path: Path) -> None:
    plain = jsonl(tmp_path / "log", ROWS).read_bytes()
    path = tmp_path / "log.jsonl.gz"
    path.write_bytes(gzip.compress(plain))
    assert len(read_file(path)) == 50


def test_the_time_column_can_be_named(tmp_path: Path) -> None:
    rows = [{**row, "when": row["time"], "time": 0} for row in ROWS]
    log = read_file(jsonl(tmp_path / "log.jsonl", rows), time_column="when")
    assert log.duration == 49 * 60
    with pytest.raises(ConfigurationError, match="no column 'whn'; did you mean 'when'"):
        read_file(jsonl(tmp_path / "log.jsonl", rows), time_column="whn")


def test_requests_are_put_in_the_order_of_their_times() -> None:
    log = read(reversed(ROWS))
    assert rows_of(log) == without_time(ROWS)


def test_timestamps_of_parquet_are_times(tmp_path: Path) -> None:
    times = pa.array([1_700_000_000_000, 1_700_000_060_000], pa.timestamp("ms"))
    table = pa.table({"time": times, "customer": ["a", "b"], "amount": [1.0, 2.0]})
    pq.write_table(table, tmp_path / "log.parquet")
    assert read_file(tmp_path / "log.parquet").duration == 60


def test_a_null_in_parquet_is_an_absent_field(tmp_path: Path) -> None:
    rows = [
        {"customer": "a", "amount": 1.0, "count": None},
        {"customer": "a", "amount": 1.0, "count": 2},
    ]
    log = read_file(parquet(tmp_path / "log.parquet", rows))
    assert [row["count"] for row in rows_of(log)] == [1, 2]


def test_bad_lines_are_counted_and_set_aside(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "log.jsonl", [*ROWS, {"customer": "a", "amount": "much", "time": 1}])
    with path.open("a") as file:
        file.write('not JSON\n\n[1]\n{"customer": "a", "amount": 1}\n')
    log = read_file(path)
    assert len(log) == 50
    assert log.bad.total() == 4
    assert log.bad["invalid JSON"] == log.bad["not a JSON object"] == 1
    assert log.bad["time: missing, or not a time"] == 1


EVENT = {"specversion": "1.0", "type": "org.kubeflow.serving.inference.request", "id": "1"}


def test_the_log_of_kserve_is_read(tmp_path: Path) -> None:
    instances = without_time(ROWS[:2])
    tensors = [
        {"name": name, "shape": [2], "datatype": "BYTES", "data": [row[name] for row in instances]}
        for name in instances[0]
    ]
    body = base64.b64encode(json.dumps({"instances": instances}).encode()).decode()
    lines = [
        {**EVENT, "time": "2026-01-01T00:00:00Z", "data": {"instances": instances}},
        {**EVENT, "time": "2026-01-01T00:01:00Z", "data": {"inputs": tensors}},
        {**EVENT, "time": "2026-01-01T00:02:00Z", "data_base64": body},
        {**EVENT, "type": "org.kubeflow.serving.inference.response", "data": {"predictions": [1]}},
        {**EVENT, "time": "2026-01-01T00:03:00Z", "data": {"instances": [["a", 1.0, 2, ""]]}},
    ]
    log = read_file(jsonl(tmp_path / "log.jsonl", lines))
    rows = rows_of(log)
    assert rows == [*instances * 3, {"customer": "a", "amount": 1.0, "count": 2, "request_id": ""}]
    assert log.duration == 180


def test_bodies_without_an_envelope_are_read(tmp_path: Path) -> None:
    rows = without_time(ROWS[:3])
    log = read_file(jsonl(tmp_path / "log.jsonl", [{"instances": rows}]))
    assert rows_of(log) == rows


def captured(data: str, content_type: str, encoding: str, minute: int) -> dict[str, Any]:
    given = {
        "observedContentType": content_type,
        "mode": "INPUT",
        "data": data,
        "encoding": encoding,
    }
    return {
        "captureData": {"endpointInput": given},
        "eventMetadata": {"eventId": "1", "inferenceTime": f"2026-01-01T00:0{minute}:00Z"},
        "eventVersion": "0",
    }


def test_the_data_capture_of_sagemaker_is_read(tmp_path: Path) -> None:
    row = {"customer": "a", "amount": 1.5, "count": 2, "request_id": "x"}
    packed = base64.b64encode(json.dumps(row).encode()).decode()
    lines = [
        captured("a,1.5,2,x\na,1.5,2,x", "text/csv", "CSV", 0),
        captured(json.dumps({"instances": [row]}), "application/json", "JSON", 1),
        captured(packed, "application/json", "BASE64", 2),
        captured(f"{json.dumps(row)}\n{json.dumps(row)}\n", "application/jsonlines", "JSON", 3),
        captured("a,1.5", "text/csv", "CSV", 4),
    ]
    log = read_file(jsonl(tmp_path / "log.jsonl", lines))
    assert rows_of(log) == [row] * 6
    assert log.duration == 180
    assert log.bad == {"expected 4 values, one for each field, got 2": 1}


def test_a_captured_csv_that_can_not_be_parsed_is_counted(tmp_path: Path) -> None:
    before = csv_module.field_size_limit(10)
    try:
        lines = [
            captured("a,1.5,2,x", "text/csv", "CSV", 0),
            captured(f"{'a' * 11},1.5,2,x", "text/csv", "CSV", 1),
        ]
        log = read_file(jsonl(tmp_path / "log.jsonl", lines))
    finally:
        csv_module.field_size_limit(before)
    assert len(log) == 1
    assert log.bad == {"the body is not valid CSV: field larger than field limit (10)": 1}


def test_inputs_and_dicts_can_be_given() -> None:
    inputs = [Visit(customer="a", amount=1.0), {"customer": "b", "amount": 2}]
    assert [row["customer"] for row in rows_of(read(inputs))] == ["a", "b"]


def test_a_log_that_fits_nothing_names_the_fields_and_the_nearest_columns(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "log.jsonl", [{"custmer": "a", "Amount": 1.0}] * 3)
    with pytest.raises(ConfigurationError) as error:
        read_file(path)
    assert str(error.value) == (
        "requests: none of the 3 requests fits Visit: "
        "customer: Field required (nearest column: 'custmer'); "
        "amount: Field required (nearest column: 'Amount')"
    )


@pytest.mark.parametrize("pack", [dict, json.dumps], ids=["an object", "text"])
def test_a_log_with_the_fields_inside_says_where(
    pack: Callable[[Any], object], tmp_path: Path
) -> None:
    lines = [
        {"customer": "web", "request": {"path": "/health", "body": None}},
        {"customer": "web", "request": {"path": "/predict", "body": pack(ROWS[0])}},
    ]
    with pytest.raises(ConfigurationError) as error:
        read_file(jsonl(tmp_path / "access.log", lines))
    assert str(error.value) == (
        "requests: none of the 2 requests fits Visit: its fields are inside 'request.body'; "
        "make each of these objects a line, for example with jq"
    )


def test_an_empty_log_and_a_missing_file_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "blank.jsonl").write_text("\n\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    pq.write_table(pa.table({"customer": pa.array([], pa.string())}), tmp_path / "none.parquet")
    for name, problem in {
        "none.jsonl": "No such file",
        "empty.jsonl": "is empty",
        "blank.jsonl": "has no requests",
        "broken.parquet": "not a readable Parquet file",
        "none.parquet": "is empty",
    }.items():
        with pytest.raises(ConfigurationError, match=problem):
            read_file(tmp_path / name)
    with pytest.raises(ConfigurationError, match="has no requests"):
        read([])


def test_a_file_that_can_not_be_unpacked_is_an_error(tmp_path: Path) -> None:
    packed = gzip.compress(jsonl(tmp_path / "log.jsonl", list(visits(5_000))).read_bytes())
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[:-2_000])
    (tmp_path / "plain.csv.gz").write_bytes(b"customer,amount\na,1\n")
    (tmp_path / "broken.jsonl.gz").write_bytes(packed[:500] + bytes(100) + packed[600:])
    for path in tmp_path.glob("*.gz"):
        with pytest.raises(ConfigurationError, match=f"can't read '.*{path.name}': "):
            read_file(path)


def test_lines_that_can_not_be_read_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    for text, problem in {
        json.dumps(ROWS): "the only request can't be read: not a JSON object (1)",
        json.dumps(ROWS, indent=1): "none of the 352 requests can be read: invalid JSON (352)",
    }.items():
        path.write_text(text)
        with pytest.raises(ConfigurationError) as error:
            read_file(path)
        assert str(error.value) == f"requests: {problem}; is this the right format?"
    with pytest.raises(ConfigurationError, match="the only request does not fit Visit"):
        read([{"amount": 1}])


def test_a_column_that_is_only_named_like_a_time_is_no_time(tmp_path: Path) -> None:
    log = read([{**row, "time": "in the morning"} for row in ROWS])
    assert log.times is None
    assert len(log) == len(ROWS)
    with pytest.raises(ConfigurationError, match="the column 'customer' has no times"):
        read_file(jsonl(tmp_path / "log.jsonl", ROWS), needs_times=True, time_column="customer")

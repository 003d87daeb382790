"""`model-cache advise`: from a log to advice, and clear errors for everything else."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
import yaml

from model_cache import RedisCachingDecorator
from model_cache.cli.advise import seconds
from model_cache.errors import ConfigurationError
from tests.advisor.logs import Visit, visits
from tests.cli.advised import SlowModel
from tests.cli.command import run, run_apart, spawn

MODEL = "tests.cli.advised.SlowModel"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in visits(2_000, ids=True)))
    return path


def test_the_advice_is_shown(log: Path) -> None:
    found = run("advise", "--model", MODEL, "--requests", log, "--budget", "60s", "--tolerance", 1)
    assert found.code == 0, found.stderr
    # Both make the same entries; which of them seems to cost less depends on the sample.
    assert re.match("Cache with amount to (0|-1) places, without request_id: ", found.stdout)
    assert "Choices worth having" in found.stdout
    assert "Memory (as it is)" in found.stdout
    block = found.stdout[found.stdout.rindex("# Cache with") :]
    assert yaml.safe_load(block)["ignored_fields"] == ["request_id"]


def test_the_advice_as_json_and_as_a_report(log: Path, tmp_path: Path) -> None:
    page, data = tmp_path / "advice.html", tmp_path / "advice.json"
    words = ("advise", "--model", MODEL, "--requests", log, "--budget", "2")
    found = run(*words, "--price-per-hour", "0.1", "--report", page, "--json")
    assert found.code == 0, found.stderr
    assert found.json["complete"] is True
    assert found.json["economics"]["price_per_hour"] == 0.1
    assert found.json["sentence"] in page.read_text()
    assert f"report: {page}" in found.stderr
    assert run(*words, "--report", data).code == 0
    assert json.loads(data.read_text()).keys() == found.json.keys()


def test_a_model_can_be_named_as_in_other_commands(log: Path) -> None:
    model = MODEL.replace(".SlowModel", ":SlowModel")
    assert run("advise", "--model", model, "--requests", log, "--budget", "1s").code == 0


def test_the_folder_of_recorded_requests_is_a_log(tmp_path: Path) -> None:
    with RedisCachingDecorator(enabled=False, record=tmp_path) as model:
        model.set_model(SlowModel())
        for row in visits(50):
            model.predict(Visit.model_validate(row))
    found = run("advise", "--model", MODEL, "--requests", tmp_path, "--budget", "1", "--json")
    assert found.code == 0, found.stderr
    assert found.json["log"]["requests"] == 50
    empty = tmp_path / "empty"
    empty.mkdir()
    found = run("advise", "--model", MODEL, "--requests", empty)
    assert found.code == 2
    assert "has no files that the option record has written" in found.stderr


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--requests", "none.jsonl"), "--requests: can't read 'none.jsonl': No such file or dir"),
        (("--budget", "soon"), "--budget: expected seconds, or a time such as 60s or 2m"),
        (("--budget", "0s"), "--budget: expected seconds above 0, got 0.0"),
        (("--tolerance", "-1"), "--tolerance: expected a number from 0, got -1.0"),
        (("--time-column", "when"), "--time-column: the log has no column 'when'"),
        (("--time-column", "customer"), "--time-column: the column 'customer' has no times"),
        (("--model", "Visits"), "expected package.module.Class or package.module:name, got 'Vis"),
        (("--model", "tests.cli.advised:"), "--model: expected package.module:name, got 'tests.cl"),
        (("--report", "advice.pdf"), "--report: expected a name that ends in .html or .json"),
        (("--report", "/no/such/folder/advice.html"), "--report: there is no folder"),
        (("--model", "tests.cli.advised.Nothing"), "--model: can't import"),
        (("--model", "tests.cli.advised.json"), "is not an ml-base MLModel"),
        (("--format", "parquet"), "is not a readable Parquet file"),
    ],
)
def test_wrong_usage_is_explained(log: Path, words: tuple[str, str], problem: str) -> None:
    given = {"--model": MODEL, "--requests": str(log), "--budget": "1s", **dict([words])}
    found = run("advise", *(word for option in given.items() for word in option))
    assert found.code == 2
    assert found.stdout == ""
    assert problem in found.stderr


def test_a_log_of_another_model_names_the_fields_and_the_nearest_columns(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"custmer": "a", "price": 1}\n' * 3)
    found = run("advise", "--model", MODEL, "--requests", path)
    assert found.code == 2
    assert "none of the 3 requests fits Visit" in found.stderr
    assert "customer: Field required (nearest column: 'custmer')" in found.stderr


def test_an_interruption_prints_the_advice_so_far(log: Path) -> None:
    words = ("advise", "--model", "tests.cli.advised.SlowestModel", "--requests", log)
    with spawn(*words, "--budget", "60s", "--json") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "ready\n"  # the model says so
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert json.loads(stdout)["complete"] is False
    assert json.loads(stdout)["reuse"]["hit_ratio"]["value"] == 0.0


def test_the_command_works_in_a_process_of_its_own(log: Path) -> None:
    found = run_apart("advise", "--model", MODEL, "--requests", log, "--budget", "1s", "--json")
    assert found.code == 0
    assert found.json["log"]["requests"] == 2_000


@pytest.mark.parametrize(("text", "value"), [("60s", 60), ("2m", 120), (" 90 ", 90), ("1h", 3600)])
def test_a_budget_is_a_time(text: str, value: float) -> None:
    assert seconds(text) == value


def test_a_budget_that_is_no_time_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="got 'x'"):
        seconds("x")

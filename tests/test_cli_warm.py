"""`model-cache warm`: fills a cache from a file, goes on after an interruption, loses nothing."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import redis

from model_cache import RedisCachingDecorator
from model_cache.cli.warm import Job
from model_cache.cli.warm import warm as fill
from tests.command import Result, run, spawn
from tests.models import FunctionModel, Person, charge, person
from tests.servers import Server, free_port, running_server
from tests.test_rest_service import CONFIGURATION
from tests.warm_models import Behaving

MODEL = "tests.warm_models:Behaving"


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    path = tmp_path / "requests.jsonl"
    write(path, range(200))
    return path


def write(path: Path, ages: Iterable[int]) -> None:
    path.write_text("".join(person(age=age).model_dump_json() + "\n" for age in ages))


def warm(server: Server, requests: object, *words: object, **more: Any) -> Result:
    common = ("warm", "--requests", requests, "--json", "--url", server.url)
    return run(*common, *(words or ("--model", MODEL)), **more)


def rejected_beside(requests: Path) -> list[dict[str, Any]]:
    lines = requests.with_name(requests.name + ".rejected.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def progress_beside(requests: Path) -> Path:
    return requests.with_name(requests.name + ".warm-progress")


def assert_hits(server: Server, ages: Iterable[int], **options: Any) -> None:
    """The entries are those that the decorator itself would look for."""
    with RedisCachingDecorator(url=server.url, timeout=5.0, **options) as decorator:
        decorator.set_model(Behaving())
        for age in ages:
            decorator.predict(person(age=age))
        assert (decorator.stats().misses, decorator.stats().unavailable) == (0, 0)


@pytest.mark.parametrize("threads", [1, 4])
def test_all_requests_are_cached_and_a_second_run_computes_nothing(
    server: Server, requests: Path, threads: int
) -> None:
    result = warm(server, requests, "--model", MODEL, "--threads", threads)
    assert result.code == 0
    report = result.json
    assert (report["requests"], report["computed"], report["stored"]) == (200, 200, 200)
    assert (report["model"], report["version"]) == ("behaving", "1.0.0")
    assert "a model that prints" in result.stderr
    assert_hits(server, range(200))
    again = warm(server, requests, "--model", MODEL, "--threads", threads).json
    assert (again["present"], again["computed"], again["stored"]) == (200, 0, 0)
    assert [path.name for path in requests.parent.iterdir()] == [requests.name]


def test_options_are_the_decorators_own(server: Server, requests: Path, tmp_path: Path) -> None:
    options = {"prefix": "p", "serder": "MessagePack", "ttl": 3600, "hashing_fields": ["age"]}
    file = tmp_path / "options.yaml"
    file.write_text(json.dumps({**options, "url": "redis://127.0.0.1:1", "write": "background"}))
    result = warm(
        server, requests, "--model", MODEL, "--options", file, MODEL_CACHE_KEY_SECRET="s3cret-key"
    )
    assert (result.code, result.json["stored"]) == (0, 200)
    assert "s3cret-key" not in result.stdout + result.stderr
    assert_hits(server, range(200), **options, key_secret="s3cret-key")


@pytest.mark.parametrize(
    ("options", "code", "counted"),
    [
        ({"cache_if": "tests.warm_models:never"}, 0, "skipped"),
        ({"max_entry_bytes": 1}, 1, "not_stored"),
    ],
)
def test_predictions_that_are_not_kept_are_counted(
    server: Server, requests: Path, tmp_path: Path, options: dict[str, Any], code: int, counted: str
) -> None:
    file = tmp_path / "options.yaml"
    file.write_text(json.dumps(options))
    result = warm(server, requests, "--model", MODEL, "--options", file)
    assert result.code == code
    assert (result.json["computed"], result.json["stored"], result.json[counted]) == (200, 0, 200)
    shown = run(
        "warm", "--requests", requests, "--model", MODEL, "--options", file, "--url", server.url
    )
    assert "200 predictions" in shown.stdout


def test_bad_lines_are_written_down_and_none_of_their_values_shown(
    server: Server, requests: Path
) -> None:
    bad = ["no json", "[1]", '{"age": "s3cret-value"}', "\xff", person(age=13).model_dump_json()]
    with requests.open("ab") as file:
        file.write(b"\n" + "\n".join(bad).encode("latin-1") + b"\n   \n")
    result = warm(server, requests, TEST_RAISE_AT="13")
    assert result.code == 1
    assert (result.json["requests"], result.json["rejected"]) == (205, 6)
    found = rejected_beside(requests)
    assert [each["line"] for each in found] == [14, 202, 203, 204, 205, 206]
    reasons = [each["reason"] for each in found]
    assert reasons[0] == reasons[5] == "the model raised ValueError: unlucky"
    assert reasons[1:3] == ["no valid JSON", "no JSON object"]
    assert reasons[3].startswith("age: Input should be a valid integer")
    assert reasons[4] == "not UTF-8"
    assert found[3]["request"] == bad[2]
    assert "s3cret-value" not in result.stdout + result.stderr
    mended = warm(server, requests)
    assert mended.json["rejected"] == 4
    assert len(rejected_beside(requests)) == 4
    earlier = requests.with_name(requests.name + ".rejected.jsonl.1")
    assert [json.loads(line) for line in earlier.read_text().splitlines()] == found
    assert earlier.name in mended.stderr


@pytest.mark.parametrize("going_on", [False, True])
def test_a_file_that_is_not_a_runs_own_is_never_overwritten(
    server: Server, requests: Path, tmp_path: Path, going_on: bool
) -> None:
    if going_on:
        assert warm(server, requests, TEST_INTERRUPT_AT="150", TEST_RAISE_AT="40").code == 130
    precious = tmp_path / "precious.yaml"
    precious.write_text("precious: 1\n" * 100)
    refused = warm(server, requests, "--model", MODEL, "--rejected", precious)
    assert (refused.code, refused.stdout) == (2, "")
    assert "--rejected" in refused.stderr
    assert "precious.yaml" in refused.stderr
    assert precious.read_text() == "precious: 1\n" * 100
    assert progress_beside(requests).exists() is going_on


def test_a_resumed_run_does_not_cut_another_runs_file(
    server: Server, requests: Path, tmp_path: Path
) -> None:
    assert warm(server, requests, TEST_INTERRUPT_AT="150", TEST_RAISE_AT="40").code == 130
    other = tmp_path / "other.jsonl"
    text = '{"line": 1, "reason": "no valid JSON", "request": "another run\'s"}\n' * 10
    other.write_text(text)
    words = ("--model", MODEL, "--rejected", other)
    resumed = warm(server, requests, *words, TEST_RAISE_AT="180")
    assert (resumed.code, resumed.json["rejected"]) == (1, 2)
    assert (tmp_path / "other.jsonl.1").read_text() == text
    assert [json.loads(line)["line"] for line in other.read_text().splitlines()] == [181]
    assert "what was rejected up to line" in resumed.stderr


def test_what_is_rejected_may_be_thrown_away(server: Server, requests: Path) -> None:
    result = warm(server, requests, "--model", MODEL, "--rejected", os.devnull, TEST_RAISE_AT="3")
    assert (result.code, result.json["rejected"]) == (1, 1)
    assert Path(os.devnull).is_char_device()


def test_requests_may_come_from_standard_input(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = warm(server, "-", stdin=person(age=7).model_dump_json() + "\nnone\n")
    assert (result.code, result.json["stored"], result.json["rejected"]) == (1, 1, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["requests.rejected.jsonl"]


def test_requests_may_come_through_a_pipe(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reader, writer = os.pipe()
    os.write(writer, person(age=7).model_dump_json().encode() + b"\nnone\n")
    os.close(writer)
    result = warm(server, f"/dev/fd/{reader}")
    os.close(reader)
    assert (result.code, result.json["stored"], result.json["rejected"]) == (1, 1, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["requests.rejected.jsonl"]


@pytest.mark.parametrize("left", [None, ""])
def test_a_lost_file_of_the_rejected_does_not_stop_it(
    server: Server, requests: Path, left: str | None
) -> None:
    assert warm(server, requests, TEST_INTERRUPT_AT="150", TEST_RAISE_AT="40").code == 130
    file = requests.with_name(requests.name + ".rejected.jsonl")
    file.unlink() if left is None else file.write_text(left)
    resumed = warm(server, requests, TEST_RAISE_AT="180")
    assert (resumed.code, resumed.json["rejected"]) == (1, 2)
    assert [each["line"] for each in rejected_beside(requests)] == [181]


# 140 may be done a second time: the chunk that it is in is interrupted.
@pytest.mark.parametrize("bad", [[40], [140], [40, 140]])
def test_after_an_interruption_it_goes_on_where_it_stopped(
    server: Server, client: redis.Redis, requests: Path, bad: list[int]
) -> None:
    raising = ",".join(map(str, bad))
    interrupted = warm(server, requests, TEST_INTERRUPT_AT="150", TEST_RAISE_AT=raising)
    assert (interrupted.code, interrupted.stdout) == (130, "")
    progress = json.loads(progress_beside(requests).read_text())
    assert 0 < progress["line"] <= 150
    assert len(rejected_beside(requests)) == len(bad)
    client.flushall()  # so that what is not done again can be told
    resumed = warm(server, requests, TEST_RAISE_AT=raising)
    assert resumed.code == 1
    report = resumed.json
    assert report["resumed_at"] == progress["line"]
    assert f"after line {progress['line']}" in resumed.stderr
    assert (report["requests"], report["rejected"]) == (200, len(bad))
    again = sum(progress["line"] <= age < 150 for age in bad)
    assert client.dbsize() == 200 - progress["line"] - again
    assert [each["line"] for each in rejected_beside(requests)] == [age + 1 for age in bad]
    assert not progress_beside(requests).exists()


def test_with_a_slow_model_no_more_than_a_second_is_done_again(
    server: Server, requests: Path
) -> None:
    now, kept = 0.0, []

    def slow(data: Person) -> Any:
        nonlocal now
        now += 0.4
        path = progress_beside(requests)
        kept.append(json.loads(path.read_text())["line"] if path.exists() else 0)
        if data.age == 20:
            raise KeyboardInterrupt
        return charge(data)

    cached = RedisCachingDecorator(url=server.url, timeout=5.0, on_error="raise")
    cached.set_model(FunctionModel(function=slow))
    job = Job(cached, requests, "jsonl", requests.with_name("rejected.jsonl"))
    with pytest.raises(KeyboardInterrupt):
        fill(job, lambda _: None, clock=lambda: now)
    # What is kept is at most a second old, and the prediction that was under way.
    assert kept == [3 * (age // 3) for age in range(21)]


@pytest.mark.parametrize("change", ["file", "options", "restart", "redis", "garbage"])
def test_progress_of_something_else_does_not_count(
    server: Server, requests: Path, change: str
) -> None:
    assert warm(server, requests, TEST_INTERRUPT_AT="150").code == 130
    words: tuple[object, ...] = ("--model", MODEL)
    if change == "file":
        write(requests, [0, 1000, *range(2, 200)])
    elif change == "options":
        words += ("--prefix", "p")
    elif change == "restart":
        words += ("--restart",)
    elif change == "redis":
        words += ("--url", server.url.replace("/0", "/1"))
    else:
        progress_beside(requests).write_text('{"format": 1, "line": -5}')
    result = warm(server, requests, *words)
    assert (result.code, result.json["resumed_at"], result.json["requests"]) == (0, 0, 200)
    assert ("starting over" in result.stderr) == (change in ("file", "options", "redis"))


def test_lines_that_were_appended_meanwhile_are_done_as_well(
    server: Server, requests: Path
) -> None:
    assert warm(server, requests, TEST_INTERRUPT_AT="150").code == 130
    with requests.open("a") as file:
        file.write(person(age=500).model_dump_json() + "\n")
    resumed = warm(server, requests)
    assert (resumed.code, resumed.json["requests"]) == (0, 201)
    assert resumed.json["resumed_at"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_stopped_in_the_middle_loses_nothing(
    server: Server, requests: Path, tmp_path: Path, number: signal.Signals
) -> None:
    marker = tmp_path / "marker"
    words = ("warm", "--requests", requests, "--model", MODEL, "--url", server.url, "--json")
    with spawn(*words, TEST_STOP_AT="150", TEST_MARKER=str(marker)) as process:
        try:
            while not marker.exists():
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(number)
            stdout, stderr = process.communicate(timeout=30)
        finally:
            process.kill()
    assert stdout == ""
    assert "Traceback" not in stderr
    assert process.returncode == (130 if number is signal.SIGINT else -number)
    assert progress_beside(requests).exists() or number is signal.SIGKILL
    result = warm(server, requests)
    assert (result.code, result.json["requests"]) == (0, 200)
    if number is signal.SIGKILL:
        assert result.json["present"] + result.json["resumed_at"] >= 150
    assert_hits(server, range(200))


def test_a_redis_that_takes_no_more_stops_it_and_the_progress_is_kept(requests: Path) -> None:
    with running_server() as server:
        with server.client() as client:
            assert warm(server, requests, TEST_INTERRUPT_AT="150").code == 130
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", 1)
            full = warm(server, requests)
            assert (full.code, full.stdout) == (3, "")
            assert "OOM" in full.stderr
            assert "takes no more" in full.stderr
            progress = progress_beside(requests).read_text()
        server.kill()
        gone = warm(server, requests)
        assert gone.code == 3
        assert progress_beside(requests).read_text() == progress
        server.start()
        assert warm(server, requests).json["requests"] == 200


def test_a_user_in_the_options_logs_in_with_the_environments_password(
    server: Server, client: redis.Redis, requests: Path, tmp_path: Path
) -> None:
    client.acl_setuser("warmer", enabled=True, passwords=["+s3cret-login"],
                       keys=["warmed/*"], categories=["+@all"])  # fmt: skip
    try:
        file = tmp_path / "options.yaml"
        file.write_text(json.dumps({"url": server.url, "username": "warmer"}))
        words = ("warm", "--requests", requests, "--model", MODEL, "--options", file, "--json")
        result = run(*words, MODEL_CACHE_PASSWORD="s3cret-login")
        assert (result.code, result.stdout) == (3, "")
        assert "permissions" in result.stderr  # it is not the default user, who may do all
        result = run(*words, "--prefix", "warmed", MODEL_CACHE_PASSWORD="s3cret-login")
        assert (result.code, result.json["stored"]) == (0, 200)
    finally:
        client.acl_deluser("warmer")


def test_a_redis_that_is_out_of_reach_is_exit_code_3(requests: Path) -> None:
    words = ("warm", "--requests", requests, "--model", MODEL)
    result = run(*words, "--url", f"redis://127.0.0.1:{free_port()}")
    assert (result.code, result.stdout) == (3, "")
    assert "refused" in result.stderr


def test_a_cache_that_is_set_up_already_is_used_as_it_is(server: Server, requests: Path) -> None:
    words = ("warm", "--requests", requests, "--model", "tests.warm_models:ready", "--json")
    result = run(*words, TEST_URL=server.url)
    assert (result.code, result.json["stored"]) == (0, 200)
    assert_hits(server, range(200))
    refused = run(*words, "--url", server.url, TEST_URL=server.url)
    assert refused.code == 2
    assert "has a cache already" in refused.stderr
    unreachable = run(*words, TEST_URL=f"redis://127.0.0.1:{free_port()}")
    assert unreachable.code == 3


def test_a_service_finds_what_was_warmed_by_its_own_configuration(
    server: Server, client: redis.Redis, requests: Path, tmp_path: Path
) -> None:
    config = tmp_path / "rest_config.yaml"
    text = CONFIGURATION.format(url=server.url)
    text += """
      - class_path: tests.warm_models.Outside
  - class_path: tests.warm_models.Broken
    create_endpoint: false
"""
    config.write_text(text)
    result = run("warm", "--requests", requests, "--config", config, "--json")
    assert (result.code, result.json["stored"]) == (0, 200)
    assert len(client.keys("rest/test_model/1.0.0/*")) == 200
    decorator = RedisCachingDecorator(
        url=server.url,
        prefix="rest",
        timeout=5.0,
        hashing_fields=["age", "sex", "bmi", "children", "smoker"],
        reduced_precision_fields=["bmi"],
        number_of_places=1,
        integrity=True,
    )
    with decorator.set_model(FunctionModel()):
        decorator.predict(person(age=3, bmi=24.04))
        assert decorator.stats().hits == 1
    by_name = ("warm", "--requests", requests, "--config", config, "--json", "--model")
    for name in ("test_model", "tests.models.FunctionModel"):
        assert run(*by_name, name).json["present"] == 200
    unknown = run(*by_name, "another")
    assert unknown.code == 2
    assert "tests.models.FunctionModel" in unknown.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--model: is missing"),
        (["--model", "nothing.here:Model"], "nothing.here"),
        (["--model", "tests.warm_models:nothing"], "nothing"),
        (["--model", "tests.models:Person"], "no ml-base MLModel"),
        (["--model", "tests.warm_models:Broken"], "no weights"),
        (["--model", MODEL, "--format", "xml"], "'xml' is not"),
        (["--model", MODEL, "--options", "missing.yaml"], "missing.yaml"),
        (["--model", MODEL, "--options", "{tmp}/bad.yaml"], "bad.yaml"),
        (["--model", MODEL, "--options", "{tmp}/typo.yaml"], "did you mean 'prefix'"),
        (["--config", "{tmp}/typo.yaml"], "no model with a RedisCachingDecorator"),
        (["--config", "{tmp}/odd.yaml"], "configuration is no mapping"),
        (["--config", "{tmp}/odder.yaml"], "decorators is no list"),
        (["--config", "x.yaml", "--model", MODEL, "--options", "y.yaml"], "excludes"),
        (["--model", MODEL, "--url", "embedded://"], "embedded://"),
        (["--model", MODEL, "--options", "{tmp}/off.yaml"], "turned off"),
        (["--model", MODEL, "--rejected", "{tmp}/requests.jsonl"], "--rejected"),
        (["--model", MODEL, "--threads", "0"], "--threads"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    requests: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    (tmp_path / "bad.yaml").write_text("password: [s3cret-of-yaml")
    (tmp_path / "typo.yaml").write_text("prefx: p")
    odd = "models: [{class_path: tests.models.FunctionModel, decorators: [%s], configuration: 3}]"
    (tmp_path / "odd.yaml").write_text(odd % "{class_path: model_cache.RedisCachingDecorator}")
    (tmp_path / "odder.yaml").write_text(odd % "cache")
    (tmp_path / "off.yaml").write_text("enabled: false")
    before = requests.read_bytes()
    given = [word.format(tmp=tmp_path) for word in words]
    result = run("warm", "--requests", requests, *given)
    assert (result.code, result.stdout) == (2, "")
    assert message in result.stderr
    assert "s3cret-of-yaml" not in result.stderr
    assert requests.read_bytes() == before


def test_a_folder_that_can_not_be_written_is_said(server: Server, requests: Path) -> None:
    requests.write_text("none\n")
    result = warm(server, requests, "--model", MODEL, "--rejected", requests / "x.jsonl")
    assert (result.code, result.stdout) == (1, "")
    assert "x.jsonl" in result.stderr

"""`model-cache warm` fills a cache from a file and computes nothing twice."""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from model_cache import RedisCachingDecorator
from model_cache.advisor.request_file import open_requests
from model_cache.cli.rejected import RejectedFile
from model_cache.cli.warm import warm as fill
from tests.cli.command import run, spawn
from tests.cli.warming import (
    MODEL,
    assert_hits,
    options_file,
    records,
    rejected_beside,
    warm,
    write,
)
from tests.integrations.rest_service import CONFIGURATION
from tests.models import FunctionModel, Person, charge, person
from tests.servers import Server, free_port, running_server
from tests.stored import entries


@pytest.mark.parametrize("threads", [1, 4])
def test_all_requests_are_cached_and_a_second_run_computes_nothing(
    server: Server, requests: Path, threads: int
) -> None:
    result = warm(server, requests, "--threads", threads)
    assert result.code == 0
    report = result.json
    assert (report["requests"], report["computed"], report["stored"]) == (200, 200, 200)
    assert (report["model"], report["version"]) == ("behaving", "1.0.0")
    assert "a model that prints" in result.stderr
    assert_hits(server, range(200))
    again = warm(server, requests, "--threads", threads).json
    assert (again["present"], again["computed"], again["stored"]) == (200, 0, 0)
    assert [path.name for path in requests.parent.iterdir()] == [requests.name]


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    path = tmp_path / "requests.jsonl"
    write(path, range(200))
    return path


def test_options_are_the_decorators_own(server: Server, requests: Path, tmp_path: Path) -> None:
    options = {"prefix": "p", "serder": "MessagePack", "ttl": 3600, "hashing_fields": ["age"]}
    file = options_file(tmp_path, **options, url="redis://127.0.0.1:1", write="background")
    result = warm(server, requests, "--options", file, MODEL_CACHE_KEY_SECRET="s3cret-key")
    assert (result.code, result.json["stored"]) == (0, 200)
    assert "s3cret-key" not in result.stdout + result.stderr
    assert_hits(server, range(200), **options, key_secret="s3cret-key")


def test_what_fills_the_cache_is_not_recorded_as_traffic(
    server: Server, requests: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "recorded"
    file = options_file(tmp_path, record=str(folder), record_share=0.5)
    result = warm(server, requests, "--options", file)
    assert (result.code, result.json["stored"]) == (0, 200)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("options", "code", "counted"),
    [
        ({"cache_if": "tests.cli.warm_models:never"}, 0, "skipped"),
        ({"max_entry_bytes": 1}, 1, "not_stored"),
    ],
)
def test_predictions_that_are_not_stored_are_counted(
    server: Server, requests: Path, tmp_path: Path, options: dict[str, Any], code: int, counted: str
) -> None:
    file = options_file(tmp_path, **options)
    result = warm(server, requests, "--options", file)
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
    assert reasons[1:3] == ["invalid JSON", "not a JSON object"]
    assert reasons[3].startswith("age: Input should be a valid integer")
    assert reasons[4] == "not UTF-8"
    assert found[3]["request"] == bad[2]
    assert "s3cret-value" not in result.stdout + result.stderr
    mended = warm(server, requests)
    assert mended.json["rejected"] == 4
    assert rejected_beside(requests) == found
    assert len(records(Path(mended.json["rejected_file"]))) == 4


@pytest.mark.parametrize("name", ["requests.jsonl.rejected.jsonl", "precious.yaml"])
def test_a_file_that_exists_is_never_touched(
    server: Server, requests: Path, tmp_path: Path, name: str
) -> None:
    precious, other = tmp_path / name, tmp_path / "requests.jsonl.warm-progress"
    precious.write_text("precious: 1\n")
    other.write_text("of an earlier version, or of somebody else")
    words = ("--rejected", precious)
    for number in (1, 2):
        result = warm(server, requests, *words, TEST_RAISE_AT="40")
        assert result.json["rejected_file"] == f"{precious}.{number}"
        assert [each["line"] for each in records(Path(f"{precious}.{number}"))] == [41]
    assert precious.read_text() == "precious: 1\n"
    assert other.read_text() == "of an earlier version, or of somebody else"


def test_rejected_requests_may_be_discarded(server: Server, requests: Path) -> None:
    result = warm(server, requests, "--rejected", os.devnull, TEST_RAISE_AT="3")
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


def test_a_request_from_a_pipe_does_not_wait_for_the_next_one(server: Server) -> None:
    reader, writer = os.pipe()
    seen: list[int] = []

    def predict(data: Person) -> Any:
        seen.append(data.age)
        if data.age < 5:
            os.write(writer, person(age=data.age + 1).model_dump_json().encode() + b"\n")
        else:
            os.close(writer)
        return charge(data)

    os.write(writer, person(age=1).model_dump_json().encode() + b"\n")
    cached = RedisCachingDecorator(url=server.url, on_error="raise")
    cached.set_model(FunctionModel(function=predict))
    with os.fdopen(reader, "rb") as stream, closing(RejectedFile(Path("unused"))) as rejected:
        report = fill(cached, open_requests(stream, "jsonl", Person), rejected)
    assert (seen, report.stored) == ([1, 2, 3, 4, 5], 5)


@pytest.mark.parametrize("threads", [1, 4])
def test_an_interrupted_run_is_run_again_and_nothing_is_computed_twice(
    server: Server, client: redis.Redis, requests: Path, tmp_path: Path, threads: int
) -> None:
    calls = tmp_path / "calls"
    words = ("--threads", threads)
    interrupted = warm(server, requests, *words, TEST_INTERRUPT_AT="150", TEST_CALLS=str(calls))
    assert (interrupted.code, interrupted.stdout) == (130, "")
    stopped = re.search(r"stopped after (\d+) requests; run it again", interrupted.stderr)
    assert stopped is not None
    done = len(entries(client))
    assert int(stopped[1]) <= done < 200
    again = warm(server, requests, *words, TEST_CALLS=str(calls))
    assert again.code == 0
    assert (again.json["present"], again.json["computed"]) == (done, 200 - done)
    computed = calls.read_text().split()
    assert sorted(computed) == sorted(str(age) for age in range(200))
    assert_hits(server, range(200))


@pytest.mark.parametrize(
    "options",
    [{"hashing_fields": ["age"]}, {"ignored_fields": ["bmi"]}, {"revision": "2"}, {"prefix": "p"}],
)
def test_after_an_interruption_other_keys_are_recomputed(
    server: Server, requests: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    assert warm(server, requests, TEST_INTERRUPT_AT="150").code == 130
    result = warm(server, requests, "--options", options_file(tmp_path, **options))
    assert (result.code, result.json["present"], result.json["stored"]) == (0, 0, 200)
    assert_hits(server, range(200), **options)


def test_progress_is_shown_all_along(server: Server, requests: Path) -> None:
    now = 0.0
    told: list[tuple[float, int]] = []

    def slow(data: Person) -> Any:
        nonlocal now
        now += 0.4
        return charge(data)

    cached = RedisCachingDecorator(url=server.url, timeout=5.0, on_error="raise")
    cached.set_model(FunctionModel(function=slow))
    with (
        requests.open("rb") as stream,
        closing(RejectedFile(requests.with_name("rejected"))) as rejected,
    ):
        fill(
            cached,
            open_requests(stream, "jsonl", Person),
            rejected,
            tell=lambda _size, line: told.append((now, line)),
            clock=lambda: now,
        )
    assert [line for _, line in told] == list(range(1, 201))


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
    result = warm(server, requests)
    assert (result.code, result.json["present"], result.json["computed"]) == (0, 150, 50)
    assert_hits(server, range(200))


def test_a_redis_that_accepts_no_more_entries_stops_it(requests: Path) -> None:
    with running_server() as server:
        with server.client() as client:
            assert warm(server, requests, TEST_INTERRUPT_AT="150").code == 130
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", 1)
            full = warm(server, requests)
            assert (full.code, full.stdout) == (3, "")
            assert "OOM" in full.stderr
            assert "does not accept new entries" in full.stderr
        server.kill()
        gone = warm(server, requests)
        assert gone.code == 3
        assert "stopped after 0 requests" in gone.stderr
        server.start()
        assert warm(server, requests).json["requests"] == 200


def test_a_user_in_the_options_logs_in_with_the_environments_password(
    server: Server, client: redis.Redis, requests: Path, tmp_path: Path
) -> None:
    client.acl_setuser("warmer", enabled=True, passwords=["+s3cret-login"],
                       keys=["warmed/*"], categories=["+@all"])  # fmt: skip
    try:
        file = options_file(tmp_path, url=server.url, username="warmer")
        words = ("warm", "--requests", requests, "--model", MODEL, "--options", file, "--json")
        result = run(*words, MODEL_CACHE_PASSWORD="s3cret-login")
        assert (result.code, result.stdout) == (3, "")
        assert "permissions" in result.stderr  # it is not the default user, who may do all
        result = run(*words, "--prefix", "warmed", MODEL_CACHE_PASSWORD="s3cret-login")
        assert (result.code, result.json["stored"]) == (0, 200)
    finally:
        client.acl_deluser("warmer")


def test_a_login_that_may_not_write_sees_the_missing_rule(
    server: Server, client: redis.Redis, requests: Path
) -> None:
    client.acl_setuser("reader", enabled=True, passwords=["+s3cret-login"],
                       keys=["*"], commands=["+get"])  # fmt: skip
    user = {"MODEL_CACHE_USERNAME": "reader", "MODEL_CACHE_PASSWORD": "s3cret-login"}
    try:
        result = warm(server, requests, **user)
    finally:
        client.acl_deluser("reader")
    assert (result.code, result.stdout) == (3, "")
    assert "missing rule: ACL SETUSER <user> +set" in result.stderr


def test_requests_that_can_not_be_read_are_exit_code_2(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.jsonl"):
        result = run("warm", "--requests", path, "--model", MODEL)
        assert (result.code, result.stdout) == (2, "")
        reason = "Is a directory" if path == tmp_path else "No such file or directory"
        message = f"model-cache: --requests: can't read {str(path)!r}: {reason}\n"
        assert result.stderr == message


def test_an_unavailable_redis_is_exit_code_3(requests: Path) -> None:
    words = ("warm", "--requests", requests, "--model", MODEL)
    result = run(*words, "--url", f"redis://127.0.0.1:{free_port()}")
    assert (result.code, result.stdout) == (3, "")
    assert "refused" in result.stderr


def test_a_model_may_be_named_by_its_class_path(server: Server, requests: Path) -> None:
    words = ("warm", "--requests", requests, "--model", "tests.cli.warm_models.Behaving", "--json")
    result = run(*words, "--url", server.url)
    assert (result.code, result.json["stored"]) == (0, 200)


def test_a_cache_that_is_set_up_already_is_used_as_it_is(server: Server, requests: Path) -> None:
    words = ("warm", "--requests", requests, "--model", "tests.cli.warm_models:ready", "--json")
    result = run(*words, TEST_URL=server.url)
    assert (result.code, result.json["stored"]) == (0, 200)
    assert_hits(server, range(200))
    refused = run(*words, "--url", server.url, TEST_URL=server.url)
    assert refused.code == 2
    assert "already has a cache" in refused.stderr
    unreachable = run(*words, TEST_URL=f"redis://127.0.0.1:{free_port()}")
    assert unreachable.code == 3


def test_a_service_finds_what_was_warmed_by_its_own_configuration(
    server: Server, client: redis.Redis, requests: Path, tmp_path: Path
) -> None:
    config = tmp_path / "rest_config.yaml"
    text = CONFIGURATION.format(url=server.url)
    text += """
      - class_path: tests.cli.warm_models.Outside
  - class_path: tests.cli.warm_models.Broken
    create_endpoint: false
"""
    config.write_text(text)
    result = run("warm", "--requests", requests, "--config", config, "--json")
    assert (result.code, result.json["stored"]) == (0, 200)
    assert len(entries(client, "rest/test_model/1.0.0/*")) == 200
    decorator = RedisCachingDecorator(
        url=server.url,
        prefix="rest",
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
        ([], "--model: is required"),
        (["--model", "nothing.here:Model"], "nothing.here"),
        (["--model", "nothing"], "nothing"),
        (["--model", "tests.cli.warm_models:nothing"], "nothing"),
        (["--model", "tests.models:Person"], "not an ml-base MLModel"),
        (["--model", "tests.cli.warm_models:Broken"], "no weights"),
        (["--model", MODEL, "--format", "xml"], "'xml'"),
        (["--model", MODEL, "--options", "missing.yaml"], "missing.yaml"),
        (["--model", MODEL, "--options", "{tmp}/bad.yaml"], "bad.yaml"),
        (["--model", MODEL, "--options", "{tmp}/typo.yaml"], "did you mean 'prefix'"),
        (["--config", "{tmp}/typo.yaml"], "models: Field required"),
        (
            ["--config", "{tmp}/odd.yaml"],
            "models.0.configuration: Input should be a valid dictionary",
        ),
        (["--config", "{tmp}/odder.yaml"], "models.0.decorators: Input should be a valid list"),
        (
            ["--config", "x.yaml", "--model", MODEL, "--options", "y.yaml"],
            "can't be combined with --config",
        ),
        (["--model", MODEL, "--url", "embedded://"], "embedded://"),
        (["--model", MODEL, "--options", "{tmp}/off.yaml"], "turned off"),
        (["--config", "{tmp}/uncached.yaml"], "no model has a RedisCachingDecorator"),
        (["--model", MODEL, "--rejected", "{tmp}"], "--rejected"),
        (["--model", MODEL, "--rejected", "{tmp}/missing/x.jsonl"], "--rejected"),
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
    (tmp_path / "odder.yaml").write_text((odd % "").replace("[]", "cache"))
    (tmp_path / "uncached.yaml").write_text("models: [{class_path: tests.models.FunctionModel}]")
    (tmp_path / "off.yaml").write_text("enabled: false")
    before = requests.read_bytes()
    given = [word.format(tmp=tmp_path) for word in words]
    result = run("warm", "--requests", requests, *given)
    assert (result.code, result.stdout) == (2, "")
    assert message in result.stderr
    assert "s3cret-of-yaml" not in result.stderr
    assert requests.read_bytes() == before


def test_the_encryption_key_is_from_the_environment(server: Server, requests: Path) -> None:
    given = {"MODEL_CACHE_ENCRYPTION_KEY": '["new-key", "old-key"]'}
    assert warm(server, requests, **given).code == 0
    assert_hits(server, range(200), encryption_key="new-key", key_secret="old-key")

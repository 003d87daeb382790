"""The command as a program: its help, its version, and its error without the extra."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from model_cache import __version__
from model_cache.cli.output import plain, printable
from tests.checkout import REPOSITORY
from tests.cli.command import PROGRAM, run, run_apart, spawn
from tests.cli.filling import fill
from tests.servers import Server, free_port
from tests.waiting import poll

COMMANDS = ("inspect", "stats", "export", "purge", "warm", "advise", "doctor", "serve")


@pytest.mark.parametrize("missing", ["typer", "rich", "yaml"])
def test_without_its_extra_it_says_what_to_install(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import model_cache.cli as c; c.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert 'pip install "ml-model-cache[cli]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_the_library_does_not_need_the_extra() -> None:
    code = "import sys, model_cache; assert not {'typer', 'rich', 'yaml'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_script_is_installed_and_tells_its_version() -> None:
    script = Path(sysconfig.get_path("scripts")) / "model-cache"
    shown = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout == f"model-cache {__version__}\n"
    assert run("--version").stdout == shown.stdout


def test_each_command_has_help_that_names_its_options() -> None:
    listed = run("--help")
    assert listed.code == 0
    for command in COMMANDS:
        assert command in listed.stdout
        shown = run(command, "--help", REDIS_URL="redis://:s3cret-in-url@host")
        assert shown.code == 0
        assert ("--url" in shown.stdout) is (command not in ("advise", "serve"))
        assert "--json" in shown.stdout
        assert "s3cret-in-url" not in shown.stdout


def test_the_page_about_it_names_options_that_there_are() -> None:
    page = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
    helps = " ".join(run(command, "--help").stdout for command in COMMANDS)
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page))
    assert named
    assert {option for option in named if option not in helps} == set()
    for command in COMMANDS:
        assert f"\n## {command}\n" in page


@contextmanager
def serving(*words: object) -> Iterator[tuple[subprocess.Popen[str], redis.Redis]]:
    """Run `serve`, with a client of its server."""
    with spawn("serve", "--json", *words) as process:
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "}\n")
            url = json.loads("".join(lines) + "}")["url"]
            with redis.Redis.from_url(url) as client:
                yield process, client
        finally:
            process.kill()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_serve_runs_a_server_until_it_is_stopped(stop: signal.Signals) -> None:
    with serving() as (process, client):
        assert client.ping()
        process.send_signal(stop)
        process.communicate(timeout=30)
        assert process.returncode == (0 if stop is signal.SIGINT else -stop)
        poll(lambda: not answers(client), seconds=30)


def test_serve_ends_with_exit_code_1_when_its_server_ends() -> None:
    with serving() as (process, client):
        os.kill(int(client.info("server")["process_id"]), signal.SIGKILL)
        stdout, stderr = process.communicate(timeout=30)
        assert (process.returncode, stdout) == (1, "")
        assert "model-cache: the server has ended: " in stderr
        assert "ended with status -9\n" in stderr
        assert "Traceback" not in stderr


def test_serve_listens_on_the_port_that_is_given() -> None:
    port = free_port()
    with serving("--port", port) as (_, client):
        assert client.ping()
        assert client.connection_pool.connection_kwargs["port"] == port


def test_serve_says_what_to_do_about_a_port_in_use(server: Server) -> None:
    result = run("serve", "--port", server.port)
    assert (result.code, result.stdout) == (1, "")
    assert result.stderr == (
        f"model-cache: 127.0.0.1:{server.port}: Address already in use; "
        "choose another port, or 0 for a free one\n"
    )


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def test_the_command_reads_no_private_attribute_of_others() -> None:
    allowed = ("_replace",)  # a named tuple's own, and public
    for path in (REPOSITORY / "src" / "model_cache" / "cli").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and re.match("_(?!_)", node.attr):
                is_own = isinstance(node.value, ast.Name) and node.value.id == "self"
                assert is_own or node.attr in allowed, f"{path.name}: {node.attr}"


def test_a_wrong_command_is_exit_code_2() -> None:
    result = run("polish")
    assert (result.code, result.stdout) == (2, "")


@pytest.mark.parametrize("words", [["inspect"], ["doctor"], ["purge", "--model", "m", "--yes"]])
def test_as_a_program_it_prints_only_json_on_stdout(server: Server, words: list[str]) -> None:
    fill(server.url, 3, name="m")
    result = run_apart(*words, "--json", REDIS_URL=server.url)
    assert result.code in (0, 1)
    assert isinstance(result.json, dict)


def test_a_reader_that_closes_the_pipe_causes_no_error(server: Server) -> None:
    for number in range(30):
        fill(server.url, 1, name=f"model_{number}")
    command = " ".join([*PROGRAM, "inspect", "--json", "|", "head", "-1"])
    done = subprocess.run(
        command,
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "REDIS_URL": server.url},
    )
    assert (done.stdout, done.stderr) == ("{\n", "")


def test_a_terminal_with_only_ascii_gets_escapes(server: Server) -> None:
    fill(server.url, 1, name="模型")
    shown = run_apart("inspect", "--url", server.url, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert shown.code == 0
    assert "\\u6a21\\u578b" in shown.stdout


def test_control_characters_are_escaped() -> None:
    assert printable("plain ümläut 模型") == "plain ümläut 模型"
    assert printable("\x1b[2J\x07\r\n\t") == r"\x1b[2J\x07\r\n\t"
    assert printable("\x9b1m \u202e \u2028 \ud800 \U000e0001") == (
        r"\x9b1m \u202e \u2028 \ud800 \U000e0001"
    )


def test_values_are_converted_for_json() -> None:
    assert plain({1: (float("inf"), b"\x00", {"a"}, None, True)}) == {
        "1": ["inf", "AA==", "{'a'}", None, True]
    }
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    assert "..." in str(plain(deep))

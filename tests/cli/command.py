"""Run the command `model-cache`, in this process or in a new one."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import typer
from typer.testing import CliRunner

from model_cache.cli.app import app
from tests.checkout import IMPORTS
from tests.docs.rules import apply, login
from tests.servers import Server

PROGRAM = [sys.executable, "-m", "model_cache.cli"]


class Result:
    """What a run printed, and what it exited with."""

    def __init__(self, code: int, stdout: str, stderr: str) -> None:
        self.code, self.stdout, self.stderr = code, stdout, stderr
        assert "Traceback" not in stderr

    @property
    def json(self) -> Any:
        """All of stdout, as JSON."""
        return json.loads(self.stdout)


def run(*words: object, stdin: str | None = None, **environment: str) -> Result:
    """Run the command in this process."""
    result = CliRunner().invoke(app, [str(word) for word in words], input=stdin, env=environment)
    # Whatever it does not expect comes out as it is.
    if result.exception is not None and not isinstance(result.exception, (SystemExit, typer.Exit)):
        raise result.exception
    return Result(result.exit_code, result.stdout, result.stderr)


def spawn(*words: object, **environment: str) -> subprocess.Popen[str]:
    """Start the command in a process of its own, in whose import path the tests are."""
    return subprocess.Popen(
        [*PROGRAM, *map(str, words)],
        env={**os.environ, "PYTHONPATH": IMPORTS, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def acting_as(user: str, server: Server) -> Iterator[dict[str, str]]:
    """Yield the environment of a user with the rules in the documentation, for a block."""
    with apply(user, server), server.client() as admin:
        try:
            secrets = {f"MODEL_CACHE_{name.upper()}": value for name, value in login(user).items()}
            yield {"REDIS_URL": server.url, **secrets}
        finally:
            admin.acl_deluser(user)


def run_apart(*words: object, **environment: str) -> Result:
    """Run the command in a process of its own."""
    with spawn(*words, **environment) as process:
        stdout, stderr = process.communicate(timeout=60)
    return Result(process.returncode, stdout, stderr)

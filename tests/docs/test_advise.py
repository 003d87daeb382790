"""The command of the page on advice makes a log of requests of an access log."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.blocks import blocks


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_requests_are_taken_out_of_an_access_log(tmp_path: Path) -> None:
    (command,) = (block.code for block in blocks() if block.code.startswith("jq "))
    body = {"age": 42, "history": {"orders": 3}}
    line = {"@timestamp": "2026-01-01T08:00:00Z", "client": {"ip": "192.0.2.1"}}
    health = json.dumps({**line, "request": {"path": "/health", "body": None}})
    request = json.dumps({**line, "request": {"path": "/predict", "body": body}})
    lines = [health, request, "Traceback (most recent call last):", request[:60], request]
    (tmp_path / "access.log").write_text("\n".join(lines))
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, check=True)
    written = (tmp_path / "requests.jsonl").read_text().splitlines()
    assert list(map(json.loads, written)) == [{"time": "2026-01-01T08:00:00Z", **body}] * 2

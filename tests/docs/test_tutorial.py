"""The pages that show files: the tutorial from training to an outage, and the tests of a reader."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkout import IMPORTS
from tests.docs.blocks import Block, blocks
from tests.servers import running_server
from tests.services import Service
from tests.waiting import poll
from tests.web import running

BLOCKS = blocks()
TUTORIAL = [block for block in BLOCKS if block.page == "docs/tutorial.md"]
TESTING = [block for block in BLOCKS if block.page == "docs/testing.md"]


def write_files(shown: list[Block], folder: Path) -> dict[str, str]:
    """Write the files whose names are in the first line of their blocks; return what is in them."""
    named = [(re.match(r"# (\S+\.py)\n", block.code), block.code) for block in shown]
    files = {found[1]: code for found, code in named if found}
    for name, code in files.items():
        (folder / name).write_text(code, encoding="utf-8")
    return files


def python(folder: Path, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": IMPORTS, **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def curl(service: Service, options: str) -> list[str]:
    """The lines that the tutorial's command prints."""
    (command,) = (block.code for block in TUTORIAL if block.code.startswith(f"curl {options}"))
    command = command.partition(" | ")[0].replace("localhost:8000", f"127.0.0.1:{service.port}")
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.replace("\r\n", "\n").splitlines()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_tutorial_from_training_to_an_outage(tmp_path: Path) -> None:
    files = write_files(TUTORIAL, tmp_path)
    hit, counted, summed, outage = (
        set(block.code.splitlines()) for block in TUTORIAL if block.language == "text"
    )
    python(tmp_path, "train.py")
    with (
        running_server() as server,
        running(tmp_path, files["service.py"], REDIS_URL=server.url) as service,
    ):
        first, second = curl(service, "-si"), curl(service, "-si")
        assert "x-cache: MISS" in first
        assert hit <= set(second)
        assert counted <= set(curl(service, "-s "))
        poll(lambda: summed <= set(stats(tmp_path, server.url)), 60)  # sent every five seconds
        server.kill()
        without = curl(service, "-si")
        assert outage <= set(without)
        assert first[-1] == second[-1] == without[-1]


def stats(folder: Path, url: str) -> list[str]:
    return python(folder, "-m", "model_cache.cli", "stats", REDIS_URL=url).splitlines()


def test_the_tests_of_a_reader_pass(tmp_path: Path) -> None:
    write_files(TESTING, tmp_path)
    printed = python(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert re.search(r"^6 passed", printed, re.M), printed

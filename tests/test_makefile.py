"""The environments that the Makefile makes are of the Python that was asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkout import REPOSITORY

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHER = "3.99"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    return tmp_path


def made(folder: Path, version: str) -> None:
    """Make what `make setup` leaves behind with a version of Python, as far as make looks at it."""
    (folder / ".venv" / "lib" / f"python{version}").mkdir(parents=True)
    (folder / ".venv" / f"installed-{version}").touch()


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Without the variables of a make that runs these tests, and without downloads.
    environment = {"PATH": os.environ["PATH"], "PIP_NO_INDEX": "1", "LC_ALL": "C"}
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_an_environment_of_the_same_python_is_kept(folder: Path) -> None:
    made(folder, VERSION)
    assert "Nothing to be done" in make(folder, "setup", f"PYTHON={sys.executable}").stdout


def test_an_environment_of_another_python_is_made_anew(folder: Path) -> None:
    made(folder, OTHER)
    done = make(folder, "setup", f"PYTHON={sys.executable}")
    assert done.returncode  # where pip would install, since it may not download
    assert [path.name for path in (folder / ".venv" / "lib").iterdir()] == [f"python{VERSION}"]
    assert not list((folder / ".venv").glob("installed-*"))


def test_the_python_of_the_environment_is_the_default(folder: Path) -> None:
    made(folder, VERSION)
    (folder / ".venv" / "bin").mkdir()
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    assert "Nothing to be done" in make(folder, "setup").stdout
    assert ".venv/bin/python -m venv .venv-demo" in make(folder, "--dry-run", "demo").stdout


def test_a_python_that_is_not_there_is_an_error_that_says_what_is_needed(folder: Path) -> None:
    done = make(folder, "setup", "PYTHON=no-such-python")
    assert done.returncode
    assert "Python 3.11 or newer is needed" in done.stdout
    assert not (folder / ".venv").exists()

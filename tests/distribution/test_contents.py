"""The wheel and the sdist contain what they should. `make dist-check` installs and uses them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.checkout import REPOSITORY
from tests.distribution.trial import TRIALS
from tests.test_project import PROJECT

NAME = f"ml_model_cache-{PROJECT['version']}"
# What only a checkout needs, and what the build backend adds.
CHECKOUT_ONLY = {".ci/run"}
ADDED = {"PKG-INFO"}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist, built from the checkout without downloads."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--sdist", "--wheel"]
    subprocess.run(
        [*command, "--outdir", folder], cwd=REPOSITORY, check=True, capture_output=True, timeout=100
    )
    return folder


def test_the_wheel_contains_the_package_its_types_and_the_licences(dist: Path) -> None:
    with zipfile.ZipFile(dist / f"{NAME}-py3-none-any.whl") as wheel:
        files = set(wheel.namelist())
    info = f"{NAME}.dist-info"
    source = REPOSITORY / "src"
    package = {path for path in (source / "model_cache").rglob("*") if path.is_file()}
    assert "model_cache/py.typed" in files
    assert files == {
        *(str(path.relative_to(source)) for path in package if "__pycache__" not in path.parts),
        *(f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")),
        *(f"{info}/licenses/{name}" for name in PROJECT["license-files"]),
    }


def test_the_sdist_contains_all_that_its_tests_need(dist: Path) -> None:
    with tarfile.open(dist / f"{NAME}.tar.gz") as sdist:
        files = {Path(*Path(name).parts[1:]).as_posix() for name in sdist.getnames()}
    if not shutil.which("git") or not (REPOSITORY / ".git").exists():
        pytest.skip("not in a checkout, which says what belongs to the project")
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    tracked = {name for name in listed.stdout.splitlines() if (REPOSITORY / name).exists()}
    assert files == tracked - CHECKOUT_ONLY | ADDED


def test_every_extra_is_tried_in_an_environment_of_its_own() -> None:
    assert TRIALS.keys() == PROJECT["optional-dependencies"].keys()

"""`make dist-check`: build the distribution, check it, and test it in empty environments.

The sdist and the wheel are built in isolated environments, as for a release. For each extra, the
wheel is installed into an empty environment, and `trial.py` uses it there. Some of the project's
tests run in the unpacked sdist.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import zipfile
from pathlib import Path

from model_cache.embedded import embedded_redis, find_server
from tests.checkout import REPOSITORY

EXTRAS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]
TRIAL = Path(__file__).with_name("trial.py")
# A sample that also reads files around the package. All tests would take minutes.
SDIST_TESTS = ["tests/test_project.py", "tests/test_house.py", "tests/test_workflow.py"]
SDIST_TESTS += ["tests/distribution", "tests/golden", "tests/entries"]


def run(*command: str | Path, cwd: Path = REPOSITORY, **environment: str) -> None:
    """Run a command with some environment variables; if it fails, print its output and exit."""
    began = time.monotonic()
    words = [str(word) for word in command]
    print(" ".join(Path(word).name if "/" in word else word for word in words), end=" ", flush=True)
    done = subprocess.run(
        words,
        cwd=cwd,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(f"({time.monotonic() - began:.0f} s)")
    if done.returncode:
        sys.exit(done.stdout)


def python(*arguments: str | Path, cwd: Path = REPOSITORY, **environment: str) -> None:
    """Run a module with this Python."""
    run(sys.executable, "-m", *arguments, cwd=cwd, **environment)


def built(folder: Path) -> tuple[Path, Path]:
    """Build the sdist, and from it the wheel; return their paths."""
    python("build", "--outdir", folder)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    python("twine", "check", "--strict", wheel, sdist)
    python("check_wheel_contents", wheel)
    return wheel, sdist


def contents(wheel: Path) -> dict[str, bytes]:
    """Return the files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def compare(wheel: Path, folder: Path) -> None:
    """Build a wheel from the checkout, and compare it with the one from the sdist."""
    python("build", "--wheel", "--outdir", folder)
    (other,) = folder.glob("*.whl")
    ours, theirs = contents(wheel), contents(other)
    if ours != theirs:
        differ = {name for name in ours | theirs if ours.get(name) != theirs.get(name)}
        sys.exit(f"the wheels of the sdist and of the checkout differ in {sorted(differ)}")


def try_extra(extra: str, wheel: Path, folder: Path, url: str) -> None:
    """Install the wheel with one extra, or none, into an empty environment, and use it there."""
    environment = folder / (extra or "none")
    python("venv", "--without-pip", environment)
    interpreter = environment / "bin" / "python"
    what = f"{wheel}[{extra}]" if extra else str(wheel)
    python("pip", "--python", interpreter, "install", "--quiet", "--no-compile", what)
    # Without a server on PATH, and in a folder from which nothing of the checkout can be imported.
    servers = str(find_server().parent)
    run(interpreter, "-I", TRIAL, extra or "none", url, servers, cwd=folder, PATH="")


def try_sdist(sdist: Path, folder: Path) -> None:
    """Run tests in the unpacked sdist."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    python("pytest", "-q", *SDIST_TESTS, cwd=root, PYTHONPATH=str(root / "src"))


def main() -> None:
    """Build, check and test the distribution."""
    with tempfile.TemporaryDirectory(prefix="model-cache-dist-") as name:
        folder = Path(name)
        wheel, sdist = built(folder / "dist")
        compare(wheel, folder / "from-checkout")
        with embedded_redis(tcp=True) as url:
            for extra in ("", *EXTRAS):
                try_extra(extra, wheel, folder, url)
        try_sdist(sdist, folder / "sdist")
    print(f"{wheel.name} and {sdist.name} work, without extras and with each of {len(EXTRAS)}")


if __name__ == "__main__":
    main()

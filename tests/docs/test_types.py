"""Type checkers accept the examples, and see through what a cache wraps."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkout import IMPORTS, REPOSITORY
from tests.docs.blocks import blocks

TYPED_USE = REPOSITORY / "tests" / "wrappers" / "typed_use.py"
OF_CACHES = re.compile(r"\bCache\(|\bcache\.|@cache")


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The Python of each page about `Cache`, at the lines where it is on the page."""
    folder = tmp_path_factory.mktemp("examples")
    pages: dict[str, list[str]] = {}
    for block in blocks():
        chosen = block.page == "docs/any-model.md" or (
            block.page == "README.md" and OF_CACHES.search(block.code)
        )
        # A class of ml-base, which has no types, overrides its properties by attributes.
        if chosen and block.language == "python" and "(MLModel)" not in block.code:
            lines = pages.setdefault(block.page, [])
            lines += [""] * (block.line - 1 - len(lines)) + block.code.splitlines()
    paths = [folder / Path(page).with_suffix(".py").name.replace("-", "_") for page in pages]
    for path, lines in zip(paths, pages.values(), strict=True):
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert len(paths) == 2
    return paths


def messages_of(*command: str) -> str:
    run = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": IMPORTS},
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if run.returncode == 0 else run.stdout + run.stderr


@pytest.mark.timeout(300)
def test_mypy_accepts_the_examples(examples: list[Path], tmp_path: Path) -> None:
    config, cache = str(REPOSITORY / "pyproject.toml"), str(tmp_path / "cache")
    messages = messages_of(
        *("mypy", "--config-file", config, "--cache-dir", cache),
        *map(str, [*examples, TYPED_USE]),
    )
    assert messages == ""


@pytest.mark.timeout(300)
def test_pyright_accepts_the_examples(examples: list[Path], tmp_path: Path) -> None:
    settings = {
        "include": [str(path) for path in [*examples, TYPED_USE]],
        "extraPaths": [str(REPOSITORY / "src")],
        "typeCheckingMode": "standard",
        "enableTypeIgnoreComments": True,
        "reportUnnecessaryTypeIgnoreComment": "error",
    }
    config = tmp_path / "pyrightconfig.json"
    config.write_text(json.dumps(settings), encoding="utf-8")
    messages = messages_of(
        "basedpyright", "--project", str(config), "--pythonpath", sys.executable, "--level", "error"
    )
    assert messages == ""

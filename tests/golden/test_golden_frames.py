"""The canonical forms of pandas and polars values match the committed ones, which never change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.checkout import REPOSITORY

pytest.importorskip("pandas", reason="install the group `test`")
pytest.importorskip("polars", reason="install the group `test`")

from tests.golden_frames import forms


def committed() -> Any:
    return json.loads((Path(__file__).parent / "frames.json").read_text(encoding="ascii"))


def test_forms_are_the_committed_ones() -> None:
    assert forms() == committed()


def test_no_two_values_have_the_same_committed_form() -> None:
    for made in zip(*committed().values(), strict=True):
        assert len(set(made)) == len(made)


@pytest.mark.parametrize("seed", ["0", "1"])
def test_forms_are_the_same_in_a_fresh_process(seed: str) -> None:
    program = """
import json
from tests.golden_frames import forms
print(json.dumps(forms(backwards=True)))
"""
    finished = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONHASHSEED": seed, "TZ": "Asia/Tokyo"},
        capture_output=True,
        check=True,
    )
    assert json.loads(finished.stdout) == committed()

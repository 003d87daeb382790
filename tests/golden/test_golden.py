"""Keys and entries match the committed golden vectors, which never change.

A failure here means that a fleet would lose its cache at an update, or worse. If the change is
meant, see `tests/golden/write.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.checkout import REPOSITORY
from tests.golden_cases import KEY, PREDICTIONS, codecs, entries, fingerprints, keys
from tests.properties.pictures import picture

FOLDER = Path(__file__).parent
NOT_COMPARED = ("snappy", "zstd", "lz4")  # their output may change with their versions


def committed(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="ascii"))


def test_keys_are_the_committed_ones() -> None:
    assert keys() == committed("keys.json")


def test_fingerprints_are_the_committed_ones() -> None:
    assert fingerprints() == committed("fingerprints.json")


def test_no_two_inputs_have_the_same_committed_key() -> None:
    made = committed("keys.json").values()
    assert len(set(made)) == len(made)


@pytest.mark.parametrize(
    ("variables", "before"),
    [
        ({"PYTHONHASHSEED": "0"}, ""),
        ({"PYTHONHASHSEED": "1"}, "import sys; sys.set_int_max_str_digits(640)"),
        ({"PYTHONHASHSEED": "random"}, "import numpy; numpy.set_printoptions(precision=1)"),
        (
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TZ": "Asia/Tokyo"},
            "import decimal; decimal.setcontext(decimal.Context(3, capitals=0, traps=[]))",
        ),
    ],
    ids=["hash seed 0", "hash seed 1", "random hash seed", "another locale and decimal context"],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_keys_and_fingerprints_are_the_same_in_a_fresh_process(
    variables: dict[str, str], before: str, backwards: bool
) -> None:
    program = f"""{before}
import json
from tests.golden_cases import fingerprints, keys
print(json.dumps([keys(backwards={backwards}), fingerprints()]))
"""
    finished = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env={**os.environ, **variables},
        capture_output=True,
        check=True,
    )
    assert json.loads(finished.stdout) == [committed("keys.json"), committed("fingerprints.json")]


@pytest.mark.parametrize("name", PREDICTIONS)
def test_entries_are_the_committed_ones(name: str) -> None:
    made, wanted = entries()[name], committed("entries.json")[name]
    assert made.keys() == wanted.keys()
    for how, entry in made.items():
        if not how.endswith(NOT_COMPARED):
            assert entry == wanted[how], how


@pytest.mark.parametrize("name", PREDICTIONS)
def test_every_committed_entry_is_still_read(name: str) -> None:
    prediction, wanted = PREDICTIONS[name], committed("entries.json")[name]
    for how, codec in codecs(type(prediction)).items():
        read = codec.decode(KEY, bytes.fromhex(wanted[how]))
        assert picture(read, prediction=True) == picture(prediction, prediction=True), how


def test_the_committed_entries_use_each_compressor() -> None:
    compressors = {
        bytes.fromhex(entry)[3]
        for by_codec in committed("entries.json").values()
        for how, entry in by_codec.items()
        if how.endswith(NOT_COMPARED)
    }
    assert compressors >= {1, 2, 3}

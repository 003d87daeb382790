"""`revision`: what it says of files that it can't read; its keys are in the tests of options."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_cache.errors import ConfigurationError
from model_cache.revision import revision_of


def test_a_file_that_is_not_there_is_named_with_the_folder_that_was_looked_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights.bin").write_bytes(b"w")
    absolute = tmp_path / "missing.bin"
    monkeypatch.chdir(tmp_path)
    assert revision_of([Path("weights.bin")]) == revision_of([tmp_path / "weights.bin"])
    with pytest.raises(ConfigurationError) as relative_one:
        revision_of([Path("model/weights.bin")])
    assert "'model/weights.bin'" in str(relative_one.value)
    assert f"in the current folder, {str(tmp_path)!r}" in str(relative_one.value)
    with pytest.raises(ConfigurationError) as absolute_one:
        revision_of([absolute])
    assert "current folder" not in str(absolute_one.value)

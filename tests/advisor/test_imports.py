"""The advisor's libraries are imported at first use."""

from __future__ import annotations

import subprocess
import sys

from tests.checkout import IMPORTS

CODE = """
import sys
import model_cache
import model_cache.advisor
assert "numpy" not in sys.modules, "numpy"
import model_cache.cli.app
assert not {"numpy", "pyarrow"} & set(sys.modules)
assert "model_cache.advisor.run" not in sys.modules
"""


def test_neither_the_library_nor_the_command_imports_numpy_or_pyarrow() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={"PYTHONPATH": IMPORTS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

"""Fingerprints of the models in a folder of joblib files, for fresh processes.

python -m tests.wrappers.fitted FOLDER    prints {name: [before, after predicting]} as JSON
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import joblib

from model_cache.wrappers.fitted import fitted_state
from tests.checkout import IMPORTS, REPOSITORY

METHODS = ("predict", "predict_proba", "decision_function", "score_samples", "transform")


def use(model: Any, rows: Any) -> None:
    """Call whatever the model has to answer with."""
    for method in METHODS:
        if hasattr(model, method):
            getattr(model, method)(rows)


def in_fresh_processes(models: dict[str, tuple[Any, Any]], folder: Path) -> dict[str, set[str]]:
    """Save models with rows to predict, and return their fingerprints from two processes."""
    for name, model_and_rows in models.items():
        joblib.dump(model_and_rows, folder / f"{name}.joblib")
    found: dict[str, set[str]] = {name: set() for name in models}
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-m", __name__, str(folder)],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": IMPORTS, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        for name, fingerprints in json.loads(run.stdout).items():
            found[name].update(fingerprints)
    return found


def main(folder: Path) -> None:
    found = {}
    for path in sorted(folder.glob("*.joblib")):
        model, rows = joblib.load(path)
        before = fitted_state(model)
        use(model, rows)
        found[path.stem] = [before, fitted_state(model)]
    print(json.dumps(found))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]))

"""A model that writes down how many rows it computes, in whatever process it does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

LOG = "computed"
"""The file, in the working directory."""


class Counted:
    """A model around another one.

    Args:
        model: the other one.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def predict(self, rows: Sequence[Any]) -> Any:
        with Path(LOG).open("a") as log:
            log.write(f"{len(rows)}\n")
        return self.model.predict(rows)


def computed(folder: Path) -> int:
    """Return how many rows were computed."""
    log = folder / LOG
    return sum(map(int, log.read_text().split())) if log.exists() else 0

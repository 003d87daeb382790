"""What the advisor tells while it works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

Stage: TypeAlias = Literal["reading", "comparing", "measuring"]


@dataclass(frozen=True)
class Progress:
    """How far a stage is.

    Attributes:
        stage: "reading" the log, "comparing" choices, or "measuring" costs.
        done: how much is done.
        total: how much there is to do; None if unknown.
        note: what to show beside it.
    """

    stage: Stage
    done: float
    total: float | None = None
    note: str = ""


class Tell(Protocol):
    """Receives the progress."""

    def __call__(self, progress: Progress, /) -> None:
        """Show the progress."""
        ...


def silent(_: Progress, /) -> None:
    """Show nothing."""

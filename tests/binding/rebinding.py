"""Models with constant answers, and a wait until one is bound again."""

from __future__ import annotations

import threading
from typing import Any

from tests.models import Charges

THREAD = "model_cache-revision"


def constant(value: float) -> Any:
    return lambda _: Charges(charges=value)


def bound_again() -> None:
    """Wait for the threads that hash files."""
    for thread in threading.enumerate():
        if thread.name == THREAD:
            thread.join(10)
            assert not thread.is_alive()

"""Event loops for tests: asyncio's, and uvloop's where it is installed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

MAKERS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
with contextlib.suppress(ImportError):
    import uvloop

    MAKERS["uvloop"] = uvloop.new_event_loop


def run_in(make: Callable[[], asyncio.AbstractEventLoop], main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a new event loop of a kind."""
    with asyncio.Runner(loop_factory=make) as runner:
        return runner.run(main)

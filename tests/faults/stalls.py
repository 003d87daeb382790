"""Stalls of the machine itself: a process that only sleeps measures how late it wakes.

A wait that is measured on a busy machine holds such stalls, too, and they are not the store's.
"""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType

_PROGRAM = """
import select, sys, time
longest = 0.0
while True:
    started = time.perf_counter()
    if select.select([sys.stdin], [], [], 0.005)[0]:
        break
    longest = max(longest, time.perf_counter() - started - 0.005)
print(longest)
"""


class Stalls:
    """Measures while a block runs.

    Attributes:
        longest: the longest stall, in seconds; set at the end.
    """

    def __enter__(self) -> Stalls:
        self.longest = 0.0
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.longest = float(self._process.communicate("over\n", timeout=10)[0])

"""Stalls of the machine itself: a process that only sleeps measures how late it wakes.

A wait that is measured on a busy machine holds such stalls, too, and they are not the store's.
Linux also counts how long each thread of this process has waited for a core.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from types import TracebackType

_THREADS = Path("/proc/self/task")

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


def waited_for_a_core() -> float:
    """Return the seconds that the threads of this process were ready to run and had no core.

    All of them, since one that has no core may hold the GIL. 0.0 where the system does not count.
    """
    seconds = 0.0
    with contextlib.suppress(OSError):
        for thread in _THREADS.iterdir():
            with contextlib.suppress(OSError):  # it has just ended
                seconds += int((thread / "schedstat").read_text().split()[1]) / 1e9
    return seconds

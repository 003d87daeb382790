"""Runs something at the end of a process, however it ends in good order.

`atexit` alone is not enough: a child of `multiprocessing` that was forked ends without it, and
runs the finalizers of `multiprocessing.util` instead. Neither runs in a process that a signal
ends, or that calls `os._exit`.

Nothing is registered before the first use, and nothing is kept alive.
"""

from __future__ import annotations

import atexit
import functools
import itertools
from typing import Protocol
from weakref import WeakValueDictionary


class Exiting(Protocol):
    """Something that has work to do at the end of the process."""

    def at_exit(self) -> None:
        """Do that work. It may be called more than once, and must not raise."""
        ...


# Numbered, since they run in an order.
_living: WeakValueDictionary[int, Exiting] = WeakValueDictionary()
_numbers = itertools.count(1)


def run_at_exit(item: Exiting, *, last: bool = False) -> None:
    """Call `item.at_exit()` at the end of this process and of its forked children.

    What was registered last runs first, as with `atexit`.

    Args:
        item: it is forgotten when nobody else refers to it.
        last: run after everything that is registered without it, whenever that was.
    """
    number = next(_numbers)
    _living[-number if last else number] = item
    _register()


@functools.cache  # registered twice, by two threads, it would do no harm
def _register() -> None:
    from multiprocessing import util

    atexit.register(_run)
    _finalize()
    # A child of multiprocessing forgets the finalizers of its parent.
    util.register_after_fork(_run, _finalize)


def _finalize(_: object = None) -> None:
    from multiprocessing import util

    util.Finalize(None, _run, exitpriority=0)


def _run() -> None:
    for _, item in sorted(_living.items(), reverse=True):
        item.at_exit()

"""Run cleanup at the end of a process, including forked `multiprocessing` children.

`atexit` alone is not enough: a forked `multiprocessing` child skips it and runs the finalizers of
`multiprocessing.util` instead. Neither runs in a process that a signal ends or that calls
`os._exit`.

Importing this module registers nothing, and registered items are only weakly referenced.
"""

from __future__ import annotations

import atexit
import functools
import itertools
from typing import Protocol
from weakref import WeakValueDictionary


class Exiting(Protocol):
    """An object with work to do at the end of the process."""

    def at_exit(self) -> None:
        """Do that work. It may be called more than once, and must not raise."""
        ...


# Numbered, since their order matters.
_living: WeakValueDictionary[int, Exiting] = WeakValueDictionary()
_numbers = itertools.count(1)


def run_at_exit(item: Exiting, *, last: bool = False) -> None:
    """Call `item.at_exit()` at the end of this process and of its forked children.

    Items run in reverse order of registration, as with `atexit`.

    Args:
        item: the object; only weakly referenced.
        last: run it after all items registered without `last`.
    """
    number = next(_numbers)
    _living[-number if last else number] = item
    _register()


@functools.cache  # if two threads register it twice, that does no harm
def _register() -> None:
    from multiprocessing import util

    atexit.register(_run)
    _finalize()
    # A multiprocessing child discards the finalizers of its parent.
    util.register_after_fork(_run, _finalize)


def _finalize(_: object = None) -> None:
    from multiprocessing import util

    util.Finalize(None, _run, exitpriority=0)


def _run() -> None:
    for _, item in sorted(_living.items(), reverse=True):
        item.at_exit()

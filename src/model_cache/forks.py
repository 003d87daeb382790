"""Replace locks and sockets in a forked child (gunicorn --preload, multiprocessing).

A lock that another thread held at the fork would stay locked forever in the child, and two
processes that read from the same socket would get each other's replies.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """An object with state to replace after a fork."""

    def after_fork(self) -> None:
        """Replace locks and drop sockets; called in the child, before anything else runs."""
        ...


class ForkSafeLock:
    """A reentrant lock for `with` that is free in a forked child, even if the parent held it.

    `with` calls the C lock's own methods. A signal handler may raise at the start or end of any
    Python function, so a Python wrapper around `acquire` or `release` could leave the lock held
    forever.
    """

    def __init__(self) -> None:
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Replace the lock."""
        self._lock = threading.RLock()

    @property
    def __enter__(self) -> Callable[[], bool]:
        return self._lock.__enter__

    @property
    def __exit__(self) -> Callable[..., None]:  # noqa: PLE0302 - a property
        return self._lock.__exit__


_living: WeakSet[Forkable] = WeakSet()


def renew_after_fork(item: Forkable) -> None:
    """Call `item.after_fork()` in every forked child, as long as `item` lives."""
    _living.add(item)
    _register()


@functools.cache  # if two threads register it twice, that does no harm
def _register() -> None:
    if hasattr(os, "register_at_fork"):  # Windows has no fork
        os.register_at_fork(after_in_child=_renew)


def _renew() -> None:
    for item in list(_living):
        item.after_fork()

"""What has locks or sockets is made anew in a forked child (gunicorn --preload, multiprocessing).

A lock that another thread held at the fork would stay locked for ever in the child, and a
socket that two processes read from gives each the other's answers.
"""

from __future__ import annotations

import functools
import os
import threading
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """Something that must be made anew after a fork."""

    def after_fork(self) -> None:
        """Replace locks and drop sockets; called in the child, before anything else runs."""
        ...


class ForkSafeLock:
    """A reentrant lock that is free in a forked child, whoever held it in the parent.

    Attributes:
        lock: the lock itself, for `with`: an interruption between its acquisition and the block
            would leave a wrapper around it locked.
    """

    def __init__(self) -> None:
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Make the lock anew."""
        self.lock = threading.RLock()


_living: WeakSet[Forkable] = WeakSet()


def renew_after_fork(item: Forkable) -> None:
    """Call `item.after_fork()` in every forked child, as long as `item` lives."""
    _living.add(item)
    _register()


@functools.cache  # registered twice, by two threads, it would do no harm
def _register() -> None:
    if hasattr(os, "register_at_fork"):  # Windows has no fork
        os.register_at_fork(after_in_child=_renew)


def _renew() -> None:
    for item in list(_living):
        item.after_fork()

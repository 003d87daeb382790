"""What has locks or sockets is made anew in a forked child (gunicorn --preload, multiprocessing).

A lock that another thread held at the fork would stay locked for ever in the child, and a
socket that two processes read from gives each the other's answers.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """Something that must be made anew after a fork."""

    def after_fork(self) -> None:
        """Replace locks and drop sockets; called in the child, before anything else runs."""
        ...


class ForkSafeLock:
    """A reentrant lock for `with`, free in a forked child, whoever held it in the parent.

    The `with` calls the methods of the lock of C themselves. A signal handler may raise at the
    beginning or end of any function of Python, and one around `acquire` or `release` would then
    leave the lock held for ever.
    """

    def __init__(self) -> None:
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Make the lock anew."""
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


@functools.cache  # registered twice, by two threads, it would do no harm
def _register() -> None:
    if hasattr(os, "register_at_fork"):  # Windows has no fork
        os.register_at_fork(after_in_child=_renew)


def _renew() -> None:
    for item in list(_living):
        item.after_fork()

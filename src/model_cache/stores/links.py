"""The event loops of a process that ask one server: each has a link of its own."""

from __future__ import annotations

import contextlib
import math
import time
from asyncio import AbstractEventLoop, Future, get_running_loop
from collections.abc import Callable
from typing import Any
from weakref import finalize

from model_cache.forks import renew_after_fork
from model_cache.stores.connection import Reached
from model_cache.stores.link import Link
from model_cache.stores.pool import Connect

# Seconds between two times at which all connections are retired since the server is the wrong one.
_BETWEEN_RETIREMENTS = 1.0


class Links:
    """The connections to one server, one for each event loop that asks it.

    Args:
        connect: opens one; it may block.
        max_age: seconds after which one is replaced, less up to a quarter.

    Attributes:
        reached: what is known about the server.
    """

    def __init__(self, connect: Connect, *, max_age: float = math.inf) -> None:
        self._connect = connect
        self._max_age = max_age
        self.reached = Reached()
        self._retired_at = -math.inf
        self._links: dict[AbstractEventLoop, Link] = {}
        # Loops keep what they read from alive, but not this.
        closing = finalize(self, _close_all, self._links)
        closing.atexit = False
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Forget the connections: they are the parent's."""
        for link in self._links.values():
            link.abandon()
        self._links.clear()

    def exchange(self, request: bytes, replies: int, timeout: float) -> Future[list[Any]]:
        """Send a request on the running loop's connection; see `Link.exchange`."""
        if timeout <= 0:
            raise TimeoutError
        loop = get_running_loop()
        link = self._links.get(loop)
        if link is None:
            self._forget_closed()
            link = Link(loop, self._connect, self.reached, max_age=self._max_age)
            self._links[loop] = link
        return link.exchange(request, replies, timeout)

    def retire(self) -> None:
        """Use no connection of now again, in any loop; at most once in a while."""
        now = time.monotonic()
        if now < self._retired_at + _BETWEEN_RETIREMENTS:
            return
        self._retired_at = now
        for link in list(self._links.values()):
            _call_in_loop(link, link.retire)

    def close_idle(self) -> None:
        """Use the running loop's connection for no more requests."""
        link = self._links.get(get_running_loop())
        if link is not None:
            link.retire()

    def close(self) -> None:
        """Close all connections, each in its loop; a later request opens new ones."""
        _close_all(self._links)

    def _forget_closed(self) -> None:
        for loop, link in list(self._links.items()):
            if loop.is_closed():
                link.abandon()
                self._links.pop(loop, None)


def _close_all(links: dict[AbstractEventLoop, Link]) -> None:
    while links:
        with contextlib.suppress(KeyError):  # another thread closes them, too
            _, link = links.popitem()
            _call_in_loop(link, link.close)


def _call_in_loop(link: Link, call: Callable[[], None]) -> None:
    """Call something of a link in its loop's thread."""
    try:
        running: AbstractEventLoop | None = get_running_loop()
    except RuntimeError:
        running = None
    if link.loop is running:
        call()
        return
    try:
        link.loop.call_soon_threadsafe(call)
    except RuntimeError:  # the loop is closed
        link.abandon()

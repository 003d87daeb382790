"""Signals that arrive at any moment, like Ctrl-C and a worker's soft time limit."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

Handler = Callable[[int, FrameType | None], None]


class SoftTimeLimitError(Exception):
    """What a worker's signal handler raises."""


@contextlib.contextmanager
def soft_time_limit() -> Iterator[None]:
    """Raise `SoftTimeLimitError` at each SIGUSR1, while the block runs."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        raise SoftTimeLimitError

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


@contextlib.contextmanager
def may_be_lost(interruptions: Collection[type[BaseException]]) -> Iterator[None]:
    """Allow exceptions of these types to be raised where they reach nobody, while the block runs.

    A signal may arrive in a finalizer or in a callback of the garbage collector, of objects that
    an earlier test left behind, too. Python reports the exception and goes on; pytest would fail
    the test.
    """
    before = sys.unraisablehook

    def unraisable_hook(unraisable: UnraisableHookArgs) -> None:
        if unraisable.exc_type not in interruptions:
            before(unraisable)

    sys.unraisablehook = unraisable_hook
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextlib.contextmanager
def signals_every(seconds: float, handler: Handler) -> Iterator[None]:
    """Handle a signal in the main thread over and over, while the block runs.

    The next signal is sent only when the handler has returned, so that a slow handler, such as one
    under a tracer, lets the block go on.
    """
    sent, done = False, threading.Event()
    raised: set[type[BaseException]] = set()

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal sent
        try:
            if not _is_beside_the_point(frame):
                handler(signum, frame)
        except BaseException as error:
            raised.add(type(error))
            raise
        finally:
            sent = False

    def send() -> None:
        nonlocal sent
        while not done.wait(seconds):
            if not sent:
                sent = True
                os.kill(os.getpid(), signal.SIGUSR1)

    # Not SIGALRM, which is pytest-timeout's.
    before = signal.signal(signal.SIGUSR1, handle)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        with may_be_lost(raised):
            yield
    finally:
        done.set()
        sender.join()
        signal.signal(signal.SIGUSR1, before)


def _is_beside_the_point(frame: FrameType | None) -> bool:
    """Return whether coverage's tracer or a hook for unraisable exceptions is running.

    An exception there would leave the tracer's lock held, and the tests would wait for it for
    ever; in the hook, it would fail the test.
    """
    while frame is not None:
        code = frame.f_code
        if f"{os.sep}coverage{os.sep}" in code.co_filename or code.co_name == "unraisable_hook":
            return True
        frame = frame.f_back
    return False

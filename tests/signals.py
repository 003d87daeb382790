"""Signals that arrive at any moment, like Ctrl-C and a worker's soft time limit."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

Handler = Callable[[int, FrameType | None], None]


@contextlib.contextmanager
def signals_every(seconds: float, handler: Handler) -> Iterator[None]:
    """Handle a signal in the main thread over and over, while the block runs.

    The next signal is sent only when the handler has returned, so that a slow handler, such as one
    under a tracer, lets the block go on.
    """
    sent, done = False, threading.Event()

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal sent
        try:
            if not _is_beside_the_point(frame):
                handler(signum, frame)
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
        yield
    finally:
        done.set()
        sender.join()
        signal.signal(signal.SIGUSR1, before)


def _is_beside_the_point(frame: FrameType | None) -> bool:
    """Return whether coverage's tracer or pytest's hook for unraisable exceptions is running.

    An exception there would leave the tracer's lock held, and the tests would wait for it for
    ever; in the hook, it would fail the test.
    """
    while frame is not None:
        code = frame.f_code
        if f"{os.sep}coverage{os.sep}" in code.co_filename or code.co_name == "unraisable_hook":
            return True
        frame = frame.f_back
    return False

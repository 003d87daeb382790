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
    """Handle a signal in the main thread over and over, while the block runs."""
    # Not SIGALRM, which is pytest-timeout's.
    before = signal.signal(signal.SIGUSR1, handler)
    done = threading.Event()

    def send() -> None:
        while not done.wait(seconds):
            os.kill(os.getpid(), signal.SIGUSR1)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        done.set()
        sender.join()
        signal.signal(signal.SIGUSR1, before)

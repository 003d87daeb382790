"""Distinguish an exception that interrupted a call from one that the call itself raised.

A soft time limit (Celery's, or `signal.alarm` with a handler that raises) raises an exception in
whatever code is running. It often derives from `Exception`, so an `except Exception` around a
user's function would swallow it. Every such block calls `reraise_interruption` first.
"""

from __future__ import annotations

from types import FrameType, TracebackType


def reraise_interruption(error: BaseException) -> None:
    """Raise `error` again if a signal handler raised it; otherwise do nothing."""
    if is_interruption(error):
        try:
            raise error
        finally:
            # Its traceback refers to this frame. The cycle would keep the interrupted frames and
            # their open sockets until the next collection.
            del error


def is_interruption(error: BaseException) -> bool:
    """Return whether a signal handler raised `error`, interrupting the running code.

    Python passes the interrupted frame to the handler. So only the traceback of such an exception
    contains a frame that has the previous frame as an argument.
    """
    traceback: TracebackType | None = error.__traceback__
    before: FrameType | None = None
    while traceback is not None:
        if before is not None and _was_called_with(traceback.tb_frame, before):
            return True
        before, traceback = traceback.tb_frame, traceback.tb_next
    return False


def _was_called_with(frame: FrameType, argument: FrameType) -> bool:
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 0x04)  # *args
    values = [frame.f_locals.get(name) for name in code.co_varnames[:count]]
    return any(
        value is argument or (type(value) is tuple and any(item is argument for item in value))
        for value in values
    )

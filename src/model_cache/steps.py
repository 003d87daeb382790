"""Run steps: generators that contain decisions, do no I/O, and yield what they need.

Each decision is written once. Whether a thread or an event loop waits for what it needs is up to
the function that performs it.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import AbstractEventLoop, Future, get_running_loop
from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

E = TypeVar("E")
T = TypeVar("T")


def take(steps: Generator[E, Any, T], perform: Callable[[E], Any]) -> T:
    """Run steps to the end.

    Args:
        steps: the steps.
        perform: performs what one of them needs, and returns its result or raises.
    """
    result, error = None, None
    try:
        while True:
            try:
                effect = steps.send(result) if error is None else steps.throw(error)
            except StopIteration as end:
                value: T = end.value
                return value
            try:
                result, error = perform(effect), None
            except BaseException as caught:
                error = caught
    except RuntimeError as wrapped:
        # A generator turns a model's StopIteration into a RuntimeError.
        if error is not None and wrapped.__cause__ is error:
            raise error from error.__cause__
        if (own := unwrapped(wrapped)) is not wrapped:
            raise own from own.__cause__
        raise
    finally:
        del error  # it refers to this frame, which refers to it


def unwrapped(error: Exception) -> Exception:
    """Return a model's own exception: generators turn its StopIteration into a RuntimeError."""
    cause, traceback = error.__cause__, error.__traceback__
    was_turned = traceback is not None and traceback.tb_next is None
    return cause if was_turned and isinstance(cause, StopIteration) else error


async def take_async(steps: Generator[E, Any, T], perform: Callable[[E], Awaitable[Any]]) -> T:
    """Run steps to the end, awaiting what each of them needs; see `take`."""
    result, error = None, None
    try:
        while True:
            try:
                effect = steps.send(result) if error is None else steps.throw(error)
            except StopIteration as end:
                value: T = end.value
                return value
            try:
                result, error = await perform(effect), None
            except BaseException as caught:
                error = caught
    finally:
        del error  # it refers to this frame, which refers to it


async def notified(
    subscribe: Callable[[Callable[[T], object]], object],
    seconds: float,
    is_lost: Callable[[], bool] = lambda: False,
    between: float = 60.0,
) -> T | None:
    """Wait in an event loop until another thread, or another loop, calls back.

    Args:
        subscribe: receives the function to call back, from any thread.
        seconds: the most seconds to wait.
        is_lost: whether nobody will ever call back; checked from time to time.
        between: seconds between the first two checks; later ones are rarer.

    Returns:
        What the function was called with; None on a timeout.
    """
    loop = get_running_loop()
    future: Future[T] = loop.create_future()
    subscribe(lambda value: _settle_in(loop, future, value))
    deadline = loop.time() + seconds
    while not future.done() and (left := deadline - loop.time()) > 0:
        await asyncio.wait((future,), timeout=min(left, between))
        if not future.done() and is_lost():
            return None
        between *= 1.5
    return future.result() if future.done() else None


def _settle_in(loop: AbstractEventLoop, future: Future[T], value: T) -> None:
    if asyncio._get_running_loop() is loop:
        _settle(future, value)
        return
    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(_settle, future, value)


def _settle(future: Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)

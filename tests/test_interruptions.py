"""Exceptions of signal handlers are distinguished from errors of the interrupted code."""

from __future__ import annotations

import functools
import gc
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from weakref import ref

import pytest

from model_cache.forks import ForkSafeLock
from model_cache.interruptions import is_interruption, reraise_interruption
from tests.signals import signals_every

# A signal that raises inside coverage leaves its lock held.
pytestmark = pytest.mark.no_cover


class SoftTimeLimit(Exception):
    pass


def _raising(signum: int, frame: object) -> None:
    raise SoftTimeLimit


def _raising_below(signum: int, frame: object) -> None:
    _raise_it()


def _raise_it() -> None:
    raise SoftTimeLimit


def _with_star(*arguments: object) -> None:
    raise TimeoutError("a plain OSError")


class _Callable:
    def __call__(self, signum: int, frame: object) -> None:
        raise SoftTimeLimit

    def method(self, signum: int, frame: object) -> None:
        raise SoftTimeLimit


def _resetting(signum: int, frame: object) -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    raise SoftTimeLimit


HANDLERS: list[Callable[..., Any]] = [
    _raising,
    _raising_below,
    _with_star,
    _Callable(),
    _Callable().method,
    functools.partial(_raising),
    _resetting,
]


@contextmanager
def handling(handler: Callable[..., Any]) -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("handler", HANDLERS)
def test_an_exception_of_a_signal_handler_is_an_interruption(handler: Callable[..., Any]) -> None:
    def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        sum(range(1000))

    def guarded() -> None:
        try:
            interrupted()
        except Exception as error:
            reraise_interruption(error)

    with handling(handler), pytest.raises((SoftTimeLimit, TimeoutError)) as caught:
        guarded()
    assert is_interruption(caught.value)


def test_what_an_interrupted_call_held_is_freed_without_a_collection() -> None:
    class Held:
        pass

    def interrupted() -> ref[Held]:
        held = Held()
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
        except SoftTimeLimit as error:
            with pytest.raises(SoftTimeLimit):
                reraise_interruption(error)
        return ref(held)

    gc.collect()
    gc.disable()
    try:
        with handling(_raising):
            assert interrupted()() is None
    finally:
        gc.enable()


def test_an_error_of_the_called_code_is_not_an_interruption() -> None:
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int("x")
    reraise_interruption(caught.value)
    assert not is_interruption(caught.value)


def test_an_error_that_a_handler_caught_is_not_an_interruption() -> None:
    def dealing(signum: int, frame: object) -> None:
        try:
            raise SoftTimeLimit
        except SoftTimeLimit:
            pass

    def fails() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        raise ValueError

    with handling(dealing), pytest.raises(ValueError, match=r"^$") as caught:
        fails()
    assert not is_interruption(caught.value)


def test_an_interruption_leaves_no_lock_held() -> None:
    lock, armed, interrupted = ForkSafeLock(), False, 0

    def raising(signum: int, frame: object) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise SoftTimeLimit

    with signals_every(0.0002, raising):
        for _ in range(20_000):
            try:
                armed = True
                for _ in range(20):
                    with lock:
                        pass
                armed = False
            except SoftTimeLimit:
                interrupted += 1
    assert interrupted
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lock._lock.acquire, timeout=10).result()

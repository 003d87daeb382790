"""`lazy` properties are computed once, and without a lock."""

from __future__ import annotations

import multiprocessing
import threading
from typing import Any

from model_cache.lazy import lazy


class Slow:
    """Computes its value when the test says so."""

    def __init__(self) -> None:
        self.entered, self.go = threading.Event(), threading.Event()
        self.computed = 0

    @lazy
    def value(self) -> int:
        """The value."""
        self.computed += 1
        self.entered.set()
        assert self.go.wait(30)
        return 42


def read(slow: Slow, results: Any) -> None:
    slow.go = threading.Event()
    slow.go.set()
    results.put(slow.value)


def test_it_is_computed_once() -> None:
    slow = Slow()
    slow.go.set()
    assert (slow.value, slow.value, slow.computed) == (42, 42, 1)
    assert Slow.value.__doc__ == "The value."


def test_a_child_forked_while_another_thread_computes_it_does_not_wait() -> None:
    slow, context = Slow(), multiprocessing.get_context("fork")
    thread = threading.Thread(target=lambda: slow.value)
    thread.start()
    assert slow.entered.wait(30)
    results = context.SimpleQueue()
    child = context.Process(target=read, args=(slow, results))
    child.start()
    child.join(30)
    is_alive = child.is_alive()
    child.kill()
    slow.go.set()
    thread.join()
    assert not is_alive
    assert results.get() == 42

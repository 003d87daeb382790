"""Interleaved timing: a few dozen calls of each variant in turn, over and over.

That way, a temporary load on the machine affects all variants alike.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

_AT_ONCE = 50


@dataclass(frozen=True)
class Variant:
    """A function to time, called once with each of the inputs."""

    name: str
    call: Callable[[Any], object]
    inputs: Sequence[Any]


@dataclass(frozen=True)
class Measured:
    """Microseconds per call.

    Attributes:
        wall: the median wall time.
        p95: the 95th percentile of the wall time.
        cpu: this process's CPU time; the median over groups of calls.
    """

    wall: float
    p95: float
    cpu: float


def in_turn(*variants: Variant, at_once: int = _AT_ONCE) -> dict[str, Measured]:
    """Time variants with the same number of inputs, in groups of calls, in changing order."""
    walls: dict[str, list[int]] = {variant.name: [] for variant in variants}
    cpus: dict[str, list[float]] = {variant.name: [] for variant in variants}
    with _no_collections():
        for variant, inputs in _groups(variants, at_once):
            call, clock, wall = variant.call, time.perf_counter_ns, walls[variant.name]
            cpu = time.process_time_ns()
            for item in inputs:
                started = clock()
                call(item)
                wall.append(clock() - started)
            cpus[variant.name].append((time.process_time_ns() - cpu) / len(inputs))
    return {
        name: Measured(median(wall) / 1e3, _p95(wall) / 1e3, median(cpus[name]) / 1e3)
        for name, wall in walls.items()
    }


def cpu_in_turn(
    *variants: Variant,
    clock: Callable[[], float] = time.process_time,
    at_once: int = _AT_ONCE,
) -> dict[str, float]:
    """Return the CPU time per call in microseconds, for calls too short to time one by one.

    The `clock` is the process's or, with `time.thread_time`, the calling thread's. The result is
    the median over groups of `at_once` calls, so it includes occasional work only if each group has
    a share of it.
    """
    nothing = Variant("", _nothing, variants[0].inputs)
    cpus: dict[str, list[float]] = {variant.name: [] for variant in (nothing, *variants)}
    with _no_collections():
        for variant, inputs in _groups((nothing, *variants), at_once):
            call = variant.call
            cpu = clock()
            for item in inputs:
                call(item)
            cpus[variant.name].append((clock() - cpu) / len(inputs))
    loop = median(cpus.pop(""))
    return {name: (median(cpu) - loop) * 1e6 for name, cpu in cpus.items()}


def threads_in_turn(threads: int, rounds: int, *variants: Variant) -> dict[str, float]:
    """Return the calls per second of several threads that divide the inputs between them."""
    rates: dict[str, list[float]] = {variant.name: [] for variant in variants}
    for round_ in range(rounds):
        for variant in _rotated(variants, round_):
            seconds = _run_threads(threads, variant)
            rates[variant.name].append(len(variant.inputs) / seconds)
    return {name: median(rate) for name, rate in rates.items()}


def _run_threads(threads: int, variant: Variant) -> float:
    start = threading.Barrier(threads + 1)

    def run(inputs: Sequence[Any]) -> None:
        start.wait()
        for item in inputs:
            variant.call(item)

    running = [
        threading.Thread(target=run, args=(variant.inputs[number::threads],))
        for number in range(threads)
    ]
    for thread in running:
        thread.start()
    start.wait()
    started = time.perf_counter()
    for thread in running:
        thread.join()
    return time.perf_counter() - started


@contextmanager
def on_one_cpu(*processes: int) -> Iterator[None]:
    """Pin processes to the same CPU; on Linux only."""
    if sys.platform != "linux":
        raise NotImplementedError(sys.platform)
    before = {process: os.sched_getaffinity(process) for process in processes}
    try:
        for process in processes:
            os.sched_setaffinity(process, {min(before[processes[0]])})
        yield
    finally:
        for process, cpus in before.items():
            os.sched_setaffinity(process, cpus)


def _groups(
    variants: Sequence[Variant], at_once: int = _AT_ONCE
) -> Iterator[tuple[Variant, Sequence[Any]]]:
    for turn, first in enumerate(range(0, len(variants[0].inputs), at_once)):
        for variant in _rotated(variants, turn):
            yield variant, variant.inputs[first : first + at_once]


def _rotated(variants: Sequence[Variant], by: int) -> list[Variant]:
    start = by % len(variants)
    return [*variants[start:], *variants[:start]]


@contextmanager
def _no_collections() -> Iterator[None]:
    """Keep garbage collections out of the timings."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _p95(values: Sequence[int]) -> float:
    return quantiles(values, n=20)[-1] if len(values) > 1 else float(values[0])


def _nothing(_: object) -> None:
    pass

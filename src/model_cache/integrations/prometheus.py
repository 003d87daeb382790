"""Prometheus metrics: a hook that counts events, and the text exposition.

Counting each hit in prometheus_client's metrics would make hits much more expensive. So events are
queued and counted in batches, at the latest on a scrape. This also keeps predictions away from
prometheus_client's locks: a prediction may run in a signal handler, on top of code that holds one.

Under gunicorn, each worker counts its own events. With PROMETHEUS_MULTIPROC_DIR set,
prometheus_client keeps the counts in files there, and the exposition is the sum of all workers. A
scrape can't make other processes count their queued events, so each process does so within a
quarter of a second, on a background thread, and when it ends.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

try:
    from prometheus_client import (
        CONTENT_TYPE_LATEST,
        REGISTRY,
        CollectorRegistry,
        generate_latest,
    )
    from prometheus_client.metrics_core import Metric
    from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        'prometheus_client is missing; install it with: pip install "ml-model-cache[prometheus]"'
    ) from error

from model_cache.exits import run_at_exit
from model_cache.forks import renew_after_fork
from model_cache.integrations.prometheus_metrics import COUNTED, Counted, Metrics
from model_cache.interruptions import reraise_interruption
from model_cache.observing.events import Event
from model_cache.prediction.background import BackgroundWriter

logger = logging.getLogger("model_cache")

_MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
_MOST_GATHERED = 256  # events; a caller counts them, which must not take long
# If they can't be counted, the oldest beyond this many are dropped, to limit the memory.
_MOST_KEPT = 65_536
_GATHERING_SECONDS = 0.25
_PATIENCE = 1.0  # seconds to wait at a fork and at exit
# prometheus_client maps its files into memory. If no page is left for one, the kernel ends the
# process (SIGBUS), so with less than this many bytes nothing is counted.
_LEAST_FREE = 1 << 20


class _Counting:
    """The lock held while counting and during a fork. Not reentrant, like prometheus_client's.

    A metric's lock that another thread holds at a fork would stay locked in the child. With
    PROMETHEUS_MULTIPROC_DIR, prometheus_client uses one lock for all metrics, including the app's
    own: a child forked while the app counts may find it locked forever. Then its events are not
    counted, but its predictions are as fast as ever, since they never take that lock.
    """

    def __init__(self) -> None:
        self.after_fork()
        renew_after_fork(self)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before_fork, after_in_parent=self._forked)

    def after_fork(self) -> None:
        """Replace the lock."""
        self.lock = threading.Lock()
        self._forking: int | None = None

    def wait(self) -> None:
        """Wait for a count in progress, for a limited time."""
        if self.lock.acquire(timeout=_PATIENCE):
            self.lock.release()

    def _before_fork(self) -> None:
        # In a signal handler on top of a scrape, the lock would never be released.
        if self.lock.acquire(timeout=_PATIENCE):
            self._forking = threading.get_ident()

    def _forked(self) -> None:
        if self._forking == threading.get_ident():
            self._forking = None
            self.lock.release()


_counting = _Counting()


class _Queue(Collector):
    """The metrics, and the events that are not counted yet."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self._failed = False
        self._counter = BackgroundWriter(max_jobs=1, flush_seconds=_PATIENCE)
        self.after_fork()
        renew_after_fork(self)
        if _in_files():
            run_at_exit(self)

    def after_fork(self) -> None:
        """Start over: the queued events and the files belong to the parent."""
        self._events: deque[Counted] = deque(maxlen=_MOST_KEPT)
        self.metrics.start_over()
        # Until when no other count needs to be started. A time instead of a flag, since the thread
        # that sets it may be interrupted before it starts the count.
        self._will_count_until = 0.0
        self._ends = threading.Event()
        self._folder = os.environ.get(_MULTIPROCESS)

    def gather(self, event: Counted) -> None:
        """Queue an event, quickly and without waiting for a lock."""
        self._events.append(event)
        if self._folder:
            if time.monotonic() >= self._will_count_until:
                self._count_soon()
        elif len(self._events) >= _MOST_GATHERED and not _counting.lock.locked():
            # If the lock is held, its holder counts, or is the code that this interrupted. Acquired
            # with `with`, since an interruption after `acquire` would leave it locked forever.
            with _counting.lock:
                self._count_some()

    def _count_soon(self) -> None:
        self._will_count_until = time.monotonic() + 4 * _GATHERING_SECONDS
        if not self._counter.submit(self._count_in_time):  # no thread; the next event tries again
            self._will_count_until = 0.0

    def _count_in_time(self) -> None:
        self._ends.wait(_GATHERING_SECONDS)
        self._will_count_until = 0.0
        self.try_to_count()

    def try_to_count(self) -> None:
        """Count the queued events; log the first failure."""
        try:
            self.count()
        except Exception as error:  # a full disk, or a missing folder
            reraise_interruption(error)
            if not self._failed:
                self._failed = True
                logger.warning("Prometheus metrics not counted: %s", error)

    def at_exit(self) -> None:
        """Count the queued events, and wait for counts in progress, for a limited time."""
        self._ends.set()
        if not self._counter.flush():
            return  # it waits for a lock that stayed locked after a fork
        if self._events and not self._counter.submit(self._count_in_time):
            self._count_in_time()  # no more threads at shutdown
        self._counter.flush()
        _counting.wait()  # a scrape may be counting

    def count(self) -> None:
        """Count the queued events; never called by a prediction."""
        if self._folder:
            _check_space(self._folder)
        for _ in range(0, len(self._events), _MOST_GATHERED):
            with _counting.lock:
                self._count_some()
            time.sleep(0.0001)  # let others take the lock, such as a fork

    def _count_some(self) -> None:
        size = min(len(self._events), _MOST_GATHERED)
        self.metrics.count(self._events.popleft() for _ in range(size))

    def collect(self) -> list[Metric]:
        self.count()
        with _counting.lock:
            return self._collected()

    def _collected(self) -> list[Metric]:
        return [family for metric in self.metrics.all for family in metric.collect()]

    def describe(self) -> list[Metric]:
        return [family for metric in self.metrics.all for family in metric.describe()]


_made: WeakKeyDictionary[CollectorRegistry, _Queue] = WeakKeyDictionary()
_in_all_registries: list[_Queue] = []  # a single one, with PROMETHEUS_MULTIPROC_DIR


def _queue_of(registry: CollectorRegistry) -> _Queue:
    """Return the queue of a registry's metrics, which can be created only once."""
    with _counting.lock:
        if registry not in _made:
            # A process has one set of files, in which two sets of metrics would collide.
            queue = _in_all_registries[0] if _in_all_registries else _Queue()
            registry.register(queue)
            _made[registry] = queue
            if _in_files() and not _in_all_registries:
                _in_all_registries.append(queue)
        return _made[registry]


def _in_files() -> bool:
    return bool(os.environ.get(_MULTIPROCESS))


def _check_space(folder: str) -> None:
    if shutil.disk_usage(folder).free < _LEAST_FREE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)


class PrometheusHook:
    """Counts predictions, store errors, bytes and times in Prometheus metrics.

    Pass it to the decorator by name, `hooks=["prometheus"]`, or as an object. All hooks and
    decorators share the metrics, with the labels `model` and `version`.

    Args:
        registry: the registry of the metrics; by default prometheus_client's. With
            PROMETHEUS_MULTIPROC_DIR, all registries of a process show the same metrics.

    Raises:
        ValueError: the registry already has other metrics with these names.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._registry = registry
        self._queue = _queue_of(REGISTRY if registry is None else registry)

    def __call__(self, event: Event) -> None:
        """Queue an event for counting."""
        if type(event) in COUNTED:
            self._queue.gather(event)  # type: ignore[arg-type]

    def __deepcopy__(self, memo: dict[int, Any]) -> PrometheusHook:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return PrometheusHook, () if self._registry is None else (self._registry,)


class _AllProcesses(Collector):
    """The sums over all processes, skipping files that can't be read.

    A worker that is killed while creating a file leaves it empty or truncated.
    """

    def __init__(self, folder: str) -> None:
        if not Path(folder).is_dir():
            raise ValueError(f"{_MULTIPROCESS}: expected a folder, got {folder!r}")
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        files = [str(file) for file in Path(self._folder).glob("*.db")]
        try:
            return _merged(files)
        except Exception as error:
            reraise_interruption(error)
            return _merged([file for file in files if _is_readable(file)])


def _merged(files: list[str]) -> Iterable[Metric]:
    merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
    return merged


_unreadable: set[str] = set()


def _is_readable(file: str) -> bool:
    try:
        _merged([file])
    except FileNotFoundError:  # removed meanwhile
        return False
    except Exception as error:
        reraise_interruption(error)
        if file not in _unreadable:
            _unreadable.add(file)
            logger.warning(
                "Skipping the incomplete Prometheus file %s (%s: %s)",
                *(file, type(error).__name__, error),
            )
        return False
    return True


def exposition() -> tuple[bytes, str]:
    """Return the metrics of the default registry as text, and its content type.

    With PROMETHEUS_MULTIPROC_DIR in the environment, they are sums over all processes that share
    that folder, without prometheus_client's metrics of Python and the process. A file that can't
    be read, such as one whose worker was killed while creating it, is skipped and logged.

    Raises:
        ValueError: PROMETHEUS_MULTIPROC_DIR is not a folder.
    """
    registry = REGISTRY
    if _in_files():
        registry = CollectorRegistry()
        registry.register(_AllProcesses(os.environ[_MULTIPROCESS]))
        for queue in _in_all_registries:
            queue.try_to_count()
    return generate_latest(registry), CONTENT_TYPE_LATEST


def count_all() -> None:
    """Count the queued events, for a limited time, as at the end of a process.

    For servers that a signal ends without `atexit`. Without PROMETHEUS_MULTIPROC_DIR it does
    nothing.
    """
    for queue in _in_all_registries:
        queue.at_exit()


def forget_worker(pid: int) -> None:
    """Remove the gauges of a worker that has ended; for gunicorn's `child_exit`.

    Its counts stay in the sums. A file that it left incomplete because it was killed is removed,
    since prometheus_client's `MultiProcessCollector` would fail on it. Without
    PROMETHEUS_MULTIPROC_DIR it does nothing.

    Args:
        pid: the worker's process id.
    """
    if not _in_files():
        return
    mark_process_dead(pid)  # type: ignore[no-untyped-call]
    for file in Path(os.environ[_MULTIPROCESS]).glob(f"*_{pid}.db"):
        if not _is_readable(str(file)):
            file.unlink(missing_ok=True)

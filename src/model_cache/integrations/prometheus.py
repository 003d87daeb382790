"""Prometheus metrics: a hook that counts events, and the text exposition.

A hit takes some 20 µs of CPU time, and counting it in prometheus_client's metrics half as much
again. So events are queued and counted in batches, at the latest on a scrape. This also keeps
predictions away from prometheus_client's locks: a prediction may run in a signal handler, on top of
code that holds one of them.

Under gunicorn, each worker counts its own events. With PROMETHEUS_MULTIPROC_DIR set,
prometheus_client keeps the counts in files there, and the exposition is the sum of all workers. A
scrape can't make other processes count their queued events, so each process does so within a
quarter of a second, on a background thread, and when it ends.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from bisect import bisect_left
from collections import Counter as Tally
from collections import defaultdict, deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias, get_args
from weakref import WeakKeyDictionary

try:
    from prometheus_client import (
        CONTENT_TYPE_LATEST,
        REGISTRY,
        CollectorRegistry,
        Counter,
        Gauge,
        Histogram,
        generate_latest,
    )
    from prometheus_client.metrics import MetricWrapperBase
    from prometheus_client.metrics_core import Metric
    from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        'prometheus_client is missing; install it with: pip install "ml-model-cache[prometheus]"'
    ) from error

from model_cache.exits import run_at_exit
from model_cache.forks import renew_after_fork
from model_cache.interruptions import reraise_interruption
from model_cache.observing.events import EntryStored, Event, WriteFailed
from model_cache.observing.outcome import Kind, Outcome
from model_cache.prediction.background import BackgroundWriter

logger = logging.getLogger("model_cache")

_MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
_MODEL = ("model", "version")
_UNSTORED = ("skipped", "lossy", "too_large", "dropped")
# The kinds whose model_seconds belong to an answer.
_MODEL_ANSWERED = ("miss", "uncacheable", "unavailable", "bypass", "off")

_Counted: TypeAlias = Outcome | EntryStored | WriteFailed
_COUNTED = frozenset(get_args(_Counted))

_MOST_GATHERED = 256  # events; counting them takes a caller 0.2 ms
# If they can't be counted, the oldest beyond this many are dropped. They take 20 MB.
_MOST_KEPT = 65_536
_GATHERING_SECONDS = 0.25
_PATIENCE = 1.0  # seconds to wait at a fork and at exit


class _Counting:
    """The lock held while counting and during a fork. Not reentrant, like prometheus_client's.

    A metric's lock that another thread holds at a fork would stay locked in the child. With
    PROMETHEUS_MULTIPROC_DIR, prometheus_client uses one lock for all metrics, including the app's
    own: a child forked while the app counts may find it locked for ever. Then its events are not
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

# From a read on the same host to one that times out.
_STORE_BUCKETS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5),
)
_MODEL_BUCKETS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)


# The private attributes of prometheus_client's Histogram that `_Histogram` uses, if available.
_PRIVATE = ("_upper_bounds", "_sum", "_buckets")


class _Histogram(Histogram):
    """A histogram that takes many values at a time."""

    def add(self, values: Iterable[float]) -> None:
        """Observe many values. There is no public counterpart of `observe` for that."""
        values = list(values)
        if not all(hasattr(self, name) for name in _PRIVATE):
            for value in values:
                self.observe(value)
            return
        bounds = self._upper_bounds
        self._sum.inc(sum(values))
        for place, count in Tally([bisect_left(bounds, value) for value in values]).items():
            self._buckets[place].inc(count)


class _Series:
    """The metrics of one model.

    All known label values exist from the start, at zero: `rate()` misses the first event of a
    counter that only appears with it.
    """

    def __init__(self, metrics: _Metrics, model: str, version: str) -> None:
        def of(metric: Any, *labels: str) -> Any:
            return metric.labels(model, version, *labels)

        kinds: tuple[Kind, ...] = get_args(Kind)
        self.predicted = {kind: of(metrics.predictions, kind).inc for kind in kinds}
        self.unstored = {reason: of(metrics.unstored, reason).inc for reason in _UNSTORED}
        self.near = of(metrics.near_hits).inc
        self.hit: _Histogram = of(metrics.hit_seconds)
        self.saved: _Histogram = of(metrics.saved_seconds)
        self.lost = of(metrics.lost_seconds).inc
        self.read: _Histogram = of(metrics.store_seconds, "read")
        self.wrote = of(metrics.store_seconds, "write").observe
        self.model_answered = of(metrics.model_seconds).observe
        self.bytes_read = of(metrics.entry_bytes, "read").inc
        self.bytes_written = of(metrics.entry_bytes, "write").inc
        self.undecodable = of(metrics.undecodable).inc
        self.open = of(metrics.store_open).set
        self._misses = 0
        self._model_seconds = 0.0

    def missed(self, model_seconds: float) -> None:
        self._misses += 1
        self._model_seconds += model_seconds

    def add_hits(self, hits: list[Outcome]) -> None:
        self.predicted["hit"](len(hits))
        self.bytes_read(sum(hit.entry_bytes for hit in hits))
        self.hit.add(hit.seconds for hit in hits)
        self.near(sum(hit.near for hit in hits))
        self.read.add(hit.store_seconds for hit in hits if not hit.near)
        if not self._misses:
            return
        mean = self._model_seconds / self._misses
        # The sum of a histogram must not decrease, so saved and lost time are separate metrics.
        saved = [mean - hit.seconds for hit in hits]
        self.saved.add(max(0.0, seconds) for seconds in saved)
        self.lost(-sum(min(0.0, seconds) for seconds in saved))


class _Metrics(Collector):
    """The metrics, and the events that are not counted yet."""

    def __init__(self) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"model_cache_{name}", text, (*_MODEL, *labels), registry=None)

        def histogram(name: str, text: str, buckets: Iterable[float], *labels: str) -> _Histogram:
            name = f"model_cache_{name}"
            return _Histogram(name, text, (*_MODEL, *labels), registry=None, buckets=tuple(buckets))

        self.predictions = counter("predictions", "Predictions, by outcome.", "outcome")
        self.near_hits = counter("near_hits", "Hits that the near cache answered.")
        self.hit_seconds = histogram("hit_seconds", "Duration of hits.", _STORE_BUCKETS)
        self.saved_seconds = histogram(
            "saved_seconds", "Model time saved by a hit, less its own; or 0.", _MODEL_BUCKETS
        )
        self.lost_seconds = counter(
            "lost_seconds", "Time that hits took beyond the model's mean time."
        )
        self.store_seconds = histogram(
            "store_seconds", "Duration of reads and writes.", _STORE_BUCKETS, "operation"
        )
        self.model_seconds = histogram("model_seconds", "Duration of model calls.", _MODEL_BUCKETS)
        self.entry_bytes = counter(
            "entry_bytes", "Bytes of entries, read by hits, and written.", "operation"
        )
        self.store_errors = counter(
            "store_errors", "Reads and writes that failed.", "operation", "kind"
        )
        self.unstored = counter(
            "unstored", "Predictions computed and not stored, by reason.", "reason"
        )
        self.undecodable = counter(
            "undecodable", "Lookups that found something that is not a valid entry."
        )
        self.store_open = Gauge(
            "model_cache_store_open",
            "1 while the circuit breaker is open, as of the last prediction.",
            _MODEL,
            registry=None,
            multiprocess_mode="livemax",
        )
        self._all: list[MetricWrapperBase] = [
            metric for metric in vars(self).values() if isinstance(metric, MetricWrapperBase)
        ]
        self._failed = False
        self._counter = BackgroundWriter(max_jobs=1, flush_seconds=_PATIENCE)
        self.after_fork()
        renew_after_fork(self)
        if _in_files():
            run_at_exit(self)

    def after_fork(self) -> None:
        """Start over: the queued events and the files belong to the parent."""
        self._events: deque[_Counted] = deque(maxlen=_MOST_KEPT)
        self._series: dict[tuple[str, str], _Series] = {}
        self._open: set[tuple[str, str]] = set()
        # Until when no other count needs to be started. A time instead of a flag, since the thread
        # that sets it may be interrupted before it starts the count.
        self._will_count_until = 0.0
        self._ends = threading.Event()
        self._in_files = _in_files()

    def series(self, model: str, version: str) -> _Series:
        if (model, version) not in self._series:
            self._series[model, version] = _Series(self, model, version)
        return self._series[model, version]

    def gather(self, event: _Counted) -> None:
        """Queue an event, quickly and without waiting for a lock."""
        self._events.append(event)
        if self._in_files:
            if time.monotonic() >= self._will_count_until:
                self._count_soon()
        elif len(self._events) >= _MOST_GATHERED and not _counting.lock.locked():
            # If the lock is held, its holder counts, or is the code that this interrupted. Acquired
            # with `with`, since an interruption after `acquire` would leave it locked for ever.
            with _counting.lock:
                self._count_some()

    def _count_soon(self) -> None:
        self._will_count_until = time.monotonic() + 4 * _GATHERING_SECONDS
        if not self._counter.submit(self._count_in_time):  # no thread; the next event tries again
            self._will_count_until = 0.0

    def _count_in_time(self) -> None:
        self._ends.wait(_GATHERING_SECONDS)
        self._will_count_until = 0.0
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
        for _ in range(0, len(self._events), _MOST_GATHERED):
            with _counting.lock:
                self._count_some()
            time.sleep(0.0001)  # let others take the lock, such as a fork

    def _count_some(self) -> None:
        hits = defaultdict(list)
        for _ in range(min(len(self._events), _MOST_GATHERED)):
            event = self._events.popleft()
            if isinstance(event, Outcome):
                if event.kind != "hit":
                    self._count_outcome(event)
                    continue
                hits[event.model, event.version].append(event)
                if self._open:
                    self._store_is(event, open=False)
            elif isinstance(event, EntryStored):
                series = self.series(event.model, event.version)
                series.wrote(event.seconds)
                series.bytes_written(event.entry_bytes)
            else:
                self._count_error(event.model, event.version, "write", event.kind)
        for (model, version), outcomes in hits.items():
            self.series(model, version).add_hits(outcomes)

    def _count_outcome(self, outcome: Outcome) -> None:
        """Count an outcome other than a hit."""
        kind, fate, error = outcome.kind, outcome.fate, outcome.store_error
        series = self.series(outcome.model, outcome.version)
        series.predicted[kind]()
        if kind in _MODEL_ANSWERED and outcome.model_seconds:
            series.model_answered(outcome.model_seconds)
        if kind == "miss":
            series.missed(outcome.model_seconds)
        if fate in series.unstored:
            series.unstored[fate]()
        if outcome.undecodable:
            series.undecodable()
        if error is not None:
            self._count_error(outcome.model, outcome.version, "read", error)
        if error == "circuit_open":
            self._store_is(outcome, open=True)
        elif outcome.store_seconds and not outcome.refreshed:
            if error is None:
                self._store_is(outcome, open=False)
            series.read.observe(outcome.store_seconds - outcome.write_seconds)

    def _count_error(self, model: str, version: str, operation: str, kind: str) -> None:
        self.store_errors.labels(model, version, operation, kind).inc()

    def _store_is(self, outcome: Outcome, *, open: bool) -> None:
        """Set the state of a model's store if it has changed."""
        name = (outcome.model, outcome.version)
        if open is not (name in self._open):
            (self._open.add if open else self._open.discard)(name)
            self.series(*name).open(float(open))

    def collect(self) -> list[Metric]:
        self.count()
        with _counting.lock:
            return [family for metric in self._all for family in metric.collect()]

    def describe(self) -> list[Metric]:
        return [family for metric in self._all for family in metric.describe()]


_made: WeakKeyDictionary[CollectorRegistry, _Metrics] = WeakKeyDictionary()
_in_all_registries: list[_Metrics] = []  # a single one, with PROMETHEUS_MULTIPROC_DIR


def _metrics(registry: CollectorRegistry) -> _Metrics:
    """Return a registry's metrics, which can be created only once."""
    with _counting.lock:
        if registry not in _made:
            # A process has one set of files, in which two sets of metrics would collide.
            metrics = _in_all_registries[0] if _in_all_registries else _Metrics()
            registry.register(metrics)
            _made[registry] = metrics
            if _in_files() and not _in_all_registries:
                _in_all_registries.append(metrics)
        return _made[registry]


def _in_files() -> bool:
    return bool(os.environ.get(_MULTIPROCESS))


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
        self._metrics = _metrics(REGISTRY if registry is None else registry)

    def __call__(self, event: Event) -> None:
        """Queue an event for counting."""
        if type(event) in _COUNTED:
            self._metrics.gather(event)  # type: ignore[arg-type]

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
        for metrics in _in_all_registries:
            metrics.count()
    return generate_latest(registry), CONTENT_TYPE_LATEST


def count_all() -> None:
    """Count the queued events, for a limited time, as at the end of a process.

    For servers that a signal ends without `atexit`. Without PROMETHEUS_MULTIPROC_DIR it does
    nothing.
    """
    for metrics in _in_all_registries:
        metrics.at_exit()


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

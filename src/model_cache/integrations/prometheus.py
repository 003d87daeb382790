"""Prometheus metrics of what the cache does: a hook that counts, and the text to be scraped.

It knows events, and nothing of the decorator. A hit takes some 20 µs of CPU, and to count it in
prometheus_client's metrics half as much again: so events are gathered, and counted together, at
the latest when somebody looks. This also keeps predictions off prometheus_client's locks: a
prediction may run in a signal handler, on top of a thread that holds one of them.

Under gunicorn each worker counts for itself; with PROMETHEUS_MULTIPROC_DIR set, prometheus_client
keeps the counts in files there, and the text is the sum of all workers. Nobody can ask another
process to count its events: each does so within a quarter of a second, in a thread of its own,
and when it ends.
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
# Whose model_seconds are those of an answer.
_MODEL_ANSWERED = ("miss", "uncacheable", "unavailable", "bypass", "off")

_Counted: TypeAlias = Outcome | EntryStored | WriteFailed
_COUNTED = frozenset(get_args(_Counted))

_MOST_GATHERED = 256  # events; to count them takes a caller 0.2 ms
# If nobody can count them, the oldest of so many are let go. They take 20 MB.
_MOST_KEPT = 65_536
_GATHERING_SECONDS = 0.25
_PATIENCE = 1.0  # seconds, at a fork and at the end


class _Counting:
    """Held by whoever counts, and during a fork. Not reentrant, as prometheus_client's locks.

    A lock of a metric here that another thread held at the fork would stay locked in the child.
    With PROMETHEUS_MULTIPROC_DIR, prometheus_client has one lock for all metrics, the app's own as
    well: a child that is forked while the app counts may find that one locked for ever. Then its
    events are not counted, and its predictions are as quick as ever, since they never count there.
    """

    def __init__(self) -> None:
        self.after_fork()
        renew_after_fork(self)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before_fork, after_in_parent=self._forked)

    def after_fork(self) -> None:
        """Make the lock anew."""
        self.lock = threading.Lock()
        self._forking: int | None = None

    def wait(self) -> None:
        """Wait for a count that is under way, within a bound."""
        if self.lock.acquire(timeout=_PATIENCE):
            self.lock.release()

    def _before_fork(self) -> None:
        # In a signal handler on top of a scrape, it would be waited for in vain.
        if self.lock.acquire(timeout=_PATIENCE):
            self._forking = threading.get_ident()

    def _forked(self) -> None:
        if self._forking == threading.get_ident():
            self._forking = None
            self.lock.release()


_counting = _Counting()

# From a read on the same host to one that `timeout` ends.
_STORE_BUCKETS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5),
)
_MODEL_BUCKETS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)


# What `_Histogram` uses of prometheus_client's Histogram, if it is there.
_PRIVATE = ("_upper_bounds", "_sum", "_buckets")


class _Histogram(Histogram):
    """A histogram that takes many values at a time."""

    def add(self, values: Iterable[float]) -> None:
        """Do what `observe` does, which takes one value and has no public counterpart for many."""
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
    """One model's part of the metrics.

    All label values that are known are there from the beginning, at zero: a counter that only
    appears with its first event hides this event from `rate()`.
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
        # The sum of a histogram must not fall, so what is saved and what is lost are apart.
        saved = [mean - hit.seconds for hit in hits]
        self.saved.add(max(0.0, seconds) for seconds in saved)
        self.lost(-sum(min(0.0, seconds) for seconds in saved))


class _Metrics(Collector):
    """The metrics, and the events that are still to be counted."""

    def __init__(self) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"model_cache_{name}", text, (*_MODEL, *labels), registry=None)

        def histogram(name: str, text: str, buckets: Iterable[float], *labels: str) -> _Histogram:
            name = f"model_cache_{name}"
            return _Histogram(name, text, (*_MODEL, *labels), registry=None, buckets=tuple(buckets))

        self.predictions = counter("predictions", "Predictions, by what came of them.", "outcome")
        self.near_hits = counter("near_hits", "Hits that the near cache answered.")
        self.hit_seconds = histogram("hit_seconds", "Time that a hit took.", _STORE_BUCKETS)
        self.saved_seconds = histogram(
            "saved_seconds", "Model time that a hit spared, less its own; or 0.", _MODEL_BUCKETS
        )
        self.lost_seconds = counter(
            "lost_seconds", "Time that hits took beyond what the model would have taken."
        )
        self.store_seconds = histogram(
            "store_seconds", "Time that a read or a write took.", _STORE_BUCKETS, "operation"
        )
        self.model_seconds = histogram(
            "model_seconds", "Time that the model took to answer.", _MODEL_BUCKETS
        )
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
            "undecodable", "Look-ups that found something that is no valid entry."
        )
        self.store_open = Gauge(
            "model_cache_store_open",
            "1 while the circuit breaker spares the store, as of the last prediction.",
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
        """Begin anew: events that were gathered are the parent's, and so are its files."""
        self._events: deque[_Counted] = deque(maxlen=_MOST_KEPT)
        self._series: dict[tuple[str, str], _Series] = {}
        self._open: set[tuple[str, str]] = set()
        # Until when nobody else needs to start a count: a time, not a flag, since whoever sets
        # it may be interrupted before the count has been started.
        self._will_count_until = 0.0
        self._ends = threading.Event()
        self._in_files = _in_files()

    def series(self, model: str, version: str) -> _Series:
        if (model, version) not in self._series:
            self._series[model, version] = _Series(self, model, version)
        return self._series[model, version]

    def gather(self, event: _Counted) -> None:
        """Take note of an event, as quickly as can be, and without waiting for any lock."""
        self._events.append(event)
        if self._in_files:
            if time.monotonic() >= self._will_count_until:
                self._count_soon()
        elif len(self._events) >= _MOST_GATHERED and not _counting.lock.locked():
            # Whoever else has the lock counts, or is the one that this interrupted. Taken by a
            # `with`, since an interruption after `acquire` would leave it locked for ever.
            with _counting.lock:
                self._count_some()

    def _count_soon(self) -> None:
        self._will_count_until = time.monotonic() + 4 * _GATHERING_SECONDS
        if not self._counter.submit(self._count_in_time):  # no thread: perhaps with the next event
            self._will_count_until = 0.0

    def _count_in_time(self) -> None:
        self._ends.wait(_GATHERING_SECONDS)
        self._will_count_until = 0.0
        try:
            self.count()
        except Exception as error:  # a full disk, or a folder that is gone
            reraise_interruption(error)
            if not self._failed:
                self._failed = True
                logger.warning("the Prometheus metrics can't be counted: %s", error)

    def at_exit(self) -> None:
        """Count what was gathered, and wait for counts that are under way, within a bound."""
        self._ends.set()
        if not self._counter.flush():
            return  # it waits for a lock that is lost since a fork
        if self._events and not self._counter.submit(self._count_in_time):
            self._count_in_time()  # too late for threads
        self._counter.flush()
        _counting.wait()  # a scrape counts, too

    def count(self) -> None:
        """Count what was gathered; never called by a prediction."""
        for _ in range(0, len(self._events), _MOST_GATHERED):
            with _counting.lock:
                self._count_some()
            time.sleep(0.0001)  # to whom waits for the lock, as a fork does

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
        """Count what is no hit."""
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
        """Set the state of a model's store, if it is another than before."""
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
_in_all_registries: list[_Metrics] = []  # one, with PROMETHEUS_MULTIPROC_DIR


def _metrics(registry: CollectorRegistry) -> _Metrics:
    """Return a registry's metrics, which can be made only once."""
    with _counting.lock:
        if registry not in _made:
            # A process has one set of files, in which two metrics would overwrite each other.
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

    Give it to the decorator by its name, `hooks=["prometheus"]`, or as an object. Any number of
    hooks and decorators share the metrics; the labels `model` and `version` tell them apart.

    Args:
        registry: where the metrics are registered; prometheus_client's own by default. With
            PROMETHEUS_MULTIPROC_DIR, all registries of a process show the same metrics.

    Raises:
        ValueError: the registry has other metrics of these names.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._registry = registry
        self._metrics = _metrics(REGISTRY if registry is None else registry)

    def __call__(self, event: Event) -> None:
        """Gather an event, to be counted."""
        if type(event) in _COUNTED:
            self._metrics.gather(event)  # type: ignore[arg-type]

    def __deepcopy__(self, memo: dict[int, Any]) -> PrometheusHook:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return PrometheusHook, () if self._registry is None else (self._registry,)


class _AllProcesses(Collector):
    """The sums over all processes, without the files that can't be read.

    A worker that is killed while it makes a file leaves it empty or cut off.
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
    except FileNotFoundError:  # cleared away meanwhile
        return False
    except Exception as error:
        reraise_interruption(error)
        if file not in _unreadable:
            _unreadable.add(file)
            logger.warning(
                "Prometheus metrics: skipping %s, which a process left incomplete (%s: %s)",
                *(file, type(error).__name__, error),
            )
        return False
    return True


def exposition() -> tuple[bytes, str]:
    """Return the metrics of the default registry, as text, and its content type.

    With PROMETHEUS_MULTIPROC_DIR in the environment, they are sums over all processes that share
    that folder; prometheus_client leaves out those of Python and of the process then. A file that
    can't be read, such as that of a worker that was killed while it made it, is skipped and logged.

    Raises:
        ValueError: PROMETHEUS_MULTIPROC_DIR is no folder.
    """
    registry = REGISTRY
    if _in_files():
        registry = CollectorRegistry()
        registry.register(_AllProcesses(os.environ[_MULTIPROCESS]))
        for metrics in _in_all_registries:
            metrics.count()
    return generate_latest(registry), CONTENT_TYPE_LATEST


def count_all() -> None:
    """Count what was gathered, within a bound, as at the end of a process.

    For servers that a signal ends without it. Without PROMETHEUS_MULTIPROC_DIR it does nothing.
    """
    for metrics in _in_all_registries:
        metrics.at_exit()


def forget_worker(pid: int) -> None:
    """Let a worker's gauges go that has ended; for gunicorn's `child_exit`.

    What it has counted stays in the sums. A file that it left incomplete, since it was killed, is
    removed: prometheus_client's own `MultiProcessCollector` would fail at it from then on. Without
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

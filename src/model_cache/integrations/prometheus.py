"""Prometheus metrics of what the cache does: a hook that counts, and the text to be scraped.

It knows events, and nothing of the decorator. A hit takes some 20 µs of CPU, and to count it in
prometheus_client's metrics half as much again: so hits are gathered, and counted together, at the
latest when somebody looks. Everything else is counted at once.

Under gunicorn each worker counts for itself; with PROMETHEUS_MULTIPROC_DIR set, prometheus_client
keeps the counts in files there, and the text is the sum of all workers. Nobody can ask another
process to count its hits: each does so within a quarter of a second.
"""

from __future__ import annotations

import atexit
import os
import threading
from bisect import bisect_left
from collections import Counter as Tally
from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Any, get_args
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

from model_cache.events import EntryStored, Event, WriteFailed
from model_cache.forks import ForkSafeLock, renew_after_fork
from model_cache.outcome import Kind, Outcome

_MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
_MODEL = ("model", "version")
_UNSTORED = ("skipped", "lossy", "too_large", "dropped")
# Whose model_seconds are those of an answer.
_MODEL_ANSWERED = ("miss", "uncacheable", "unavailable", "bypass", "off")

# Held by whoever counts, and during a fork: a lock of prometheus_client that another thread held
# at the fork would stay locked in the child, and its first prediction would hang.
_counting = ForkSafeLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_counting.__enter__,
        after_in_parent=lambda: _counting.__exit__(None, None, None),
    )

_MOST_GATHERED = 256  # hits; to count them takes a caller 0.2 ms
_GATHERING_SECONDS = 0.25

# From a read on the same host to one that `timeout` ends.
_STORE_BUCKETS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5),
)
_MODEL_BUCKETS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)


class _Histogram(Histogram):
    """A histogram that takes many values at a time."""

    def add(self, values: Iterable[float]) -> None:
        # As `observe` does, which takes one at a time and has no public counterpart for many.
        values = list(values)
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
        self.read.add(hit.store_seconds for hit in hits)
        if not self._misses:
            return
        mean = self._model_seconds / self._misses
        # The sum of a histogram must not fall, so what is saved and what is lost are apart.
        saved = [mean - hit.seconds for hit in hits]
        self.saved.add(max(0.0, seconds) for seconds in saved)
        self.lost(-sum(min(0.0, seconds) for seconds in saved))


class _Metrics(Collector):
    """The metrics in one registry, and the hits that are still to be counted."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"model_cache_{name}", text, (*_MODEL, *labels), registry=None)

        def histogram(name: str, text: str, buckets: Iterable[float], *labels: str) -> _Histogram:
            name = f"model_cache_{name}"
            return _Histogram(name, text, (*_MODEL, *labels), registry=None, buckets=tuple(buckets))

        self.predictions = counter("predictions", "Predictions, by what came of them.", "outcome")
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
        self.after_fork()
        renew_after_fork(self)
        registry.register(self)
        if _in_files():
            atexit.register(self.count_hits)

    def after_fork(self) -> None:
        """Begin anew: hits that were gathered are the parent's, and so are its files."""
        self._hits: deque[Outcome] = deque()
        self._series: dict[tuple[str, str], _Series] = {}
        self._open: set[tuple[str, str]] = set()
        self._will_count = not _in_files()

    def series(self, model: str, version: str) -> _Series:
        if (model, version) not in self._series:
            self._series[model, version] = _Series(self, model, version)
        return self._series[model, version]

    def gather(self, hit: Outcome) -> None:
        """Take note of a hit, as quickly as can be."""
        self._hits.append(hit)
        if len(self._hits) >= _MOST_GATHERED:
            self.count_hits()
        elif not self._will_count:
            self._will_count = True
            timer = threading.Timer(_GATHERING_SECONDS, self._count_in_time)
            timer.daemon = True
            try:
                timer.start()
            except RuntimeError:  # no thread can be had: then when there are enough of them
                self._will_count = False
        if self._open:
            with _counting:
                self.store_is(hit, open=False)

    def _count_in_time(self) -> None:
        self._will_count = False
        self.count_hits()

    def count_hits(self) -> None:
        """Count the hits that were gathered."""
        by_model = defaultdict(list)
        for _ in range(len(self._hits)):
            try:
                hit = self._hits.popleft()
            except IndexError:  # another thread counts, too
                break
            by_model[hit[1:3]].append(hit)
        with _counting:
            for (model, version), hits in by_model.items():
                self.series(model, version).add_hits(hits)

    def store_is(self, outcome: Outcome, *, open: bool) -> None:
        """Set the state of a model's store, if it is another than before."""
        name = (outcome.model, outcome.version)
        if open is not (name in self._open):
            (self._open.add if open else self._open.discard)(name)
            self.series(*name).open(float(open))

    def collect(self) -> list[Metric]:
        self.count_hits()
        with _counting:
            return [family for metric in self._all for family in metric.collect()]

    def describe(self) -> list[Metric]:
        return [family for metric in self._all for family in metric.describe()]


_made: WeakKeyDictionary[CollectorRegistry, _Metrics] = WeakKeyDictionary()


def _metrics(registry: CollectorRegistry) -> _Metrics:
    """Return a registry's metrics, which can be made only once."""
    with _counting:
        if registry not in _made:
            _made[registry] = _Metrics(registry)
        return _made[registry]


def _in_files() -> bool:
    return bool(os.environ.get(_MULTIPROCESS))


class PrometheusHook:
    """Counts predictions, store errors, bytes and times in Prometheus metrics.

    Give it to the decorator by its name, `hooks=["prometheus"]`, or as an object. Any number of
    hooks and decorators share the metrics; the labels `model` and `version` tell them apart.

    Args:
        registry: where the metrics are registered; prometheus_client's own by default.

    Raises:
        ValueError: the registry has other metrics of these names.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._registry = registry
        self._metrics = _metrics(REGISTRY if registry is None else registry)

    def __call__(self, event: Event) -> None:
        """Count an event."""
        if isinstance(event, Outcome):
            if event.kind == "hit":
                self._metrics.gather(event)
            else:
                with _counting:
                    self._count(event)
        elif isinstance(event, EntryStored):
            with _counting:
                series = self._metrics.series(event.model, event.version)
                series.wrote(event.seconds)
                series.bytes_written(event.entry_bytes)
        elif isinstance(event, WriteFailed):
            with _counting:
                self._count_error(event.model, event.version, "write", event.kind)

    def _count(self, outcome: Outcome) -> None:
        """Count what is no hit."""
        kind, fate, error = outcome.kind, outcome.fate, outcome.store_error
        series = self._metrics.series(outcome.model, outcome.version)
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
            self._metrics.store_is(outcome, open=True)
        elif outcome.store_seconds and not outcome.refreshed:
            if error is None:
                self._metrics.store_is(outcome, open=False)
            series.read.observe(outcome.store_seconds - outcome.write_seconds)

    def _count_error(self, model: str, version: str, operation: str, kind: str) -> None:
        self._metrics.store_errors.labels(model, version, operation, kind).inc()

    def __deepcopy__(self, memo: dict[int, Any]) -> PrometheusHook:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return PrometheusHook, () if self._registry is None else (self._registry,)


def exposition() -> tuple[bytes, str]:
    """Return the metrics of the default registry, as text, and its content type.

    With PROMETHEUS_MULTIPROC_DIR in the environment, they are sums over all processes that share
    that folder; prometheus_client leaves out those of Python and of the process then.

    Raises:
        ValueError: PROMETHEUS_MULTIPROC_DIR is no folder.
    """
    registry = REGISTRY
    if _in_files():
        for metrics in list(_made.values()):
            metrics.count_hits()
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry), CONTENT_TYPE_LATEST


def forget_worker(pid: int) -> None:
    """Let a worker's gauges go that has ended; for gunicorn's `child_exit`.

    What it has counted stays in the sums. Without PROMETHEUS_MULTIPROC_DIR it does nothing.

    Args:
        pid: the worker's process id.
    """
    if _in_files():
        mark_process_dead(pid)  # type: ignore[no-untyped-call]

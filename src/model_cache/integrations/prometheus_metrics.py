"""The Prometheus metrics themselves, and what each event adds to them.

It counts when it is called; queues, threads, forks and scrapes are the business of `prometheus`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, TypeAlias, get_args

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from model_cache.observing.events import EntryStored, HitVerified, WriteFailed, WrongHit
from model_cache.observing.outcome import Kind, Outcome

_MODEL = ("model", "version")
_UNSTORED = ("skipped", "lossy", "too_large", "dropped")
# The kinds whose model_seconds belong to an answer.
_MODEL_ANSWERED = ("miss", "uncacheable", "unavailable", "bypass", "direct", "off")

Counted: TypeAlias = Outcome | EntryStored | WriteFailed | HitVerified | WrongHit
COUNTED = frozenset(get_args(Counted))

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

    def add(self, values: Iterable[tuple[float, int]]) -> None:
        """Observe many values, each so many times; there is no public method for that."""
        values = list(values)
        if not all(hasattr(self, name) for name in _PRIVATE):
            for value, times in values:
                for _ in range(times):
                    self.observe(value)
            return
        bounds = self._upper_bounds
        self._sum.inc(sum(value * times for value, times in values))
        places: Tally[int] = Tally()
        for value, times in values:
            places[bisect_left(bounds, value)] += times
        for place, count in places.items():
            self._buckets[place].inc(count)


class _Series:
    """The metrics of one model.

    All known label values exist from the start, at zero: `rate()` misses the first event of a
    counter that only appears with it.
    """

    def __init__(self, metrics: Metrics, model: str, version: str) -> None:
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
        self.model_answered: _Histogram = of(metrics.model_seconds)
        self.bytes_read = of(metrics.entry_bytes, "read").inc
        self.bytes_written = of(metrics.entry_bytes, "write").inc
        self.undecodable = of(metrics.undecodable).inc
        self.verified = of(metrics.verified).inc
        self.wrong = of(metrics.wrong).inc
        self.open = of(metrics.store_open).set
        self.overhead = of(metrics.overhead_seconds).inc
        # Model time and number of misses: of single predictions, and of rows of batches.
        self._misses = {False: [0.0, 0], True: [0.0, 0]}

    def missed(self, outcome: Outcome) -> None:
        misses = self._misses[outcome.batch_size > 1]
        misses[0] += outcome.model_seconds * outcome.rows
        misses[1] += outcome.rows
        self.overhead(max(0.0, outcome.seconds - outcome.model_seconds) * outcome.rows)

    def add_hits(self, hits: list[Outcome]) -> None:
        self.predicted["hit"](sum(hit.rows for hit in hits))
        self.bytes_read(sum(hit.entry_bytes * hit.rows for hit in hits))
        self.hit.add((hit.seconds, hit.rows) for hit in hits)
        self.near(sum(hit.rows for hit in hits if hit.near))
        self.read.add((hit.store_seconds, hit.rows) for hit in hits if not hit.near)
        for in_batches, (seconds, misses) in self._misses.items():
            alike = [hit for hit in hits if (hit.batch_size > 1) is in_batches]
            if misses and alike:
                self._add_saved(seconds / misses, alike)

    def _add_saved(self, mean: float, hits: list[Outcome]) -> None:
        # The sum of a histogram must not decrease, so saved and lost time are separate metrics.
        saved = [(mean - hit.seconds, hit.rows) for hit in hits]
        self.saved.add((max(0.0, seconds), rows) for seconds, rows in saved)
        self.lost(-sum(min(0.0, seconds) * rows for seconds, rows in saved))


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(f"model_cache_{name}", text, (*_MODEL, *labels), registry=None)


def _histogram(name: str, text: str, buckets: Iterable[float], *labels: str) -> _Histogram:
    name = f"model_cache_{name}"
    return _Histogram(name, text, (*_MODEL, *labels), registry=None, buckets=tuple(buckets))


class Metrics:
    """The metrics of all models."""

    def __init__(self) -> None:
        self.predictions = _counter("predictions", "Predictions, by outcome.", "outcome")
        self.near_hits = _counter("near_hits", "Hits that the near cache answered.")
        self.hit_seconds = _histogram("hit_seconds", "Duration of hits.", _STORE_BUCKETS)
        self.saved_seconds = _histogram(
            "saved_seconds", "Model time saved by a hit, less its own; or 0.", _MODEL_BUCKETS
        )
        self.lost_seconds = _counter(
            "lost_seconds", "Time that hits took beyond the model's mean time."
        )
        self.overhead_seconds = _counter("overhead_seconds", "Time of misses beyond the model's.")
        self.store_seconds = _histogram(
            "store_seconds", "Duration of reads and writes.", _STORE_BUCKETS, "operation"
        )
        self.model_seconds = _histogram("model_seconds", "Duration of model calls.", _MODEL_BUCKETS)
        self.entry_bytes = _counter(
            "entry_bytes", "Bytes of entries, read by hits, and written.", "operation"
        )
        self.store_errors = _counter(
            "store_errors", "Reads and writes that failed.", "operation", "kind"
        )
        self.unstored = _counter(
            "unstored", "Predictions computed and not stored, by reason.", "reason"
        )
        self.undecodable = _counter(
            "undecodable", "Lookups that found something that is not a valid entry."
        )
        self.verified = _counter("verified", "Hits that were computed again and compared.")
        self.wrong = _counter("wrong", "Verified hits that differed from the model's answer.")
        self.store_open = Gauge(
            "model_cache_store_open",
            "1 while the circuit breaker is open, as of the last prediction.",
            _MODEL,
            registry=None,
            multiprocess_mode="livemax",
        )
        self.all: list[MetricWrapperBase] = [
            metric for metric in vars(self).values() if isinstance(metric, MetricWrapperBase)
        ]
        self.start_over()

    def start_over(self) -> None:
        """Forget the series, whose values are in another process's files."""
        self._series: dict[tuple[str, str], _Series] = {}
        self._open: set[tuple[str, str]] = set()

    def _series_of(self, model: str, version: str) -> _Series:
        if (model, version) not in self._series:
            self._series[model, version] = _Series(self, model, version)
        return self._series[model, version]

    def count(self, events: Iterable[Counted]) -> None:
        """Count events, the hits of each model together."""
        hits = defaultdict(list)
        for event in events:
            if isinstance(event, Outcome):
                if event.kind != "hit":
                    self._count_outcome(event)
                    continue
                hits[event.model, event.version].append(event)
                if self._open:
                    self._store_is(event, open=False)
            elif isinstance(event, EntryStored):
                series = self._series_of(event.model, event.version)
                series.wrote(event.seconds)
                series.bytes_written(event.entry_bytes)
            elif isinstance(event, WriteFailed):
                self._count_error(event.model, event.version, "write", event.kind)
            else:
                series = self._series_of(event.model, event.version)
                (series.wrong if isinstance(event, WrongHit) else series.verified)()
        for (model, version), outcomes in hits.items():
            self._series_of(model, version).add_hits(outcomes)

    def _count_outcome(self, outcome: Outcome) -> None:
        """Count an outcome other than a hit."""
        kind, fate, error = outcome.kind, outcome.fate, outcome.store_error
        series = self._series_of(outcome.model, outcome.version)
        series.predicted[kind](outcome.rows)
        if kind in _MODEL_ANSWERED and outcome.model_seconds:
            series.model_answered.add([(outcome.model_seconds, outcome.rows)])
        if kind == "miss":
            series.missed(outcome)
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
            self._series_of(*name).open(float(open))

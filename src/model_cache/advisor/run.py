"""One run of the advisor: read, measure, compare, advise. Ctrl-C ends it with what it has."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from ml_base.ml_model import MLModel

from model_cache.advisor.advice import Advice
from model_cache.advisor.answers import Answers, kinds_of
from model_cache.advisor.capacity import capacity_of, reuse_of, with_sizes
from model_cache.advisor.costs import Measured, NotMeasuredError, distinct, measure
from model_cache.advisor.economics import economics_of
from model_cache.advisor.entry_sizes import measure_sizes
from model_cache.advisor.findings import (
    CONFIDENCE,
    Capacity,
    Choice,
    Economics,
    EntrySizes,
    LogFacts,
    Reuse,
)
from model_cache.advisor.hashing import Keys
from model_cache.advisor.log import Log, LogBuilder
from model_cache.advisor.progress import Progress, Tell
from model_cache.advisor.reading import Reader
from model_cache.advisor.rebuilding import Rebuilder, Tables, places_of
from model_cache.advisor.recorded import Recorded, RecordedRows, notes_on
from model_cache.advisor.search import LOSSLESS, Search
from model_cache.advisor.settings import Settings
from model_cache.advisor.sources import open_source
from model_cache.advisor.trials import Bench, Option
from model_cache.advisor.verdict import verdict_of
from model_cache.binding import fitting
from model_cache.binding.decorators import layers
from model_cache.decorator import RedisCachingDecorator
from model_cache.embedded import embedded_redis
from model_cache.errors import ConfigurationError, StoreUnavailableError
from model_cache.protocols import Clock
from model_cache.words import count, percent

_TIMED_SHARE = 0.1
_MOST_TIMED = 5.0
_REASONS = 5
_FEW_REQUESTS = 100


def run(
    model: MLModel,
    requests: str | os.PathLike[str] | Iterable[Any],
    settings: Settings,
    tell: Tell,
    clock: Clock,
    cpu: Clock,
) -> Advice:
    """Return the advice; see `advise`."""
    found = Run(without_cache(model), settings, tell, clock, cpu)
    try:
        found.read(requests)
        found.look_at_reuse()
        found.measure_costs()
        found.compare()
    except KeyboardInterrupt:
        if not found.rescue():
            raise
    return found.advice()


def without_cache(model: MLModel) -> MLModel:
    """Return what is inside the innermost cache around a model; the model itself if none is."""
    if not isinstance(model, MLModel):
        hint = "; pass an instance of it" if isinstance(model, type) else ""
        raise ConfigurationError("model", f"{model!r} is not an ml-base MLModel{hint}")
    found = list(layers(model))
    caches = [at for at, layer in enumerate(found) if isinstance(layer, RedisCachingDecorator)]
    return found[caches[-1] + 1] if caches else model


@dataclass
class Run:
    """The state of a run; what is still missing is None."""

    model: MLModel
    settings: Settings
    tell: Tell
    clock: Clock
    cpu: Clock
    name: str = "requests"
    column: str | None = None
    complete: bool = True
    log: Log | None = None
    notes: list[str] = field(default_factory=list)
    sizes: EntrySizes | None = None
    measured: Measured | None = None
    search: Search | None = None
    bench: Bench | None = None
    reuse: Reuse | None = None
    capacity: list[Capacity] = field(default_factory=list)
    recorded: Recorded | None = None
    _builder: LogBuilder | None = None

    def __post_init__(self) -> None:
        self.begun = self.clock()
        self.schema = fitting.schema("input_schema", self.model)
        self.outputs = fitting.schema("output_schema", self.model)
        self.answers = Answers(self.model, self.outputs, self.clock)

    def read(self, requests: str | os.PathLike[str] | Iterable[Any]) -> None:
        """Read the log into columns."""
        self._builder = LogBuilder(self.schema)
        begun = self.clock()
        with ExitStack() as stack:
            source = open_source(
                requests, self.schema, self.settings, stack, self.model.qualified_name
            )
            if isinstance(source, RecordedRows):
                self.recorded = source.recorded
            self.name = source.name
            needs_times = self.settings.time_column is not None
            for batch in Reader(source, needs_times).batches():
                self._builder.add(batch)
                rate = self._builder.count / max(1e-9, self.clock() - begun)
                note = f"{count(self._builder.count, 'request')}, {rate:,.0f} per second"
                self.tell(Progress("reading", batch.done, source.total, note))
            self.column = source.time_column
        self.log = self._builder.finish(self.recorded)

    def look_at_reuse(self) -> None:
        """Find out how much repeats, and what that takes."""
        assert self.log is not None
        self.rebuilder = Rebuilder(self.log)
        self.tables = Tables(self.rebuilder)
        self.keys = Keys(self.log, self.tables)
        self.bench = Bench(
            self.keys, len(self.log), self.rebuilder, self.answers, self.settings.random
        )
        keys = self.bench.keys(Option())
        self.reuse = reuse_of(keys, self.log.times, self.log.sample)
        self.capacity = [capacity_of("as it is", keys, self.log.times, self.log.sample)]

    def measure_costs(self) -> None:
        """Time the model, hits and misses, and weigh entries."""
        assert self.bench is not None
        assert self.reuse is not None
        seconds = min(_MOST_TIMED, _TIMED_SHARE * self.settings.budget)
        self.tell(Progress("measuring", 0, None, "hits and misses on an embedded server"))
        try:
            with embedded_redis() as url:
                inputs = distinct(self.bench.inputs(1_000))
                self.measured = measure(self.model, inputs, url, seconds, self.clock, self.cpu)
                self.sizes = measure_sizes(
                    self.model,
                    self.measured.inputs,
                    self.measured.predictions,
                    self.reuse.distinct.value,
                    url,
                    self.settings.random,
                )
        except (NotMeasuredError, ConfigurationError, StoreUnavailableError) as error:
            self.notes.append(f"Costs were not measured: {error}.")

    def compare(self) -> None:
        """Compare choices within the budget."""
        assert self.log is not None
        assert self.bench is not None
        if not self.rebuilder.is_faithful():
            self.notes.append(
                "Inputs can't be built again from their fields, so choices were not compared."
            )
            return
        end = self.clock() + self.settings.budget
        levels = self._levels()
        if not self.bench.prepare(100):
            self.notes.append(
                "The model answered no sampled request, so choices can't be compared."
            )
            return
        budget = self.settings.budget

        def show(trials: int) -> None:
            spent = min(budget, budget - (end - self.clock()))
            self.tell(Progress("comparing", spent, budget, count(trials, "choice")))

        self.search = Search(
            self.bench, levels, self.settings.tolerance, lambda: end - self.clock(), show
        )
        self.search.run(self.answers.each)
        if self.search.is_cut:
            self.notes.append("The budget ended before all choices were compared.")
        self._look_at_recommended()

    def _levels(self) -> dict[str, list[int]]:
        """Return the numbers of places to try, for each field that may be left out.

        A field with the same value in all requests makes no difference to their keys.
        """
        assert self.log is not None
        levels = {}
        for field_, column in zip(self.log.fields, self.log.columns, strict=True):
            left_out = not column.path or column.path in self.log.left_out
            if left_out or column.distinct < 2:
                continue
            sensible = places_of(column) if field_.may_round else []
            levels[column.path] = [
                places for places in sensible if self.tables.find(column, places) is not None
            ]
            if sensible and not levels[column.path]:
                self.notes.append(
                    f"Rounding {column.path} was not tried, because it has too many different "
                    "values."
                )
        return levels

    def _look_at_recommended(self) -> None:
        assert self.log is not None
        assert self.search is not None
        assert self.bench is not None
        best = self.search.recommended()
        if best is not None and best != Option():
            label = self.search.trials[best].choice().label
            keys = self.bench.keys(best)
            self.capacity.append(capacity_of(label, keys, self.log.times, self.log.sample))

    def rescue(self) -> bool:
        """After Ctrl-C, finish what takes no time; return whether there is anything to tell."""
        self.complete = False
        if self.log is None and self._builder is not None:
            self.log = self._builder.finish(self.recorded)
        if self.log is None:
            return False
        if self.reuse is None:
            self.look_at_reuse()
        if self.search is not None and len(self.capacity) == 1:
            self._look_at_recommended()
        return True

    def advice(self) -> Advice:
        """Return what was found out."""
        choices, place = self.search.choices() if self.search else ([], None)
        best = None if place is None else choices[place]
        facts = self._facts()
        economics = self._economics(best, facts.per_second)
        verdict, sentence = verdict_of(
            self.reuse, best, economics, choices, self.settings.tolerance
        )
        has_numbers = self.bench is None or self.bench.has_numbers
        numbers, labels = kinds_of(self.outputs, has_numbers=has_numbers)
        return Advice(
            model=self.model.qualified_name,
            version=self.model.version,
            complete=self.complete,
            notes=(*self.notes, *self._unproven_notes(), *self._more_notes()),
            verdict=verdict,
            sentence=sentence,
            confidence=CONFIDENCE,
            tolerance=self.settings.tolerance,
            unit_fields=numbers,
            label_fields=labels,
            log=facts,
            reuse=self.reuse,
            choices=tuple(choices),
            recommended=place,
            capacity=tuple(with_sizes(each, self.sizes) for each in self.capacity),
            sizes=self.sizes,
            economics=economics,
            seconds=self.clock() - self.begun,
        )

    def _economics(self, best: Choice | None, per_second: float | None) -> Economics | None:
        if self.measured is None:
            return None
        assert self.reuse is not None
        exact = self.reuse.hit_ratio.value
        return economics_of(
            self.measured.costs,
            exact,
            exact if best is None else best.hit_ratio.value,
            per_second,
            self.settings.price_per_hour,
        )

    def _facts(self) -> LogFacts:
        log = self.log
        assert log is not None
        duration = log.duration
        rate = log.sample.requests / duration if duration else None
        return LogFacts(
            source=self.name,
            requests=len(log),
            bad=log.bad.total(),
            bad_reasons=dict(log.bad.most_common(_REASONS)),
            failed=self.answers.failures.total(),
            failures=dict(self.answers.failures.most_common(_REASONS)),
            sampled=self.answers.asked,
            time_column=self.column if log.times is not None else None,
            first=None if log.times is None else float(log.times[0]),
            seconds=duration,
            per_second=rate,
            fields={column.path: column.distinct for column in log.columns if column.path},
            share=log.sample.share,
            traffic=log.sample.requests,
            left_out=log.left_out,
        )

    def _unproven_notes(self) -> list[str]:
        trial = self.search.unproven() if self.search else None
        if trial is None or self.bench is None:
            return []
        changes = trial.changes
        remedy = "a longer log" if self.bench.most < LOSSLESS else "a larger budget"
        return [
            f"Not recommended yet: {trial.choice().label}, {percent(trial.hit_ratio.value)} hits. "
            f"It changed none of {count(changes.sampled, 'answer')}, but {LOSSLESS:,} requests "
            f"must be compared: use {remedy}."
        ]

    def _notes_on_doubts(self) -> Iterator[str]:
        assert self.log is not None
        number = self.log.sample.requests
        if number < _FEW_REQUESTS:
            yield f"The log has only {count(number, 'request')}, so the advice is not reliable."
        if self.measured is not None:
            answers = self.measured.inputs, self.measured.predictions
            different, of = self.answers.differing(*answers)
            if different:
                yield (
                    f"The model answered {different:,} of {count(of, 'request')} differently when "
                    "it was asked again. A cache gives the first answer again."
                )

    def _more_notes(self) -> list[str]:
        assert self.log is not None
        notes = [
            f"{name or 'undeclared fields'}: {count(number, 'value has', 'values have')} no "
            "canonical form. Requests with such values never hit."
            for name, number in self.log.uncacheable.items()
        ]
        sample = self.log.sample
        if sample.share < 1.0:
            notes.append(
                f"Read were all requests of {sample.share:.4g} of the inputs: {len(self.log):,} of "
                f"{sample.requests:,} requests. Hit ratios of choices that round or ignore fields "
                "are estimated from how many of these inputs fall together. Changes of the answers "
                "are those of these inputs."
            )
        if self.bench is not None and self.bench.failing:
            share = percent(self.bench.failing)
            notes.append(
                f"The model raised for {share} of the sampled requests. Errors are not cached, but "
                "the hit ratios count these requests, too, if they repeat."
            )
        notes += self._notes_on_doubts()
        if self.recorded is not None:
            notes += notes_on(self.recorded, self.schema)
        if not self.log.duration:
            times = "no times" if self.log.times is None else "only one time"
            where = "log" if self.column is None else f"column {self.column}"
            notes.append(f"The {where} has {times}, so there is no TTL curve and no rate.")
        if self.bench is not None and self.bench.unknown:
            notes.append(
                f"{count(self.bench.unknown, 'sampled request')} could not be built again, because "
                "a field has too many different values."
            )
        return notes

"""One run of the advisor: read, measure, compare, advise. Ctrl-C ends it with what it has."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from ml_base.ml_model import MLModel

from model_cache.advisor.advice import Advice
from model_cache.advisor.answers import Answers, kinds_of
from model_cache.advisor.capacity import capacity_of, reuse_of
from model_cache.advisor.costs import Measured, NotMeasuredError, Stopwatch, distinct, measure
from model_cache.advisor.economics import economics_of
from model_cache.advisor.entry_sizes import measure_sizes
from model_cache.advisor.findings import (
    CONFIDENCE,
    Capacity,
    Choice,
    Economics,
    EntrySizes,
    LogFacts,
)
from model_cache.advisor.log import Log, LogBuilder
from model_cache.advisor.progress import Progress, Tell
from model_cache.advisor.reading import Reader
from model_cache.advisor.rebuilding import places_of
from model_cache.advisor.recorded import notes_on
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
) -> Advice:
    """Return the advice; see `advise`."""
    found = Run(without_cache(model), settings, tell)
    study: Study | None = None
    try:
        study = Study(found, found.read(requests))
        study.measure_costs()
        study.compare()
    except KeyboardInterrupt:
        study = study or Study(found, found.read_so_far())
        study.complete = False
    return study.advice()


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
    """One run of the advisor: its model, its settings, and the log that it reads."""

    model: MLModel
    settings: Settings
    tell: Tell
    _builder: LogBuilder | None = None
    _log: Log | None = None

    def __post_init__(self) -> None:
        self.watch = Stopwatch()
        self.begun = self.watch.clock()
        self.schema = fitting.schema("input_schema", self.model)
        self.outputs = fitting.schema("output_schema", self.model)

    def read(self, requests: str | os.PathLike[str] | Iterable[Any]) -> Log:
        """Read the log into columns."""
        begun = self.watch.clock()
        with ExitStack() as stack:
            source = open_source(
                requests, self.schema, self.settings, stack, self.model.qualified_name
            )
            self._builder = builder = LogBuilder(source)
            for batch in Reader(source, self.settings.time_column is not None).batches():
                builder.add(batch)
                rate = builder.count / max(1e-9, self.watch.clock() - begun)
                note = f"{count(builder.count, 'request')}, {rate:,.0f} per second"
                self.tell(Progress("reading", batch.done, source.total, note))
        return self.read_so_far()

    def read_so_far(self) -> Log:
        """Return the log as far as it was read; raise `KeyboardInterrupt` if nothing was."""
        if self._log is None:
            if self._builder is None or not self._builder.count:
                raise KeyboardInterrupt
            self._log, self._builder = self._builder.finish(), None
        return self._log


class Study:
    """The findings about a log.

    Attributes:
        log: the log.
        bench: tries choices.
        reuse: how many requests repeat, without rounding or ignoring fields.
        sizes: the memory of entries; None if it was not measured.
        complete: whether the study was not interrupted.
    """

    def __init__(self, run: Run, log: Log) -> None:
        self.log = log
        self.complete = True
        self.sizes: EntrySizes | None = None
        self._run = run
        self._settings = run.settings
        self._notes: list[str] = []
        self._measured: Measured | None = None
        self._search: Search | None = None
        self._answers = Answers(run.model, run.outputs, run.watch.clock)
        self.bench = Bench(log, self._answers, self._settings.random)
        self.reuse = reuse_of(self.bench.keys(Option()), log.times, log.sample)

    def measure_costs(self) -> None:
        """Time the model, hits and misses, and weigh entries."""
        run, seconds = self._run, min(_MOST_TIMED, _TIMED_SHARE * self._settings.budget)
        run.tell(Progress("measuring", 0, None, "hits and misses on an embedded server"))
        try:
            with embedded_redis() as url:
                inputs = distinct(self.bench.inputs(1_000))
                self._measured = measure(run.model, inputs, url, seconds, run.watch)
                self.sizes = measure_sizes(
                    run.model,
                    self._measured,
                    self.reuse.distinct.value,
                    url,
                    self._settings.random,
                )
        except (NotMeasuredError, ConfigurationError, StoreUnavailableError) as error:
            self._notes.append(f"Costs were not measured: {error}.")

    def compare(self) -> None:
        """Compare choices within the budget."""
        if not self.bench.rebuilder.is_faithful():
            self._notes.append(
                "Inputs can't be built again from their fields, so choices were not compared."
            )
            return
        clock, budget = self._run.watch.clock, self._settings.budget
        end = clock() + budget
        levels = self._levels()
        if not self.bench.prepare(100):
            self._notes.append(
                "The model answered no sampled request, so choices can't be compared."
            )
            return

        def show(trials: int) -> None:
            spent = min(budget, budget - (end - clock()))
            self._run.tell(Progress("comparing", spent, budget, count(trials, "choice")))

        tolerance = self._settings.tolerance
        self._search = Search(self.bench, levels, tolerance, lambda: end - clock(), show)
        self._search.run(self._answers.each)
        if self._search.is_cut:
            self._notes.append("The budget ended before all choices were compared.")

    def _levels(self) -> dict[str, list[int]]:
        """Return the numbers of places to try, for each field that may be left out.

        A field with the same value in all requests makes no difference to their keys.
        """
        levels = {}
        for field, column in zip(self.log.fields, self.log.columns, strict=True):
            left_out = not column.path or column.path in self.log.left_out
            if left_out or column.distinct < 2:
                continue
            sensible = places_of(column) if field.may_round else []
            levels[column.path] = [
                places for places in sensible if self.bench.tables.find(column, places) is not None
            ]
            if sensible and not levels[column.path]:
                self._notes.append(
                    f"Rounding {column.path} was not tried, because it has too many different "
                    "values."
                )
        return levels

    def capacity(self, label: str, option: Option) -> Capacity:
        """Return how the hit ratio of a choice depends on memory and TTL."""
        keys = self.bench.keys(option)
        return capacity_of(label, keys, self.log.times, self.log.sample, self.sizes)

    def advice(self) -> Advice:
        """Return what was found out."""
        run, tolerance = self._run, self._settings.tolerance
        choices, place = self._search.choices() if self._search else ([], None)
        best = None if place is None else choices[place]
        facts = self._facts()
        economics = self._economics(best, facts.per_second)
        verdict, sentence = verdict_of(self.reuse, best, economics, choices, tolerance)
        numbers, labels = kinds_of(run.outputs, has_numbers=self.bench.has_numbers)
        capacity = [self.capacity("as it is", Option())]
        if best is not None and not best.is_exact:
            capacity.append(self.capacity(best.label, Option.of(best)))
        return Advice(
            model=run.model.qualified_name,
            version=run.model.version,
            complete=self.complete,
            notes=(*self._notes, *self._more_notes()),
            verdict=verdict,
            sentence=sentence,
            confidence=CONFIDENCE,
            tolerance=tolerance,
            unit_fields=numbers,
            label_fields=labels,
            log=facts,
            reuse=self.reuse,
            choices=tuple(choices),
            recommended=place,
            capacity=tuple(capacity),
            sizes=self.sizes,
            economics=economics,
            seconds=run.watch.clock() - run.begun,
        )

    def _economics(self, best: Choice | None, per_second: float | None) -> Economics | None:
        if self._measured is None:
            return None
        exact = self.reuse.hit_ratio.value
        return economics_of(
            self._measured.costs,
            exact,
            exact if best is None else best.hit_ratio.value,
            per_second,
            self._settings.price_per_hour,
        )

    def _facts(self) -> LogFacts:
        log, failures = self.log, self._answers.failures
        duration = log.duration
        rate = log.sample.requests / duration if duration else None
        return LogFacts(
            source=log.source.name,
            requests=len(log),
            bad=log.bad.total(),
            bad_reasons=dict(log.bad.most_common(_REASONS)),
            failed=failures.total(),
            failures=dict(failures.most_common(_REASONS)),
            sampled=self._answers.asked,
            time_column=log.source.time_column if log.times is not None else None,
            first=None if log.times is None else float(log.times[0]),
            seconds=duration,
            per_second=rate,
            fields={column.path: column.distinct for column in log.columns if column.path},
            share=log.sample.share,
            traffic=log.sample.requests,
            left_out=log.left_out,
        )

    def _more_notes(self) -> Iterator[str]:
        yield from self._notes_on_choices()
        yield from self._notes_on_the_log()
        yield from self._notes_on_the_model()
        if self.log.source.recorded is not None:
            yield from notes_on(self.log.source.recorded, self._run.schema)
        if not self.log.duration:
            times = "no times" if self.log.times is None else "only one time"
            column = self.log.source.time_column
            where = "log" if column is None else f"column {column}"
            yield f"The {where} has {times}, so there is no TTL curve and no rate."
        if self.bench.unknown:
            yield (
                f"{count(self.bench.unknown, 'sampled request')} could not be built again, because "
                "a field has too many different values."
            )

    def _notes_on_choices(self) -> Iterator[str]:
        trial = self._search.unproven() if self._search else None
        if trial is not None:
            changes = trial.changes
            remedy = "a longer log" if self.bench.most < LOSSLESS else "a larger budget"
            yield (
                f"Not recommended yet: {trial.choice().label}, {percent(trial.hit_ratio.value)} "
                f"hits. It changed none of {count(changes.sampled, 'answer')}, but {LOSSLESS:,} "
                f"requests must be compared: use {remedy}."
            )

    def _notes_on_the_log(self) -> Iterator[str]:
        log, sample = self.log, self.log.sample
        for name, number in log.uncacheable.items():
            yield (
                f"{name or 'undeclared fields'}: {count(number, 'value has', 'values have')} no "
                "canonical form. Requests with such values never hit."
            )
        if sample.share < 1.0:
            yield (
                f"The advisor read all requests of {sample.share:.4g} of the inputs: {len(log):,} "
                f"of {sample.requests:,} requests. Hit ratios of choices that round or ignore "
                "fields are estimated from how many of these inputs become equal. Changes of the "
                "answers are measured on these inputs."
            )

    def _notes_on_the_model(self) -> Iterator[str]:
        if self.bench.failing:
            yield (
                f"The model raised for {percent(self.bench.failing)} of the sampled requests. "
                "Errors are not cached, but the hit ratios count these requests, too, if they "
                "repeat."
            )
        if self.log.sample.requests < _FEW_REQUESTS:
            requests = count(self.log.sample.requests, "request")
            yield f"The log has only {requests}, so the advice is not reliable."
        if self._measured is not None:
            measured = self._measured
            different, of = self._answers.differing(measured.inputs, measured.predictions)
            if different:
                yield (
                    f"The model answered {different:,} of {count(of, 'request')} differently when "
                    "it was asked again. A cache gives the first answer again."
                )

"""The article's first experiments: times and sizes, measured.

Variants are interleaved request by request, in changing order, so that a temporary load on the
machine affects all of them alike. `report` and `chart` show the results.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol, TypeAlias, TypeVar

from examples.demo.answers import (
    Answers,
    KnownModel,
    facts,
)
from examples.demo.server import Cache, Server, Usage
from examples.insurance_charges.generator import random_inputs
from examples.insurance_charges.model import InsuranceChargesModel
from examples.insurance_charges.schemas import InsuranceChargesModelInput

T = TypeVar("T")
Nanoseconds: TypeAlias = dict[str, list[int]]

ARTICLE = "article's code"
FORMATS: Mapping[str, Mapping[str, Any]] = {
    "JSON": {"serder": "JSON"},
    "MessagePack": {"serder": "MessagePack"},
    "JSON + snappy": {"serder": "JSON", "use_compression": True},
    "MessagePack + snappy": {"serder": "MessagePack", "use_compression": True},
}
"""The options of each cache by name, in the article's order. The last is not in the article."""

_FIRST = next(iter(FORMATS))
_ALONE = "model alone"
WARM_ROUNDS = 3
"""How often each sample is repeated."""

_SEED = 1


class Track(Protocol):
    """Shows the progress of a loop."""

    def __call__(self, title: str, items: Sequence[T]) -> Iterable[T]:
        """Yield the items."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of the experiments.

    Attributes:
        samples: requests to time everything with, except three of the empty caches.
        every: use only every n-th sample for those three, which would otherwise take minutes.
        requests: random requests for the rounding experiment.
        seconds: the time limit of the samples that call the model; on a slow or busy machine,
            there are fewer samples.
        checks: inputs of each precision for which to compare the batch of answers with the model.
    """

    samples: int = 1_000
    every: int = 10
    seconds: float = 60.0
    requests: int = 10_000
    checks: int = 70


@dataclass(frozen=True)
class Timed:
    """One cache in the first experiments: median milliseconds per prediction.

    Attributes:
        cold_ms: with the empty cache.
        cold_samples: the number of predictions in `cold_ms`.
        warm_ms: with the filled cache.
        usage: the filled cache's use of Redis.
        wrong: how many warm answers were not the model's.
    """

    cold_ms: float
    cold_samples: int
    warm_ms: float
    usage: Usage
    wrong: int


@dataclass(frozen=True)
class Times:
    """The results of the first experiments.

    Attributes:
        model_ms: median milliseconds per prediction of the model alone.
        planned: the planned number of samples.
        samples: the number of samples within the time limit.
        caches: the caches by name, the article's own last.
    """

    model_ms: float
    planned: int
    samples: int
    caches: Mapping[str, Timed]


def time_caches(server: Server, model: InsuranceChargesModel, sizes: Sizes, track: Track) -> Times:
    """Run the article's first experiments: the model alone, empty caches, filled caches."""
    samples = random_inputs(sizes.samples, _SEED)
    caches: dict[str, Cache] = {
        name: server.our_cache(model, **options) for name, options in FORMATS.items()
    }
    caches[ARTICLE] = server.article_cache(model)

    cold, answers = _time_cold(model, caches, samples, sizes, track)
    samples = samples[: len(cold[_ALONE])]
    for cache in caches.values():  # fill those that got only some samples
        with warnings.catch_warnings():
            # It replaces the model on purpose.
            warnings.filterwarnings("ignore", "two models share cache entries")
            cache.set_model(KnownModel(model, answers))
        for data in samples:
            cache.predict(data)
    warm, wrong = _time_warm(caches, samples, answers, track)
    return Times(
        model_ms=_milliseconds(cold[_ALONE]),
        planned=sizes.samples,
        samples=len(samples),
        caches={
            name: Timed(
                cold_ms=_milliseconds(cold[name]),
                cold_samples=len(cold[name]),
                warm_ms=_milliseconds(warm[name]),
                usage=server.usage(cache),
                wrong=wrong[name],
            )
            for name, cache in caches.items()
        },
    )


def _time_cold(
    model: InsuranceChargesModel,
    caches: Mapping[str, Cache],
    samples: Sequence[InsuranceChargesModelInput],
    sizes: Sizes,
    track: Track,
) -> tuple[Nanoseconds, Answers]:
    """Time the model, our first cache and the article's; the others with fewer samples."""
    predictors: dict[str, Callable[[InsuranceChargesModelInput], Any]]
    predictors = {_ALONE: model.predict} | {name: c.predict for name, c in caches.items()}
    times: Nanoseconds = {name: [] for name in predictors}
    answers = {}
    deadline = time.perf_counter() + sizes.seconds
    for place, data in enumerate(track("model alone, and empty caches", samples)):
        if place > 0 and time.perf_counter() > deadline:
            break
        names = list(predictors) if place % sizes.every == 0 else [_ALONE, _FIRST, ARTICLE]
        for name in _rotated(names, place):
            started = time.perf_counter_ns()
            answer = predictors[name](data)
            times[name].append(time.perf_counter_ns() - started)
            if name == _ALONE:
                answers[facts(data)] = answer
    return times, answers


def _time_warm(
    caches: Mapping[str, Cache],
    samples: Sequence[InsuranceChargesModelInput],
    answers: Answers,
    track: Track,
) -> tuple[Nanoseconds, Mapping[str, int]]:
    times: Nanoseconds = {name: [] for name in caches}
    wrong = dict.fromkeys(caches, 0)
    for place, data in enumerate(track("filled caches", list(samples) * WARM_ROUNDS)):
        for name in _rotated(list(caches), place):
            started = time.perf_counter_ns()
            answer = caches[name].predict(data)
            times[name].append(time.perf_counter_ns() - started)
            wrong[name] += answer != answers[facts(data)]
    return times, wrong


def _rotated(names: list[str], by: int) -> list[str]:
    start = by % len(names)
    return names[start:] + names[:start]


def _milliseconds(nanoseconds: Sequence[int]) -> float:
    return median(nanoseconds) / 1e6

"""What a prediction, a hit and a miss cost, measured on this machine with a real server.

The server is an embedded one on a unix socket: the network between a service and its Redis adds
its round trip to each hit and each miss.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, NamedTuple, TypeVar

from ml_base.ml_model import MLModel
from pydantic import BaseModel

from model_cache.advisor.findings import Costs
from model_cache.decorator import RedisCachingDecorator
from model_cache.errors import ConfigurationError, NotCacheableError
from model_cache.interruptions import reraise_interruption
from model_cache.keys.canonical import INPUTS
from model_cache.protocols import Clock

_FEWEST, _MOST = 100, 300
_BATCH = 200
_TIMEOUT = 5.0

T = TypeVar("T")


class NotMeasuredError(Exception):
    """The costs can't be measured; the message says why."""


@dataclass(frozen=True)
class Measured:
    """The costs, and what they were measured with.

    Attributes:
        costs: the costs.
        inputs: the inputs.
        predictions: the model's predictions for them.
    """

    costs: Costs
    inputs: list[BaseModel]
    predictions: list[Any]


class _Recorded(MLModel):  # type: ignore[misc]  # ml-base is untyped
    """Answers as another model has answered, at no cost."""

    display_name = description = "recorded"

    def __init__(self, model: MLModel, answers: dict[int, Any]) -> None:
        self._model = model
        self._answers = answers

    @property
    def qualified_name(self) -> Any:
        return self._model.qualified_name

    @property
    def version(self) -> Any:
        return self._model.version

    @property
    def input_schema(self) -> Any:
        return self._model.input_schema

    @property
    def output_schema(self) -> Any:
        return self._model.output_schema

    def predict(self, data: Any) -> Any:
        return self._answers[id(data)]


class Stopwatch(NamedTuple):
    """Times calls.

    Attributes:
        clock: the time, in seconds.
        cpu: the CPU time of this process, in seconds.
    """

    clock: Clock = time.perf_counter
    cpu: Clock = time.process_time

    def call(self, function: Callable[[Any], T], data: Any) -> tuple[T, float, float]:
        """Return the result of a call, its time, and its CPU time."""
        spent, begun = self.cpu(), self.clock()
        found = function(data)
        return found, self.clock() - begun, self.cpu() - spent

    def calls(
        self,
        function: Callable[[Any], Any],
        inputs: Sequence[Any],
        before: Callable[[Any], Any] | None = None,
    ) -> tuple[float, float]:
        """Return the median time and the mean CPU time of calls; `before` is not timed."""
        wall, on_cpu = [], []
        for data in inputs:
            if before is not None:
                before(data)
            _, seconds, spent = self.call(function, data)
            wall.append(seconds)
            on_cpu.append(spent)
        return statistics.median(wall), statistics.fmean(on_cpu)


def measure(
    model: MLModel, inputs: Sequence[BaseModel], url: str, seconds: float, watch: Stopwatch
) -> Measured:
    """Return what predictions cost.

    Args:
        model: the model, without a cache.
        inputs: inputs from the log, with different keys.
        url: an empty server.
        seconds: how long the model may be timed.
        watch: times calls.

    Raises:
        NotMeasuredError: the model answers none of the inputs, or its predictions can't be cached.
    """
    asked, answers, wall, on_cpu = _time_model(model, inputs, seconds, watch)
    recorded = _Recorded(model, {id(data): each for data, each in zip(asked, answers, strict=True)})
    overhead, _ = watch.calls(recorded.predict, asked)
    (miss, miss_cpu), (hit, hit_cpu) = _time_cache(recorded, asked, url, watch)
    costs = Costs(
        model=statistics.fmean(wall),
        model_cpu=statistics.fmean(on_cpu),
        model_batch=_time_batch(model, asked, watch),
        hit=hit,
        hit_cpu=hit_cpu,
        miss=max(0.0, miss - overhead),
        miss_cpu=miss_cpu,
        near_hit=_near_hit(recorded, asked, url, watch),
        sampled=len(asked),
    )
    return Measured(costs, asked, answers)


def _time_cache(
    model: MLModel, inputs: list[BaseModel], url: str, watch: Stopwatch
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return what a miss and a hit cost."""
    with _cache(model, url) as cache:
        cache.predict(inputs[0])  # connects
        cache.purge()
        timed = _repeated(inputs)
        is_repeated = len({id(data) for data in timed}) < len(timed)
        miss = watch.calls(cache.predict, timed, cache.forget if is_repeated else None)
        hit = watch.calls(cache.predict, timed)
        if cache.stats().hits < len(timed) // 2:
            raise NotMeasuredError("the model's predictions, or the inputs, can't be cached")
    return miss, hit


def _repeated(inputs: Sequence[BaseModel]) -> list[BaseModel]:
    """Return inputs, again and again if there are few: one alone says little about the time."""
    return [*islice(cycle(inputs), max(len(inputs), _FEWEST))]


def _cache(model: MLModel, url: str, **options: Any) -> RedisCachingDecorator:
    cache = RedisCachingDecorator(url=url, timeout=_TIMEOUT, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a model that is not to be cached yet
        return cache.set_model(model)


def _time_model(
    model: MLModel, inputs: Sequence[BaseModel], seconds: float, watch: Stopwatch
) -> tuple[list[BaseModel], list[Any], list[float], list[float]]:
    """Return inputs, their answers, and the time and the CPU time of each."""

    def attempt(data: BaseModel) -> tuple[Any, Exception | None]:
        try:
            return model.predict(data), None
        except Exception as error:
            reraise_interruption(error)
            return None, error

    failures = [attempt(data)[1] for data in inputs[:2]]  # untimed, since they may load files
    started, timed = watch.clock(), []
    for data in _repeated(inputs[:_MOST]):
        (answer, failure), wall, on_cpu = watch.call(attempt, data)
        failures.append(failure)
        if failure is None:
            timed.append((data, answer, wall, on_cpu))
        if watch.clock() - started > seconds:
            break
    if not timed:
        first = next(filter(None, failures), None)
        what = f"{type(first).__name__}: {first}" if first else "there are none"
        raise NotMeasuredError(f"the model answers none of the sampled requests ({what})")
    asked, answers, walls, on_cpus = map(list, zip(*timed, strict=True))
    return asked, answers, walls, on_cpus


def _time_batch(model: MLModel, inputs: list[BaseModel], watch: Stopwatch) -> float | None:
    if not callable(getattr(type(model), "predict_many", None)):
        return None
    batch = inputs[:_BATCH]
    try:
        _, seconds, _ = watch.call(lambda each: list(model.predict_many(each)), batch)
    except Exception as error:
        reraise_interruption(error)
        return None
    return seconds / len(batch)


def _near_hit(model: MLModel, inputs: list[BaseModel], url: str, watch: Stopwatch) -> float | None:
    try:
        cache = _cache(model, url, near_cache=10 * _MOST)
    except ConfigurationError:  # the extra is not installed
        return None
    with cache:
        for data in inputs:
            cache.predict(data)
        return watch.calls(cache.predict, _repeated(inputs))[0]


def distinct(inputs: Sequence[BaseModel]) -> list[BaseModel]:
    """Return inputs with different keys; those without a key are left out."""
    found: dict[bytes, BaseModel] = {}
    for data in inputs:
        try:
            found.setdefault(INPUTS.encode(data), data)
        except NotCacheableError:
            continue
    return [*found.values()]

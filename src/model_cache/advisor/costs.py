"""What a prediction, a hit and a miss cost, measured on this machine with a real server.

The server is an embedded one on a unix socket: the network between a service and its Redis adds
its round trip to each hit and each miss.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, NamedTuple

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


def measure(
    model: MLModel, inputs: Sequence[BaseModel], url: str, seconds: float, clock: Clock, cpu: Clock
) -> Measured:
    """Return what predictions cost.

    Args:
        model: the model, without a cache.
        inputs: inputs from the log, with different keys.
        url: an empty server.
        seconds: how long the model may be timed.
        clock: the time, in seconds.
        cpu: the CPU time of this process, in seconds.

    Raises:
        NotMeasuredError: the model answers none of the inputs, or its predictions can't be cached.
    """
    asked, answers, wall, on_cpu = _time_model(model, inputs, seconds, clock, cpu)
    recorded = _Recorded(model, {id(data): each for data, each in zip(asked, answers, strict=True)})
    overhead = _timed(recorded.predict, asked, clock, cpu)
    miss, hit = _time_cache(recorded, asked, url, clock, cpu)
    costs = Costs(
        model=statistics.fmean(wall),
        model_cpu=on_cpu / len(asked),
        model_batch=_time_batch(model, asked, clock),
        hit=hit.wall,
        hit_cpu=hit.cpu,
        miss=max(0.0, miss.wall - overhead.wall),
        miss_cpu=miss.cpu,
        near_hit=_near_hit(recorded, asked, url, clock, cpu),
        sampled=len(asked),
    )
    return Measured(costs, asked, answers)


class _Timed(NamedTuple):
    """The median of the time, and the mean of the CPU time, in seconds."""

    wall: float
    cpu: float


def _time_cache(
    model: MLModel, inputs: list[BaseModel], url: str, clock: Clock, cpu: Clock
) -> tuple[_Timed, _Timed]:
    """Return what a miss and a hit cost."""
    with _cache(model, url) as cache:
        cache.predict(inputs[0])  # connects
        cache.purge()
        timed = _repeated(inputs)
        is_repeated = len({id(data) for data in timed}) < len(timed)
        miss = _timed(cache.predict, timed, clock, cpu, cache.forget if is_repeated else None)
        hit = _timed(cache.predict, timed, clock, cpu)
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


def _timed(
    predict: Callable[[Any], Any],
    inputs: Sequence[Any],
    clock: Clock,
    cpu: Clock,
    before: Callable[[Any], Any] | None = None,
) -> _Timed:
    """Time predictions; `before` is called before each, and not timed."""
    wall, on_cpu = [], 0.0
    for data in inputs:
        if before is not None:
            before(data)
        spent, begun = cpu(), clock()
        predict(data)
        wall.append(clock() - begun)
        on_cpu += cpu() - spent
    return _Timed(statistics.median(wall), on_cpu / len(wall))


def _time_model(
    model: MLModel, inputs: Sequence[BaseModel], seconds: float, clock: Clock, cpu: Clock
) -> tuple[list[BaseModel], list[Any], list[float], float]:
    """Return inputs, their answers, and how long each took."""
    failure: Exception | None = None
    asked, answers, wall = [], [], []
    for data in inputs[:2]:  # a first prediction may load things
        failure = _attempt(model, data)[1] or failure
    started, on_cpu = clock(), 0.0
    for data in _repeated(inputs[:_MOST]):
        begun, spent = clock(), cpu()
        answer, error = _attempt(model, data)
        failure = failure or error
        if error is None:
            wall.append(clock() - begun)
            on_cpu += cpu() - spent
            asked.append(data)
            answers.append(answer)
        if clock() - started > seconds:
            break
    if not asked:
        what = f"{type(failure).__name__}: {failure}" if failure else "there are none"
        raise NotMeasuredError(f"the model answers none of the sampled requests ({what})")
    return asked, answers, wall, on_cpu


def _attempt(model: MLModel, data: BaseModel) -> tuple[Any, Exception | None]:
    try:
        return model.predict(data), None
    except Exception as error:
        reraise_interruption(error)
        return None, error


def _time_batch(model: MLModel, inputs: list[BaseModel], clock: Clock) -> float | None:
    if not callable(getattr(type(model), "predict_many", None)):
        return None
    batch = inputs[:_BATCH]
    begun = clock()
    try:
        list(model.predict_many(batch))
    except Exception as error:
        reraise_interruption(error)
        return None
    return (clock() - begun) / len(batch)


def _near_hit(
    model: MLModel, inputs: list[BaseModel], url: str, clock: Clock, cpu: Clock
) -> float | None:
    try:
        cache = _cache(model, url, near_cache=10 * _MOST)
    except ConfigurationError:  # the extra is not installed
        return None
    with cache:
        for data in inputs:
            cache.predict(data)
        return _timed(cache.predict, _repeated(inputs), clock, cpu).wall


def distinct(inputs: Sequence[BaseModel]) -> list[BaseModel]:
    """Return inputs with different keys; those without a key are left out."""
    found: dict[bytes, BaseModel] = {}
    for data in inputs:
        try:
            found.setdefault(INPUTS.encode(data), data)
        except NotCacheableError:
            continue
    return [*found.values()]

"""The model's answers to sampled requests, as numbers and labels that can be compared."""

from __future__ import annotations

import enum
import typing
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from ml_base.ml_model import MLModel
from pydantic import BaseModel

from model_cache.errors import NotCacheableError
from model_cache.interruptions import reraise_interruption
from model_cache.keys.canonical import INPUTS
from model_cache.keys.schemas import field_annotations

_MOST_REMEMBERED = 200_000
_CHUNK = 500
_ROUNDING = 1e-5


class Answer(NamedTuple):
    """A prediction.

    Attributes:
        numbers: its numbers.
        labels: its labels, and what else can only be the same or not.
    """

    numbers: tuple[float, ...]
    labels: tuple[Any, ...]


class Answers:
    """Asks the model, and remembers its answers.

    Args:
        model: the model, without a cache.
        schema: its output schema.
        clock: the time, in seconds.

    Attributes:
        seconds: how long the model took.
        asked: how many requests it was asked about.
        failures: the types of its exceptions, with how many.
    """

    def __init__(self, model: MLModel, schema: type[BaseModel], clock: Callable[[], float]) -> None:
        self._model = model
        self._clock = clock
        self._known: dict[object, Answer | None] = {}
        self._labels = {name for name, kind in field_annotations(schema).items() if _is_label(kind)}
        self._batches = callable(getattr(type(model), "predict_many", None))
        self.seconds = 0.0
        self.asked = 0
        self.failures: Counter[str] = Counter()

    @property
    def each(self) -> float:
        """Seconds that a prediction took so far."""
        return self.seconds / self.asked if self.asked else 0.0

    def of(self, inputs: Sequence[BaseModel]) -> list[Answer | None]:
        """Return the answers; None where the model raised."""
        forms = [*map(_form, inputs)]
        new: dict[object, BaseModel] = {}
        for form, data in zip(forms, inputs, strict=True):
            if form not in self._known:
                new.setdefault(form, data)
        if len(self._known) + len(new) > _MOST_REMEMBERED:
            self._known.clear()
            new = dict(zip(forms, inputs, strict=True))
        keys = list(new)
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            answers = self._ask([new[key] for key in chunk])
            self._known.update(zip(chunk, answers, strict=True))
        return [self._known[form] for form in forms]

    def differing(self, inputs: Sequence[BaseModel], predictions: Sequence[Any]) -> tuple[int, int]:
        """Return how many predictions differ from the answers to the same inputs, and of how many.

        Args:
            inputs: inputs that the model was asked about once more.
            predictions: its predictions.
        """
        found = zip(map(_form, inputs), map(self._taken, predictions), strict=True)
        pairs = [(known, new) for form, new in found if (known := self._known.get(form))]
        return sum(not _close(*pair) for pair in pairs), len(pairs)

    def _ask(self, inputs: list[BaseModel]) -> list[Answer | None]:
        begun = self._clock()
        try:
            return self._ask_many(inputs) if self._batches else [*map(self._ask_one, inputs)]
        finally:
            self.seconds += self._clock() - begun
            self.asked += len(inputs)

    def _ask_many(self, inputs: list[BaseModel]) -> list[Answer | None]:
        try:
            predictions = list(self._model.predict_many(list(inputs)))
            if len(predictions) == len(inputs):
                return [self._taken(prediction) for prediction in predictions]
            self._batches = False
        except Exception as error:  # one of them, which may be found
            reraise_interruption(error)
        return [*map(self._ask_one, inputs)]

    def _ask_one(self, data: BaseModel) -> Answer | None:
        try:
            return self._taken(self._model.predict(data))
        except Exception as error:
            reraise_interruption(error)
            self.failures[type(error).__name__] += 1
            return None

    def _taken(self, prediction: Any) -> Answer:
        numbers: list[float] = []
        labels: list[Any] = []
        for name, value in _parts(prediction):
            number = None if name in self._labels else _number(value)
            if number is None:
                labels.append(_label(value))
            else:
                numbers.append(number)
        return Answer(tuple(numbers), tuple(labels))


def _close(one: Answer, other: Answer) -> bool:
    """Return whether answers are equal but for rounding, as that of batches."""
    return (
        one.labels == other.labels
        and len(one.numbers) == len(other.numbers)
        and np.allclose(one.numbers, other.numbers, rtol=_ROUNDING, equal_nan=True)
    )


def _form(data: BaseModel) -> object:
    """Return an object that is equal for equal inputs only; without a key, it equals no other."""
    try:
        return INPUTS.encode(data)
    except NotCacheableError:
        return object()


def _parts(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the innermost parts of a prediction, each with the name of the field it is in."""
    if isinstance(value, BaseModel):
        for field, each in value.__dict__.items():
            yield from _parts(each, name or field)
    elif isinstance(value, dict):
        for _, each in sorted(value.items(), key=lambda item: str(item[0])):
            yield from _parts(each, name)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _parts(each, name)
    elif hasattr(value, "tolist") and not isinstance(value, (str, bytes)):  # numpy
        yield from _parts(value.tolist(), name)
    else:
        yield name, value


def _number(value: Any) -> float | None:
    """Return a number as a float; None for others, and for an int of hundreds of digits."""
    if not isinstance(value, (int, float, Decimal)) or isinstance(value, (bool, enum.Enum)):
        return None
    try:
        return float(value)
    except (OverflowError, ValueError):  # a signaling NaN
        return None


def _label(value: Any) -> Any:
    """Return what stands for a label in comparisons, which a signaling NaN would raise in."""
    return str(value) if isinstance(value, Decimal) else value


def _is_label(annotation: Any) -> bool:
    """Return whether a field is a label although its values may be numbers."""
    if typing.get_origin(annotation) is typing.Literal:
        return True
    return isinstance(annotation, type) and issubclass(annotation, (bool, enum.Enum))


def kinds_of(schema: type[BaseModel], *, has_numbers: bool) -> tuple[tuple[str, ...], ...]:
    """Return the output's fields that are compared as numbers, and those compared as labels."""
    kinds = field_annotations(schema)
    if not has_numbers:
        return (), tuple(kinds)
    labels = tuple(name for name, kind in kinds.items() if _only_labels(kind))
    return tuple(name for name in kinds if name not in labels), labels


def _only_labels(annotation: Any) -> bool:
    return _is_label(annotation) or annotation in (str, bytes)

"""What a function returns, as bytes: MessagePack, extended to Python's own types.

Values that MessagePack knows are plain MessagePack, so reading them costs nothing extra. Anything
else is an extension type: a code, and bytes of its own form. A form contains only data. Instances
of classes are read only if the class is in the reader's table; nothing is imported by name, called
by name or unpickled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from model_cache.entries.refusals import NotStorableError
from model_cache.entries.values.classes import Classes
from model_cache.entries.values.writing import Writing

__all__ = ["PYTHON_VALUES", "Classes", "NotStorableError", "PythonValues", "Result", "dumps"]


@dataclass(frozen=True, slots=True)
class Result:
    """What a function returned; the schema of a function's `Codec`."""

    value: Any


def dumps(value: object, classes: Classes | None = None) -> bytes:
    """Return `value` as bytes.

    Args:
        value: what a function returned.
        classes: learns the classes of the instances in `value`, so that this process can read them.

    Raises:
        Exception: a part of the value can't be stored.
    """
    return Writing(classes).dumps(value)


class PythonValues:
    """The serder for the results of functions.

    Args:
        classes: the classes whose instances can be read.
    """

    name = "python"
    id = 4

    def __init__(self, classes: Classes) -> None:
        self.classes = classes

    def dumps(self, prediction: Any) -> bytes:
        """Return a `Result` as bytes."""
        return dumps(prediction.value, self.classes)

    def loads(self, data: bytes, schema: Any) -> Any:
        """Return the `Result` in `data`."""
        return schema(self.classes.loads(data))

    def reader(self, data: bytes, schema: Any) -> Callable[[], Any]:
        """Return what reads `data`, to a new object each time."""
        load = self.classes.loads
        return lambda: schema(load(data))


PYTHON_VALUES = PythonValues(Classes())
"""The serder without any classes, for describing entries."""

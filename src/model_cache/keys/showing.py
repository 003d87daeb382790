"""Show a value of an input in a message: short, and without secrets."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
from collections.abc import Sized
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel

from model_cache.interruptions import reraise_interruption
from model_cache.keys.canonical.arrays import loaded_numpy
from model_cache.keys.canonical.leaves import LEAVES
from model_cache.keys.canonical.reductions import URLS
from model_cache.redaction import SECRETS, masked_url

_LONGEST = 60
_SHOWN = (dt.datetime, dt.time, PurePath, Fraction, complex)


def is_secret(value: object) -> bool:
    """Return whether a value says itself that it is not to be shown."""
    return isinstance(value, SECRETS)


def hidden_fields(cls: type) -> set[str]:
    """Return the fields that the author of a model or dataclass keeps out of its repr."""
    if issubclass(cls, BaseModel):
        return {name for name, field in cls.model_fields.items() if not field.repr}
    return {field.name for field in dataclasses.fields(cls) if not field.repr}  # type: ignore[arg-type]


def shown(value: Any) -> str:
    """Return a short text for a value; only its type for one that may contain secrets."""
    try:
        text = _full(value)
    except Exception as error:  # an int with more digits than Python converts, or a user's class
        reraise_interruption(error)
        text = f"<{type(value).__qualname__}>"
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def apart(a: Any, b: Any) -> str:
    """Return how two values of one type differ; "" if their texts show it."""
    if shown(a) != shown(b):
        return ""
    if type(a) in (str, bytes) and _full(a) != _full(b):
        same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))
        return f"they differ from position {len(list(same))} on"
    if isinstance(a, (set, frozenset)):
        return "they have different items"
    numpy = loaded_numpy()
    if numpy is not None and isinstance(a, numpy.ndarray) and a.shape == b.shape:
        return "their values or their layouts in memory differ"
    return "they look alike here, but differ"


def _full(value: Any) -> str:
    cls, numpy = type(value), loaded_numpy()
    if isinstance(value, str) and "://" in value:
        return repr(masked_url(str.__str__(value)))
    if isinstance(value, URLS):
        return masked_url(str(value))
    if numpy is not None and isinstance(value, numpy.ndarray):
        return f"<{value.dtype} array of shape {value.shape}>"
    if isinstance(value, Enum):
        return f"{cls.__qualname__}.{value.name}"
    if cls in LEAVES or isinstance(value, _SHOWN) or (numpy and isinstance(value, numpy.generic)):
        return repr(value)
    size = f" of {len(value)}" if isinstance(value, Sized) and cls.__module__ == "builtins" else ""
    return f"<{cls.__qualname__}{size}>"

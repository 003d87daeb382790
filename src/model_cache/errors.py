"""All exceptions of model_cache.

ModelCacheError
├── ConfigurationError (also a ValueError)   an option is invalid
├── NotCacheableError                        an input has no key; the message says why
└── StoreUnavailableError                    Redis did not answer; raised by `predict` only
    │                                        with on_error="raise"
    └── StoreAnsweredError                   Redis answered with an error; never raised by
        └── WriteRefusedError                `predict`. Redis refused a write

The stores also use an internal one for the redirections of a cluster.

Exceptions of the model are never wrapped; they reach the caller unchanged.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class ModelCacheError(Exception):
    """The base class of this library's exceptions."""


class ConfigurationError(ModelCacheError, ValueError):
    """An option is invalid; the message names the option, its value and what is allowed.

    Raised when the decorator is created, or by `set_model` if it depends on the model's schemas.

    Attributes:
        option: the name of the option.
    """

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(option, problem)
        self.option = option
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.option}: {self.problem}"


class NotCacheableError(ModelCacheError):
    """An input has no key, so it is predicted without the cache.

    Raised by `RedisCachingDecorator.cache_key`; `predict` only counts it.

    Attributes:
        path: the path of the offending value, such as `points[3].when`; empty for the input
            itself.
        reason: why that value has no canonical form.
    """

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason, path)
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


class StoreUnavailableError(ModelCacheError):
    """Redis could not be reached, or did not answer in time.

    `predict` raises it only with `on_error="raise"`.

    Attributes:
        kind: the kind of failure, suitable as a metric label: "timeout", "connection",
            "credentials", "circuit_open", "protocol", "no_slot", "redirected", or the code of
            the server's error reply; "other" if the code is not a well-known one.
        answers: what the other nodes of a cluster have answered, by key.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message, kind)
        self.message = message
        self.kind = kind
        self.answers: Mapping[bytes, Any] = {}

    def __str__(self) -> str:
        return self.message


class StoreAnsweredError(StoreUnavailableError):
    """Redis answered, but with an error or an unexpected reply."""


class WriteRefusedError(StoreAnsweredError):
    """Redis answered a write with an error (OOM, READONLY, ...); reads may still work."""


def may_arrive(error: BaseException) -> bool:
    """Return whether a write that failed may still reach Redis, or has reached it."""
    was_not_sent = isinstance(error, StoreUnavailableError) and error.kind == "circuit_open"
    return not (was_not_sent or isinstance(error, WriteRefusedError))


def said_by(error: Exception) -> str:
    """Return what went wrong, without the number and the path that Python adds to an OSError."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint with the closest known name, or else with all known names."""
    names = {known_name.lower(): known_name for known_name in sorted(known)}
    near = difflib.get_close_matches(name.lower(), names, n=1)
    if near:
        return f"did you mean {names[near[0]]!r}?"
    return f"known: {', '.join(map(repr, names.values()))}"

"""Every exception that model_cache raises, in one tree.

ModelCacheError
├── ConfigurationError (also a ValueError)   an option that can't be honoured
├── NotCacheableError                        an input that has no key, with the reason
└── StoreUnavailableError                    Redis did not answer; by `predict` only with
    │                                        on_error="raise"
    └── StoreAnsweredError                   Redis is alive, but has another answer; never
        └── WriteRefusedError                raised by `predict`, as when it refuses a write

The stores have one more of their own, for the redirections of a cluster; it never leaves them.

An exception that the model raises is never wrapped: it reaches the caller as it is.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ModelCacheError(Exception):
    """The root of this library's exceptions."""


class ConfigurationError(ModelCacheError, ValueError):
    """An option can't be honoured; the message names it, its value and the way out.

    Raised when the decorator is built, if the option alone shows it, else by `set_model`.

    Attributes:
        option: the name of the option, as it is written in code and in YAML.
    """

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(option, problem)
        self.option = option
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.option}: {self.problem}"


class NotCacheableError(ModelCacheError):
    """An input has no key, so it is predicted without the cache.

    Raised by `RedisCachingDecorator.cache_key`; `predict` counts the case and goes on.

    Attributes:
        path: the path of the value that is the reason, as in `points[3].when`; empty for the
            input itself.
        reason: why that value has no canonical form.
    """

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason, path)
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


class StoreUnavailableError(ModelCacheError):
    """Redis could not be asked, or did not answer in time.

    It reaches the caller of `predict` only with `on_error="raise"`.

    Attributes:
        kind: what went wrong, as one word fit for a metric's label: "timeout",
            "connection", "credentials", "circuit_open", "protocol", "no_slot", "redirected", or
            the code of the server's error reply, "other" if Redis is not known for it.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message, kind)
        self.message = message
        self.kind = kind

    def __str__(self) -> str:
        return self.message


class StoreAnsweredError(StoreUnavailableError):
    """Redis is alive, but has another answer than what it was asked for."""


class WriteRefusedError(StoreAnsweredError):
    """Redis answered a write with an error (OOM, READONLY, ...); reading may go on."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint with the nearest of the known names, else the list of them."""
    names = {known_name.lower(): known_name for known_name in sorted(known)}
    near = difflib.get_close_matches(name.lower(), names, n=1)
    if near:
        return f"did you mean {names[near[0]]!r}?"
    return f"known: {', '.join(map(repr, names.values()))}"

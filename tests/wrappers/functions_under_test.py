"""Functions that count their calls, and the options under which all promises hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "integrity": {"integrity": True},
    "key_secret": {"key_secret": "hush", "integrity": True},
    "compression": {"use_compression": True},
    "packed": {"layout": "packed", "expected_entries": 10_000},
    "near": {"near_cache": 10_000},
    "near and integrity": {"near_cache": 10_000, "integrity": True},
    "stale_if_error": {"ttl": 60, "stale_if_error": 60},
    "stale_while_revalidate": {"ttl": 60, "stale_while_revalidate": 60, "near_cache": 10_000},
    "background": {"write": "background"},
    "fleet": {"single_flight": "fleet"},
    "no single-flight": {"single_flight": "off"},
}


class Counted:
    """A function, with the number of its calls and the rows of each."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.sizes: list[int] = []

    def __call__(self, rows: Any, *args: Any, **kwargs: Any) -> Any:
        self.sizes.append(len(rows))
        return self.function(rows, *args, **kwargs)


def counted(function: Callable[..., Any]) -> tuple[Callable[..., Any], list[int]]:
    """Return a function of the same signature, and a list that receives the rows of each call."""
    count = Counted(function)

    def calls(rows: Any) -> Any:
        return count(rows)

    return calls, count.sizes

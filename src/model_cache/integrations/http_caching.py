"""HTTP headers for caching: write outcomes as response headers, and parse `Cache-Control`.

`Cache-Status` follows RFC 9211 (a list as in RFC 8941), `Cache-Control` RFC 9111. This module does
not depend on a web framework.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from math import floor
from typing import Any

from model_cache.errors import ConfigurationError
from model_cache.observing.outcome import Fate, Kind, Outcome
from model_cache.observing.scope import Mode

# Limits the header's size: a request with many predictions must not exceed a proxy's buffer.
_MOST_LISTED = 16

_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*")
_PRINTABLE = re.compile(r"[ -~]+")

# A quoted string, even if unterminated; it never backtracks, so it takes linear time.
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)

# From the most cached to the least.
_WORDS = ("HIT", "STALE", "MISS", "BYPASS", "OFF")
# The word for X-Cache, and the parameters of Cache-Status; None if the kind alone does not decide.
_SHOWN: dict[Kind, tuple[str, str | None]] = {
    "hit": ("HIT", "hit"),
    "stale": ("STALE", "fwd=stale; detail=model-error"),
    "shared": ("MISS", "fwd=miss; collapsed"),
    "miss": ("MISS", None),
    "error": ("MISS", None),
    "uncacheable": ("BYPASS", "fwd=bypass; detail=uncacheable"),
    "unavailable": ("BYPASS", "fwd=bypass; detail=store-unavailable"),
    "bypass": ("BYPASS", "fwd=bypass"),
    "direct": ("BYPASS", "fwd=bypass; detail=direct"),
    "off": ("OFF", "fwd=bypass; detail=off"),
}

OUTCOME_HEADERS: dict[str, dict[str, Any]] = {
    "X-Cache": {
        "description": "What the cache did; of several predictions, the last of these words.",
        "schema": {"type": "string", "enum": ["HIT", "STALE", "MISS", "BYPASS", "OFF"]},
    },
    "Cache-Status": {
        "description": "What the cache did for each prediction (RFC 9211).",
        "schema": {"type": "string"},
    },
}
"""The headers in OpenAPI: `responses={200: {"headers": OUTCOME_HEADERS}}` in a FastAPI route."""


def cache_name(name: str) -> str:
    """Return a cache's name as written in `Cache-Status`: a token, or a quoted string.

    Raises:
        ConfigurationError: it is empty, or contains other than printable ASCII characters.
    """
    if not isinstance(name, str) or not _PRINTABLE.fullmatch(name):
        raise ConfigurationError("name", f"expected printable ASCII characters, got {name!r}")
    if _TOKEN.fullmatch(name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def cache_status(outcomes: Sequence[Outcome], name: str) -> str:
    """Return the value of `Cache-Status`: one member per prediction, oldest first.

    If there are more than 16 predictions, only the last 16 are listed.

    Args:
        outcomes: at least one outcome.
        name: the cache's name, from `cache_name`.
    """
    listed = list(outcomes)[-_MOST_LISTED:]
    return ", ".join(f"{name}; {_member(one)}" for one in listed)


def _member(outcome: Outcome) -> str:
    given = _parameters(outcome.kind, outcome.fate, outcome.refreshed, outcome.near)
    # Rounded down, so that a stale answer has a negative one.
    return given if outcome.ttl is None else f"{given}; ttl={floor(outcome.ttl)}"


@cache
def _parameters(kind: Kind, fate: Fate | None, refreshed: bool, near: bool) -> str:
    if near:
        return "hit; detail=near"
    if (parameters := _SHOWN[kind][1]) is not None:
        return parameters
    forwarded = "fwd=request" if refreshed else "fwd=miss"
    if kind == "error":
        return f"{forwarded}; detail=model-error"
    if fate is None:
        return forwarded
    detail = "stored" if fate == "stored" else f"detail={fate.replace('_', '-')}"
    return f"{forwarded}; {detail}"


def x_cache(outcomes: Iterable[Outcome]) -> str:
    """Return one word for all predictions of a response: the last of `_WORDS` that applies.

    "HIT", "STALE", "MISS" (computed, by this or another request), "BYPASS" (computed without the
    cache: on request, or because there is no key or no store), or "OFF".
    """
    return max((_SHOWN[one.kind][0] for one in outcomes), key=_WORDS.index)


def requested(cache_control: Iterable[bytes]) -> Mode | None:
    """Return the mode that a request's `Cache-Control` headers ask for.

    Args:
        cache_control: the values of the headers.

    Returns:
        "bypass" for `no-store`, else "refresh" for `no-cache`, else None. Other directives and
        malformed values are ignored.
    """
    directives = {
        part.partition(b"=")[0].strip().lower()
        for value in cache_control
        for part in _QUOTED.sub(b"", value).split(b",")
    }
    if b"no-store" in directives:
        return "bypass"
    return "refresh" if b"no-cache" in directives else None

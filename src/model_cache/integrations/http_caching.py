"""What HTTP says of caches: outcomes as response headers, and a request's wishes.

`Cache-Status` is RFC 9211's, a list after RFC 8941; `Cache-Control` is RFC 9111's. Which web
framework carries them is unknown here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache

from model_cache.errors import ConfigurationError
from model_cache.observing.outcome import Fate, Kind, Outcome
from model_cache.observing.scope import Mode

# So that a request of many predictions does not fill a proxy's buffer for headers.
_MOST_LISTED = 16

_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*")
_PRINTABLE = re.compile(r"[ -~]+")

# Quoted text, also one that never ends; nothing in it can fail, so it takes linear time.
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)

_PARAMETERS: dict[Kind, str] = {
    "hit": "hit",
    "shared": "fwd=miss; collapsed",
    "stale": "fwd=stale; detail=model-error",
    "uncacheable": "fwd=bypass; detail=uncacheable",
    "unavailable": "fwd=bypass; detail=store-unavailable",
    "bypass": "fwd=bypass",
    "off": "fwd=bypass; detail=off",
}

# From the most cached to the least.
_WORDS = ("HIT", "STALE", "MISS", "BYPASS", "OFF")
_RANKS: dict[Kind, int] = {
    "hit": 0,
    "stale": 1,
    "shared": 2,
    "miss": 2,
    "error": 2,
    "uncacheable": 3,
    "unavailable": 3,
    "bypass": 3,
    "off": 4,
}


def cache_name(name: str) -> str:
    """Return the name of a cache as `Cache-Status` spells it: a token, or else in quotes.

    Raises:
        ConfigurationError: it is empty, or not of printable ASCII characters.
    """
    if not isinstance(name, str) or not _PRINTABLE.fullmatch(name):
        raise ConfigurationError("name", f"{name!r} is not a text of printable ASCII characters")
    if _TOKEN.fullmatch(name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def cache_status(outcomes: Sequence[Outcome], name: str) -> str:
    """Return the value of `Cache-Status`: one member a prediction, oldest first.

    Of more than 16 predictions the last 16 are listed.

    Args:
        outcomes: at least one.
        name: the cache's, by `cache_name`.
    """
    listed = list(outcomes)[-_MOST_LISTED:]
    return ", ".join(
        f"{name}; {_parameters(one.kind, one.fate, one.refreshed, one.near)}" for one in listed
    )


@cache
def _parameters(kind: Kind, fate: Fate | None, refreshed: bool, near: bool) -> str:
    if near:
        return "hit; detail=near"
    if kind in _PARAMETERS:
        return _PARAMETERS[kind]
    forwarded = "fwd=request" if refreshed else "fwd=miss"
    if kind == "error":
        return f"{forwarded}; detail=model-error"
    if fate is None:
        return forwarded
    return f"{forwarded}; stored" if fate == "stored" else f"{forwarded}; detail={_dashed(fate)}"


def _dashed(fate: Fate) -> str:
    return fate.replace("_", "-")


def x_cache(outcomes: Iterable[Outcome]) -> str:
    """Return one word for all predictions of a response, the least cached one's.

    "HIT", "STALE", "MISS" (computed, by this or another request), "BYPASS" (computed without the
    cache: by request, for want of a key, or of the store), or "OFF".
    """
    return _WORDS[max(_RANKS[one.kind] for one in outcomes)]


def requested(cache_control: Iterable[bytes]) -> Mode | None:
    """Return what a request asks for by the values of its `Cache-Control` headers.

    Args:
        cache_control: the values, one for each header.

    Returns:
        "bypass" for `no-store`, else "refresh" for `no-cache`, else None. Every other directive,
        and whatever can't be read, is ignored.
    """
    directives = {
        part.partition(b"=")[0].strip().lower()
        for value in cache_control
        for part in _QUOTED.sub(b"", value).split(b",")
    }
    if b"no-store" in directives:
        return "bypass"
    return "refresh" if b"no-cache" in directives else None

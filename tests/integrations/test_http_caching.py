"""Outcomes in the format of RFC 9211, checked with a parser for structured fields."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model_cache import ConfigurationError, Outcome
from model_cache.integrations.http_caching import (
    OUTCOME_HEADERS,
    cache_name,
    cache_status,
    requested,
    x_cache,
)
from model_cache.observing.outcome import Fate, Kind
from tests.web import members


def outcome(kind: Any, fate: Any = None, *, refreshed: bool = False) -> Outcome:
    return Outcome(kind, "model", "1.0.0", 0.1, fate=fate, refreshed=refreshed)


def parameters(*outcomes: Outcome) -> list[dict[str, Any]]:
    return [more for _, more in members(cache_status(outcomes, "c"))]


@pytest.mark.parametrize(
    ("made", "expected", "word"),
    [
        (outcome("hit"), {"hit": True}, "HIT"),
        (outcome("miss", "stored"), {"fwd": "miss", "stored": True}, "MISS"),
        (outcome("miss", "queued"), {"fwd": "miss", "detail": "queued"}, "MISS"),
        (outcome("miss", "too_large"), {"fwd": "miss", "detail": "too-large"}, "MISS"),
        (outcome("miss"), {"fwd": "miss"}, "MISS"),
        (outcome("shared"), {"fwd": "miss", "collapsed": True}, "MISS"),
        (outcome("miss", "stored", refreshed=True), {"fwd": "request", "stored": True}, "MISS"),
        (outcome("error"), {"fwd": "miss", "detail": "model-error"}, "MISS"),
        (outcome("error", refreshed=True), {"fwd": "request", "detail": "model-error"}, "MISS"),
        (outcome("stale"), {"fwd": "stale", "detail": "model-error"}, "STALE"),
        (outcome("bypass"), {"fwd": "bypass"}, "BYPASS"),
        (outcome("direct"), {"fwd": "bypass", "detail": "direct"}, "BYPASS"),
        (outcome("uncacheable"), {"fwd": "bypass", "detail": "uncacheable"}, "BYPASS"),
        (outcome("unavailable"), {"fwd": "bypass", "detail": "store-unavailable"}, "BYPASS"),
        (outcome("off"), {"fwd": "bypass", "detail": "off"}, "OFF"),
    ],
)
def test_the_cache_status_of_each_outcome(
    made: Outcome, expected: dict[str, Any], word: str
) -> None:
    assert parameters(made) == [expected]
    assert x_cache([made]) == word


def test_every_outcome_has_a_cache_status_and_is_either_a_hit_or_forwarded() -> None:
    for kind in get_args(Kind):
        for fate in (None, *get_args(Fate)):
            (said,) = parameters(outcome(kind, fate))
            assert ("hit" in said) != ("fwd" in said)
            assert ("hit" in said) == (kind == "hit")
            assert x_cache([outcome(kind, fate)])


def test_the_openapi_of_the_headers_lists_every_word() -> None:
    words = {x_cache([outcome(kind)]) for kind in get_args(Kind)}
    assert words == set(OUTCOME_HEADERS["X-Cache"]["schema"]["enum"])


def test_x_cache_is_that_of_the_least_cached_prediction() -> None:
    kinds = ["hit", "stale", "shared", "bypass", "off"]
    words = [x_cache(map(outcome, kinds[:count])) for count in range(1, 6)]
    assert words == ["HIT", "STALE", "MISS", "BYPASS", "OFF"]
    assert x_cache(map(outcome, reversed(kinds))) == "OFF"


def test_members_are_in_the_order_of_the_predictions_and_the_last_sixteen() -> None:
    assert parameters(outcome("miss"), outcome("hit")) == [{"fwd": "miss"}, {"hit": True}]
    many = [outcome("miss")] * 5 + [outcome("off")] + [outcome("hit")] * 15
    said = parameters(*many)
    assert len(said) == 16
    assert said[0] == {"fwd": "bypass", "detail": "off"}


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
@example("model-cache")
@example('my "model" \\ cache, 1')
@example("1st")
def test_any_printable_name_comes_back_as_it_is(name: str) -> None:
    assert members(cache_status([outcome("hit")], cache_name(name))) == [(name, {"hit": True})]


@pytest.mark.parametrize("name", ["", "caché", "a\nb", None])
def test_other_names_are_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="printable"):
        cache_name(name)


@pytest.mark.parametrize(
    ("values", "mode"),
    [
        ([], None),
        ([b"no-cache"], "refresh"),
        ([b"No-Cache"], "refresh"),
        ([b"no-store"], "bypass"),
        ([b"no-cache, no-store"], "bypass"),
        ([b"no-cache", b"max-age=0,NO-STORE"], "bypass"),
        ([b"max-age=0,\tno-cache ,"], "refresh"),
        ([b'no-cache="a, b"'], "refresh"),
        ([b'x="no-store, no-cache"'], None),
        ([b'x="a\\", no-store"'], None),
        ([b'x="never ends, no-store'], None),
        ([b'x="never ends, no-store', b"no-cache"], "refresh"),
        ([b"max-age=0, only-if-cached, no-transform"], None),
        ([b"no-cache2, xno-store, no cache"], None),
        ([b'\xff\x00=,,,;;="\\'], None),
    ],
)
def test_the_mode_that_requests_ask_for(values: list[bytes], mode: str | None) -> None:
    assert requested(values) == mode


@given(st.lists(st.binary()))
@example([b'"' + b"\\" * 60_000])
@example([b'"\\' * 30_000])
def test_any_header_is_parsed(values: list[bytes]) -> None:
    assert requested([*values, b"no-store"]) == "bypass"

"""An outcome tells the age and the time left of an entry, where both cost nothing."""

from __future__ import annotations

import time
from typing import Any

import pytest

from model_cache import Outcome, record_outcomes, refresh
from model_cache.integrations.http_caching import cache_status
from tests.models import Charges, FunctionModel, Person, person
from tests.observing.heard import made, outcome
from tests.servers import Server

# A ttl of 60 s, shortened by up to a tenth, on a machine that may be busy.
JITTERED: Any = pytest.approx(50, abs=10.1)


@pytest.mark.parametrize("options", [{}, {"stale_if_error": 600}], ids=str)
def test_a_miss_tells_the_ttl_it_was_stored_with(server: Server, options: dict[str, Any]) -> None:
    cache = made(server, ttl=60, **options)
    cache.predict(person())
    assert (outcome().age, outcome().ttl) == (0.0, JITTERED)
    cache.predict_many([person(age=1), person(age=2)])
    assert (outcome().age, outcome().ttl) == (0.0, JITTERED)
    with refresh():
        cache.predict(person())
    assert (outcome().age, outcome().ttl) == (0.0, JITTERED)


def test_a_miss_that_is_not_stored_tells_nothing(server: Server) -> None:
    cache = made(server, ttl=60, cache_if=lambda *_: False)
    cache.predict(person())
    assert (outcome().age, outcome().ttl) == (None, None)
    other = made(server, ttl=60, max_entry_bytes=1)
    other.predict(person())
    assert (outcome().age, outcome().ttl) == (None, None)


def test_a_plain_hit_tells_nothing_since_redis_would_have_to_be_asked(server: Server) -> None:
    cache = made(server, ttl=60)
    for _ in range(2):
        cache.predict(person())
    assert outcome().kind == "hit"
    assert (outcome().age, outcome().ttl) == (None, None)


def test_a_hit_of_an_entry_that_may_become_stale_tells_its_time_left(server: Server) -> None:
    cache = made(server, ttl=60, stale_if_error=600)
    for _ in range(2):
        cache.predict(person())
    assert outcome().kind == "hit"
    assert (outcome().age, outcome().ttl) == (None, JITTERED)
    cache.predict_many([person(), person()])
    assert outcome().ttl == JITTERED


@pytest.mark.parametrize("options", [{}, {"stale_if_error": 600}], ids=str)
def test_near_hits_tell_their_time_left_and_their_age_if_this_process_wrote_them(
    server: Server, options: dict[str, Any]
) -> None:
    writer, reader = (made(server, ttl=60, near_cache=100, **options) for _ in range(2))
    writer.predict(person())
    time.sleep(0.05)
    writer.predict(person())
    assert outcome().near
    assert outcome().age == pytest.approx(0.05, abs=0.5)
    assert (outcome().age or 0) >= 0.05
    assert outcome().ttl == JITTERED
    for near in (False, True):
        reader.predict(person())
        assert (outcome().kind, outcome().near) == ("hit", near)
        assert (outcome().age, outcome().ttl) == (None, JITTERED)
    with record_outcomes() as outcomes:
        writer.predict_many([person()])  # not by the short way
        time.sleep(1.05)  # the generation is to be checked
        writer.predict(person())
    for one in outcomes:
        assert one.near
        assert (one.age or 0) >= 0.05
        assert one.ttl == JITTERED


def test_an_entry_that_never_ends_has_no_time_left(server: Server) -> None:
    cache = made(server, near_cache=100)
    for _ in range(2):
        cache.predict(person())
    assert outcome().near
    assert outcome().ttl is None
    assert outcome().age is not None


def test_a_stale_answer_has_less_than_no_time_left(server: Server) -> None:
    answers = [Charges(charges=1.0)]

    def predict(data: Person) -> Charges:
        return answers.pop()  # raises in the end

    cache = made(server, FunctionModel(function=predict), ttl=0.05, stale_if_error=60)
    cache.predict(person())
    time.sleep(0.06)  # past its ttl
    cache.predict(person())
    assert outcome().kind == "stale"
    assert -10 < (outcome().ttl or 0) < 0
    assert outcome().age is None


@pytest.mark.parametrize(
    ("kind", "more", "expected"),
    [
        ("hit", {"ttl": 376.9}, "c; hit; ttl=376"),
        ("hit", {"ttl": 0.4, "near": True}, "c; hit; detail=near; ttl=0"),
        ("stale", {"ttl": -0.5}, "c; fwd=stale; detail=model-error; ttl=-1"),
        ("miss", {"ttl": 60.0, "fate": "stored"}, "c; fwd=miss; stored; ttl=60"),
        ("hit", {}, "c; hit"),
    ],
)
def test_the_header_tells_the_time_left(kind: Any, more: dict[str, Any], expected: str) -> None:
    assert cache_status([Outcome(kind, "m", "1", 0.1, **more)], "c") == expected

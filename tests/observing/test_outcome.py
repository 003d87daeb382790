"""What a caller hears of its predictions."""

from __future__ import annotations

import sys
import time

import pytest
import redis

from model_cache import RedisCachingDecorator, StoreUnavailableError, bypass, refresh
from tests.models import FunctionModel, person
from tests.observing.failing import NO_KEY, failing
from tests.observing.heard import made, outcome
from tests.servers import Server, free_port
from tests.stored import full


def test_a_miss_then_a_hit(server: Server) -> None:
    model = made(server)
    model.predict(person())
    first = outcome()
    assert first[:3] == ("miss", "test_model", "1.0.0")
    assert first.fate == "stored"
    assert first.entry_bytes == len('{"charges":42024020.2}')
    assert 0 < first.model_seconds < first.seconds
    assert 0 < first.write_seconds < first.store_seconds < first.seconds

    model.predict(person())
    second = outcome()
    assert (second.kind, second.fate, second.model_seconds) == ("hit", None, 0)
    assert 0 < second.store_seconds < second.seconds
    assert second.entry_bytes == first.entry_bytes


def test_the_outcome_of_an_unstored_prediction_says_why(
    server: Server, client: redis.Redis
) -> None:
    for options, fate in (
        ({"cache_if": lambda *_: False}, "skipped"),
        ({"max_entry_bytes": 3}, "too_large"),
        ({"write": "background"}, "queued"),
    ):
        with made(server, prefix=fate, **options) as model:
            model.predict(person())
            assert (outcome().kind, outcome().fate) == ("miss", fate)
    with full(client):
        made(server, prefix="full").predict(person())
    assert outcome().fate == "write_failed"


def test_an_undecodable_entry_is_a_miss(server: Server, client: redis.Redis) -> None:
    model = made(server)
    client.set(model.cache_key(person()), b"\xc1nonsense")
    model.predict(person())
    assert (outcome().kind, outcome().undecodable) == ("miss", True)
    assert model.stats().undecodable == 1


def test_a_store_that_does_not_answer() -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    model = RedisCachingDecorator(url=url).set_model(FunctionModel())
    model.predict(person())
    assert (outcome().kind, outcome().store_error) == ("unavailable", "connection")
    raising = RedisCachingDecorator(url=url, on_error="raise").set_model(FunctionModel())
    with pytest.raises(StoreUnavailableError):
        raising.predict(person())
    assert (outcome().kind, outcome().model_seconds) == ("unavailable", 0)


def test_no_key_no_cache_and_a_failing_model(server: Server) -> None:
    made(server).predict(NO_KEY)
    assert outcome().kind == "uncacheable"
    made(server, enabled=False).predict(person())
    assert outcome().kind == "off"
    model = made(server, FunctionModel(function=failing))
    for data, asked in ((person(), "with"), (NO_KEY, "without")):
        with pytest.raises(RuntimeError, match="no weights") as caught:
            model.predict(data)
        assert outcome().kind == "error", asked
        # None, unless CPython has kept the exception of a block that a signal interrupted.
        assert caught.value.__context__ is sys.exception()
    assert model.stats().errors == 2


def test_stale(server: Server) -> None:
    inner = FunctionModel()
    model = made(server, inner, ttl=0.001, stale_if_error=60)
    model.predict(person())
    inner._function = failing
    time.sleep(0.01)
    model.predict(person())
    assert outcome().kind == "stale"
    with refresh(), pytest.raises(RuntimeError):
        model.predict(person())


def test_the_stats_are_the_sum_of_the_outcomes(server: Server) -> None:
    model = made(server)
    for data in (person(), person(), person(age=3), NO_KEY):
        model.predict(data)
    with bypass():
        model.predict(person())
    stats = model.stats()
    counts = (stats.hits, stats.misses, stats.uncacheable, stats.bypassed)
    assert counts == (1, 2, 1, 1)
    assert stats.predictions == 5

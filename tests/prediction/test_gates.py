"""When a cache is paused because it costs more than it saves, and when it is used again."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest

from model_cache.errors import NotCacheableError
from model_cache.observing.events import CachePaused, CacheResumed, Event
from model_cache.observing.outcome import Outcome
from model_cache.prediction.gates import Gate, Gates

MODEL, HIT, OVERHEAD = 100e-6, 40e-6, 120e-6
HIT_OUTCOME = Outcome("hit", "model", "1", HIT)
MISS = Outcome("miss", "model", "1", MODEL + OVERHEAD, model_seconds=MODEL)


class Traffic:
    """Single predictions through a gate, with a cache that forgets nothing."""

    def __init__(self, *, hit: float = HIT, overhead: float = OVERHEAD) -> None:
        self.events: list[Event] = []
        self.gate = Gate(
            "model", "1", batches=False, hook=self.events.append, random=random.Random(7).random
        )
        self.cached: set[int] = set()
        self.looked_up = self.hits = 0
        self._hit = HIT_OUTCOME._replace(seconds=hit)
        self._miss = MISS._replace(seconds=MODEL + overhead)

    def predict(self, data: int) -> None:
        if self.gate.is_direct(lambda: b"%d" % data):
            return
        self.looked_up += 1
        self.hits += data in self.cached
        self.gate.heard(self._hit if data in self.cached else self._miss)
        self.cached.add(data)

    def until(self, direct: bool, inputs: Iterator[int], most: int) -> int:
        for number in range(most):
            if self.gate.direct is direct:
                return number
            self.predict(next(inputs))
        raise AssertionError(f"not within {most} predictions")


def different() -> Iterator[int]:
    yield from range(10**6, 10**9)


def repeated(count: int) -> Iterator[int]:
    rng = random.Random(3)
    while True:
        yield rng.randrange(count)


def test_a_cache_that_never_hits_is_paused() -> None:
    traffic = Traffic()
    assert traffic.until(True, different(), 1001) == 1000
    [event] = traffic.events
    assert isinstance(event, CachePaused)
    assert (event.model, event.version, event.batches, event.hit_ratio) == ("model", "1", False, 0)
    assert event.break_even == pytest.approx(0.75)


def test_a_paused_cache_costs_less_than_a_hundredth_of_the_models_time() -> None:
    for overhead in (10e-6, OVERHEAD, 2e-3):
        traffic, inputs = Traffic(overhead=overhead), different()
        traffic.until(True, inputs, 1001)
        before = traffic.looked_up
        for _ in range(100_000):
            traffic.predict(next(inputs))
        lost = (traffic.looked_up - before) * overhead / (100_000 * MODEL)
        assert lost < 0.01
        assert traffic.gate.key_share <= 1 / 8


@pytest.mark.parametrize("count", [1, 3, 10, 100, 1000, 10_000])
def test_it_is_used_again_when_inputs_repeat(count: int) -> None:
    traffic = Traffic()
    traffic.until(True, different(), 1001)
    inputs = repeated(count)
    # At ten thousand predictions a second.
    traffic.until(False, inputs, 20_000 + 15 * count)
    assert isinstance(traffic.events[-1], CacheResumed)
    for _ in range(30 * count + 5000):
        traffic.predict(next(inputs))
    before, hits = traffic.looked_up, traffic.hits
    for _ in range(1000):
        traffic.predict(next(inputs))
    assert traffic.looked_up - before == 1000
    assert traffic.hits - hits >= 990


def test_a_cache_that_pays_is_never_paused() -> None:
    traffic, inputs = Traffic(), repeated(100)
    for _ in range(50_000):
        traffic.predict(next(inputs))
    assert (traffic.looked_up, traffic.events) == (50_000, [])


def test_a_cache_slower_than_its_model_is_paused_whatever_hits() -> None:
    traffic, inputs = Traffic(hit=2 * MODEL), repeated(10)
    traffic.until(True, inputs, 3000)
    for _ in range(50_000):
        traffic.predict(next(inputs))
    [event] = traffic.events
    assert isinstance(event, CachePaused)
    assert event.break_even == math.inf


def test_if_it_was_used_again_too_early_it_waits_longer_the_next_time() -> None:
    traffic, inputs = Traffic(), different()
    traffic.until(True, inputs, 1001)
    traffic.until(False, repeated(10), 30_000)
    assert traffic.until(True, inputs, 5000) > 1500


def test_an_input_without_a_key_is_predicted_directly() -> None:
    def encode() -> bytes:
        raise NotCacheableError("no key")

    traffic = Traffic()
    traffic.until(True, different(), 1001)
    assert not traffic.gate.looks_up(0.1, encode)


def test_nothing_is_decided_before_the_models_time_is_known() -> None:
    traffic = Traffic()
    for _ in range(5000):
        traffic.gate.heard(HIT_OUTCOME)
    assert not traffic.gate.direct


def gates(events: list[Event]) -> Gates:
    return Gates(events.append, random.Random(1).random)


def test_batches_are_decided_on_apart_from_single_predictions() -> None:
    events: list[Event] = []
    both = gates(events)
    row = MISS._replace(batch_size=100)
    for _ in range(100 * 32):
        both.heard(row)
    assert both.of("model", "1", batches=True).direct
    assert not both.of("model", "1", batches=False).direct
    [event] = events
    assert isinstance(event, CachePaused)
    assert event.batches


def test_each_version_is_decided_on_alone() -> None:
    both = gates([])
    for _ in range(1000):
        both.heard(MISS)
    assert both.of("model", "1", batches=False).direct
    assert not both.of("model", "2", batches=False).direct


def test_refreshes_say_nothing() -> None:
    both = gates([])
    for _ in range(5000):
        both.heard(MISS._replace(refreshed=True))
    assert not both.of("model", "1", batches=False).direct

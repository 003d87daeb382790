"""The circuit breaker, with a clock that the tests advance."""

from __future__ import annotations

import threading

import pytest

from model_cache.stores.breaker import CircuitBreaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(clock, lambda: 1.0, threshold=3, first_pause=0.1, longest_pause=1.0)


def opened(breaker: CircuitBreaker) -> CircuitBreaker:
    assert [breaker.failed() for _ in range(3)] == [False, False, True]
    return breaker


def test_it_opens_after_failures_in_a_row(breaker: CircuitBreaker) -> None:
    for _ in range(5):
        breaker.failed()
        breaker.failed()
        for _ in range(18):
            assert breaker.succeeded() is False
        assert breaker.allows()
    opened(breaker)
    assert breaker.state == "open"
    assert not breaker.allows()


def test_it_opens_when_half_of_the_calls_fail(breaker: CircuitBreaker) -> None:
    # Never three in a row.
    assert [breaker.failed() or breaker.succeeded() for _ in range(9)] == [False] * 9
    breaker.succeeded()
    assert breaker.failed()  # the tenth of twenty
    assert breaker.state == "open"


def test_it_opens_when_more_than_half_of_an_odd_number_of_calls_fail(clock: Clock) -> None:
    breaker = CircuitBreaker(clock, lambda: 1.0, window=3)
    assert [breaker.failed() for _ in range(2)] == [False, True]


def test_a_full_window_is_followed_by_an_empty_one(breaker: CircuitBreaker) -> None:
    for _ in range(9):
        breaker.failed()
        breaker.succeeded()
    breaker.succeeded()
    breaker.succeeded()
    # The tenth failure, but the first in its window.
    assert [breaker.failed() or breaker.succeeded() for _ in range(9)] == [False] * 9
    assert breaker.failed()


def test_a_few_failures_among_many_successes_do_not_open_it(breaker: CircuitBreaker) -> None:
    for _ in range(50):
        breaker.failed()
        breaker.failed()
        for _ in range(10):
            breaker.succeeded()
        assert breaker.state == "closed"


def test_one_probe_at_a_time_and_success_closes_it(breaker: CircuitBreaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += 0.1
    assert [breaker.allows() for _ in range(5)] == [True, False, False, False, False]
    assert breaker.succeeded() is True
    assert breaker.state == "closed"
    assert breaker.allows()


def test_the_pause_doubles_up_to_the_longest(breaker: CircuitBreaker, clock: Clock) -> None:
    opened(breaker)
    pauses = []
    for _ in range(6):
        started = clock.now
        while not breaker.allows():
            clock.now += 0.01
        pauses.append(round(clock.now - started, 2))
        assert breaker.failed() is False
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_calls_that_were_under_way_when_it_opened_do_not_lengthen_the_pause(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    opened(breaker)
    clock.now += 0.05
    assert [breaker.failed() for _ in range(50)] == [False] * 50
    clock.now += 0.05
    assert breaker.allows()


def test_after_closing_the_pause_is_short_again(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(2):
        opened(breaker)
        clock.now += 0.1
        assert breaker.allows()
        breaker.succeeded()


def test_a_probe_that_never_reports_is_followed_by_another(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    opened(breaker)
    clock.now += 0.1
    assert breaker.allows()
    clock.now += 0.1
    assert breaker.allows()


def test_jitter_only_shortens_the_pause(clock: Clock) -> None:
    breaker = opened(CircuitBreaker(clock, lambda: 0.0, first_pause=0.1))
    clock.now += 0.05
    assert breaker.allows()


def test_many_threads_get_one_probe(breaker: CircuitBreaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += 0.1
    ready, allowed = threading.Barrier(16), []

    def ask() -> None:
        ready.wait()
        allowed.append(breaker.allows())

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(allowed) == 1


def test_a_success_without_failures_closes_nothing(breaker: CircuitBreaker) -> None:
    assert breaker.succeeded() is False


def test_without_other_settings_the_first_pause_is_short_but_not_empty(clock: Clock) -> None:
    breaker = opened(CircuitBreaker(clock, lambda: 1.0))
    assert not breaker.allows()
    clock.now += 0.5
    assert breaker.allows()


def test_without_other_settings_the_longest_pause_is_a_second(clock: Clock) -> None:
    breaker = opened(CircuitBreaker(clock, lambda: 1.0))
    for _ in range(10):
        clock.now += 1.0
        assert breaker.allows()
        breaker.failed()
    clock.now += 0.9
    assert not breaker.allows()

"""In whatever order the effects of calls happen, no answer is older than a barrier.

Nor is it from a version that the model no longer has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from model_cache.prediction import backend, lease, sync, time_to_live, verifying
from model_cache.prediction.effects import Budget
from tests.properties.fleet import FAULTS, NEAR_TTL, Fleet, Make, Table, decorated
from tests.properties.schedules import Clock
from tests.servers import Server

NEAR = {"near_cache": 100, "near_ttl": NEAR_TTL}
STALE = {"ttl": 5.0, "stale_if_error": 600.0, **NEAR}
PACKED = {"layout": "packed", "expected_entries": 1000, **NEAR}
EACH: dict[str, Any] = {
    "plain": [{}, {}, {}],
    "near": [NEAR, NEAR, NEAR],
    "near in some": [NEAR, {}, NEAR],
    "background": [{"write": "background", **NEAR}, NEAR, {"write": "background"}],
    "fleet": [{"single_flight": "fleet"}, {"single_flight": "fleet"}, {"single_flight": "fleet"}],
    "off": [{"single_flight": "off", **NEAR}, {"single_flight": "off"}, NEAR],
    "stale": [STALE, STALE, STALE],
    "revalidate": [{**STALE, "stale_while_revalidate": 600.0}] * 3,
    "packed": [PACKED, PACKED, PACKED],
    "verify": [{"verify": 1.0, "verify_limit": None, **NEAR}] * 3,
}
WHATS = (
    *("predict_one", "predict_many", "lookup", "refresh", "forget", "purge"),
    *("predict_one", "predict_one", "lookup"),
)
FAST = settings(phases=set(Phase) - {Phase.explain})  # it takes longer than all the rest
ENDS = (*["well"] * 8, *FAULTS, "raises", "timeout", "full")

numbers, times = st.integers(0, 2), st.sampled_from((0, 1, 2, 3, 4, 5, 6, 8, 10, 99))
keys = st.lists(st.sampled_from((0, 0, 0, 1)), min_size=1, max_size=3)
goes = st.tuples(st.integers(0, 4), st.sampled_from(ENDS), times)
"""A call in progress, how its next effect ends, and how many more of it are performed."""
waits = st.sampled_from((0.02, 0.2, 1.1, 1.1, 6.0))
"""How many seconds pass."""


def schedules(whats: tuple[str, ...]) -> st.SearchStrategy[list[Any]]:
    """Return schedules in which caches begin some of these calls."""
    # A cache, what it begins, for which inputs, and how many effects of it are performed.
    begins = st.tuples(numbers, st.sampled_from(whats), keys, times)
    moves = st.lists(st.one_of(begins, goes, goes, waits), min_size=1, max_size=8)
    return st.lists(moves, max_size=6)


CHECKED = [
    *[(0, "predict_one", [0], 8), (2, "predict_one", [0], 3), (0, "forget", [0], 4)],
    *[(0, "well", 4), 1.1, (2, "predict_one", [0], 1), 0.2, (0, "predict_one", [0], 0)],
    (2, "predict_one", [0], 2),
]
"""Finds a check of a near entry that answers with another one."""
LANDED = [(0, "predict_one", [0], 6), (0, "forget", [0], 99), (0, "predict_one", [0], 99)]
"""Finds an entry that is shared with callers who began after a barrier."""
READ_MEANWHILE = [1.1, (0, "forget", [0], 3), (2, "lookup", [0], 99), (2, "lookup", [0], 99)]
"""Finds a forget that does not outdate what was read between its beginning and its end."""
UNWRITTEN = [(0, "refresh", [0], 2), (0, "unsent", 99)]
"""Finds a refresh whose write failed, and that does not hide the older entry."""
OVERTAKEN = [(0, "predict_one", [0], 5), (1, "refresh", [0], 99)]
"""Finds a refresh that does not overtake the computations in progress."""
ERASED = [
    *[(2, "predict_one", [0], 6), (0, "forget", [0], 99), (0, "well", 0)],
    (0, "lookup", [0], 99),
]
"""Finds a near cache that keeps what another process has stored too late, and erased."""

REFRESHED = [(2, "predict_one", [0], 6), (0, "refresh", [0], 99), (0, "well", 99), 1.1]
"""Finds a refresh that what another process began before it undoes."""
REFRESHED_NEAR = [(0, "refresh", [0], 99), 1.1, (2, "lookup", [0], 99)]
"""Finds a refresh that the near caches of other processes do not learn of."""

UNCHECKED = [(2, "forget", [0], 99), 1.1, (0, "predict_one", [0], 1), (0, "unsent", 99)]
"""Finds a near cache that answers although the check of the generation has failed."""

RELOADED = [
    *[(0, "predict_one", [0], 3), (0, "reload", [0], 99), (0, "well", 99)],
    (2, "lookup", [0], 99),
]
"""Finds an answer of a new version that is stored under the key of the one before."""

REPLACED = [
    *[(0, "predict_one", [0], 99), (0, "refresh", [0], 4), 0.2, (0, "well", 99)],
    *[(0, "predict_one", [0], 2), (1, "predict_one", [0], 99), (1, "predict_one", [0], 99)],
    (0, "well", 99),
]
"""Finds an entry that a reply brings late: it was replaced after a refresh that had failed."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (backend, sync, time_to_live, verifying):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(Budget.__init__, "__defaults__", (clock.perf_counter,))
    monkeypatch.setattr(time_to_live, "_jitter", lambda: 0.0)
    monkeypatch.setattr(lease, "_LEASE_SECONDS", 600.0)
    return clock


def followed(fleet: Fleet, schedule: list[Any]) -> None:
    """Follow a schedule, and finish the calls in progress."""
    for step in (step for moves in schedule for step in moves):
        match step:
            case float():
                fleet.schedule.advance(step)
            case (number, what, keys, times):
                fleet.schedule.run(fleet.begin(number, what, keys), times)
            case (place, how, times):
                tasks = fleet.schedule.tasks if how == "timeout" else fleet.schedule.ready()
                if tasks:
                    task = tasks[place % len(tasks)]
                    fleet.schedule.go(task, how)
                    fleet.schedule.run(task, times)
    fleet.settle()


@contextmanager
def followed_by(
    server: Server, clock: Clock, make: Make, options: list[dict[str, Any]]
) -> Iterator[Callable[[bool, list[Any]], None]]:
    """Return a function that checks schedules, each on new caches, warm or cold."""
    client, stores = server.client(), list[Any]()

    def check(warm: bool, schedule: list[Any]) -> None:
        client.flushall()
        clock.now = 1000.0
        fleet = Fleet(server.url, clock, make, options, stores)
        try:
            if warm:
                fleet.warm()
            followed(fleet, schedule)
        finally:
            fleet.schedule.end()

    try:
        yield check
    finally:
        for each in (client, *stores):
            each.close()


@pytest.mark.parametrize("options", EACH.values(), ids=EACH)
def test_no_answer_is_older_than_a_barrier(
    options: list[dict[str, Any]], server: Server, clock: Clock
) -> None:
    @FAST
    @given(st.booleans(), schedules((*WHATS, "store", "deploy", "reload")))
    @example(False, [CHECKED])
    @example(False, [LANDED])
    @example(True, [READ_MEANWHILE])
    @example(True, [UNWRITTEN])
    @example(False, [OVERTAKEN])
    @example(False, [ERASED])
    @example(False, [REFRESHED])
    @example(True, [REFRESHED_NEAR])
    @example(True, [UNCHECKED])
    @example(False, [REPLACED])
    @example(False, [RELOADED])
    def check(warm: bool, schedule: list[Any]) -> None:
        check_one(warm, schedule)

    with followed_by(server, clock, decorated, options) as check_one:
        check()


@pytest.mark.parametrize("options", EACH.values(), ids=EACH)
def test_no_row_of_a_table_is_older_than_a_barrier(
    options: list[dict[str, Any]], server: Server, clock: Clock
) -> None:
    @FAST
    @given(st.booleans(), schedules(WHATS))
    @example(False, [LANDED])
    @example(True, [UNWRITTEN])
    @example(False, [OVERTAKEN])
    @example(False, [REFRESHED])
    @example(True, [REFRESHED_NEAR])
    @example(True, [UNCHECKED])
    @example(False, [REPLACED])
    def check(warm: bool, schedule: list[Any]) -> None:
        check_one(warm, schedule)

    with followed_by(server, clock, Table, options) as check_one:
        check()

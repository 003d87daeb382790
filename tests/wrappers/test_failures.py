"""Whatever the store and the callers do, functions and rows get the right answers."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import numpy as np
import pytest

from model_cache import Cache, StoreUnavailableError
from tests.prediction.crowds import all_at_once
from tests.servers import Server, running_server
from tests.signals import signals_every
from tests.waiting import poll
from tests.wrappers.tables_under_test import same

ROWS = np.arange(2500)


@pytest.fixture
def own_server() -> Iterator[Server]:
    with running_server() as server:
        yield server


def half(rows: Any) -> Any:
    return np.asarray(rows) / 2


def answer(x: int) -> list[int]:
    return [x] * 3


FAILURES: dict[str, Callable[[Server], None]] = {"dead": Server.kill, "frozen": Server.freeze}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("known", [False, True])
def test_the_store_fails(own_server: Server, failure: str, known: bool) -> None:
    with (
        Cache(own_server.url, timeout=0.5) as cache,
        Cache(own_server.url, timeout=0.5, on_error="raise") as strict,
    ):
        rows = [each.memoize_rows(version="1")(half) for each in (cache, strict)]
        calls = [each.memoize(version="1")(answer) for each in (cache, strict)]
        if known:
            for each in rows:
                each(ROWS[:1500])
            for function in calls:
                function(1)
        FAILURES[failure](own_server)
        for _ in range(2):
            assert same(rows[0](ROWS), half(ROWS))
            assert calls[0](1) == answer(1)
            with pytest.raises(StoreUnavailableError):
                rows[1](ROWS)
            with pytest.raises(StoreUnavailableError):
                calls[1](1)
        assert rows[0].stats().unavailable == 2 * len(ROWS)
        own_server.thaw() if failure == "frozen" else own_server.start()


def test_the_store_dies_while_the_function_runs(own_server: Server) -> None:
    def dying(rows: Any) -> Any:
        own_server.kill()
        return half(rows)

    with Cache(own_server.url, timeout=0.5, batch_equality="ignore") as cache:
        rows = cache.memoize_rows(version="1", name="dying", revision="1")(dying)
        assert same(rows(ROWS), half(ROWS))
        assert rows.stats().write_failures == len(ROWS)
        assert same(rows(ROWS), half(ROWS))


def test_the_store_dies_between_the_chunks_of_a_lookup(own_server: Server) -> None:
    with Cache(own_server.url, timeout=0.5) as cache:
        rows = cache.memoize_rows(version="1")(half)
        rows(np.arange(12_000))
        killer = threading.Timer(0.02, own_server.kill)
        killer.start()
        for _ in range(3):
            assert same(rows(np.arange(12_000)), half(np.arange(12_000)))
        killer.join()


def test_an_exception_is_the_functions_own_and_nothing_stays_locked(cache: Cache) -> None:
    class OddError(Exception):
        pass

    fails = True

    def odd(rows: list[int]) -> list[int]:
        if fails:
            raise OddError(rows)
        return rows

    cached = cache.memoize_rows(version="1", name="odd", revision="1")(odd)
    for _ in range(2):
        with pytest.raises(OddError):
            cached([1, 2, 3])
    assert cached.stats().errors == 6
    fails = False
    assert cached([1, 2, 3]) == [1, 2, 3]


@pytest.mark.parametrize("near", [None, 10_000])
def test_stale_rows_answer_when_the_function_fails(server: Server, near: int | None) -> None:
    fails = False

    def odd(rows: list[int]) -> list[float]:
        if fails:
            raise ValueError("no answer")
        return [row / 2 for row in rows]

    with Cache(server.url, ttl=0.2, stale_if_error=60, near_cache=near) as cache:
        cached = cache.memoize_rows(version="1", name="odd", revision="1")(odd)
        cached([1, 2])
        fails = True
        time.sleep(0.3)
        assert cached([1, 2, 1]) == [0.5, 1.0, 0.5]
        with pytest.raises(ValueError, match="no answer"):
            cached([1, 2, 3])
        fails = False
        assert cached([1, 2, 3]) == [0.5, 1.0, 1.5]


@pytest.mark.parametrize("changes", [False, True])
def test_rows_computed_anew_in_the_background_are_those_of_the_call(
    server: Server, changes: bool
) -> None:
    go = threading.Event()
    go.set()

    def slow(rows: Any) -> Any:
        assert go.wait(10)
        return np.asarray(rows) * 2

    options: Any = {"ttl": 0.3, "stale_while_revalidate": 60, "batch_equality": "ignore"}
    with Cache(server.url, timeout=5.0, **options) as cache:
        cached = cache.memoize_rows(version="1", name="slow", revision="1")(slow)
        cached(np.array([1.0, 2.0]))
        time.sleep(0.4)
        go.clear()
        rows = np.array([1.0, 2.0])
        assert cached(rows).tolist() == [2.0, 4.0]
        if changes:
            rows[:] = 50.0  # while the background computes
        go.set()
        if not changes:
            poll(lambda: cached.stats().revalidated == 2)
        cache.close()
        assert cached(np.array([1.0, 2.0])).tolist() == [2.0, 4.0]


def test_arguments_that_change_are_not_stored_under_their_old_values(server: Server) -> None:
    go = threading.Event()
    go.set()

    def total(numbers: list[int]) -> int:
        assert go.wait(10)
        return sum(numbers)

    with Cache(server.url, timeout=5.0, ttl=0.3, stale_while_revalidate=60) as cache:
        cached = cache.memoize(version="1", name="total", revision="1")(total)
        cached([1, 2])
        time.sleep(0.4)
        go.clear()
        numbers = [1, 2]
        assert cached(numbers) == 3
        numbers.append(100)
        go.set()
        cache.close()
        assert cached([1, 2]) == 3


def test_many_threads_and_purges_at_once(server: Server) -> None:
    with (
        Cache(server.url, near_cache=5000, batch_equality="ignore") as cache,
        Cache(server.url, near_cache=5000, batch_equality="ignore") as other,
    ):
        rows = [each.memoize_rows(version="1")(half) for each in (cache, other)]
        calls = [each.memoize(version="1")(answer) for each in (cache, other)]

        def work(number: int) -> bool:
            random = np.random.default_rng(number)
            for turn in range(6):
                which = (number + turn) % 2
                some = random.integers(0, 3000, 1500)
                assert same(rows[which](some), half(some))
                assert calls[which](turn) == answer(turn)
                if turn % 5 == number % 5:
                    (rows if number % 2 else calls)[which].cache_clear()
            return True

        assert all(all_at_once(8, work))


def test_what_was_computed_before_a_purge_is_not_served_after(server: Server) -> None:
    for near in (None, 1000):
        world = [1]
        with Cache(server.url, near_cache=near, ttl=60, stale_if_error=60) as cache:
            started, go = threading.Event(), threading.Event()

            def scaled(rows: Any) -> Any:
                weight = world[0]  # noqa: B023
                started.set()  # noqa: B023
                assert go.wait(10)  # noqa: B023
                return np.asarray(rows) * weight

            cached = cache.memoize_rows(
                version=f"{near}", name="scaled", revision="1", batch_equality="ignore"
            )(scaled)
            before = threading.Thread(target=cached, args=(np.arange(3),))
            before.start()
            assert started.wait(10)
            world[0] = 2
            cached.cache_clear()
            go.set()
            before.join()
            for _ in range(2):
                assert cached(np.arange(3)).tolist() == [0, 2, 4]


@pytest.mark.parametrize("options", [{}, {"integrity": True}, {"ttl": 60, "stale_if_error": 60}])
def test_a_purge_at_any_moment_of_a_lookup_is_a_barrier(
    server: Server, options: dict[str, Any]
) -> None:
    world = [0]

    async def scaled(rows: Any) -> Any:
        return np.asarray(rows) + world[0]

    async def run(cache: Cache) -> None:
        cached = cache.memoize_rows(
            version="1", name="scaled", revision="1", batch_equality="ignore"
        )(scaled)
        for moments in range(0, 16, 4):
            await cached(ROWS[:1200])
            call = asyncio.create_task(cached(ROWS[:1200]))
            for _ in range(moments):
                await asyncio.sleep(0.0005 if moments % 8 else 0)
            world[0] += 1
            await asyncio.to_thread(cached.cache_clear)
            await call
            assert same(await cached(ROWS[:1200]), ROWS[:1200] + world[0])
        await cache.aclose()

    with Cache(server.url, near_cache=5000, **options) as cache:
        asyncio.run(run(cache))


def test_functions_that_call_each_other_do_not_wait_for_each_other(cache: Cache) -> None:
    def sums(rows: list[int]) -> list[int]:
        """Return the sum of the numbers up to each row."""
        if not rows:
            return []
        below = cached([row - 1 for row in rows if row > 0])
        found = dict(zip([row for row in rows if row > 0], below, strict=True))
        return [row + found[row] if row else 0 for row in rows]

    cached = cache.memoize_rows(version="1", name="sums", revision="1")(sums)

    def work(number: int) -> bool:
        rows = np.random.default_rng(number).permutation(12).tolist()
        return cached(rows) == [row * (row + 1) // 2 for row in rows]

    assert all(all_at_once(8, work))


def test_those_who_wait_for_a_function_that_raises_get_its_error(cache: Cache) -> None:
    def failing(rows: list[int]) -> list[int]:
        time.sleep(0.05)  # the function's own time
        raise ValueError("no answer")

    cached = cache.memoize_rows(version="1", name="failing", revision="1")(failing)

    def work(number: int) -> bool:
        with pytest.raises(ValueError, match="no answer"):
            cached([1, 2, number])
        return True

    assert all(all_at_once(8, work))


def test_a_function_that_raises_does_not_wait_for_rows_of_other_callers(cache: Cache) -> None:
    begun, ended = threading.Event(), threading.Event()
    calls: list[list[int]] = []

    def odd(rows: list[int]) -> list[int]:
        calls.append(rows)
        if 2 in rows:
            raise ValueError("no answer")
        begun.set()
        assert ended.wait(10)
        return rows

    cached = cache.memoize_rows(version="1", name="odd", revision="1")(odd)
    with ThreadPoolExecutor() as pool:
        other = pool.submit(cached, [1])
        assert begun.wait(10)
        with pytest.raises(ValueError, match="no answer"):
            cached([1, 2])
        ended.set()
        assert other.result() == [1]
    assert calls == [[1], [2]]


class Interrupted(Exception):
    pass


def test_a_soft_time_limit_at_any_moment_leaves_the_rows_right(server: Server) -> None:
    armed = False

    def interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise Interrupted

    with Cache(server.url, near_cache=500, batch_equality="ignore") as cache:
        cached = cache.memoize_rows(version="1")(half)
        interrupted, deadline = 0, time.monotonic() + 1.5
        with signals_every(0.003, interrupt):
            while time.monotonic() < deadline:
                some = np.random.default_rng(interrupted).integers(0, 2000, 300)
                try:
                    armed = True
                    answer = cached(some)
                    armed = False
                except Interrupted:
                    interrupted += 1
                else:
                    assert same(answer, half(some))
        assert interrupted > 10
        assert same(cached(ROWS), half(ROWS))
        assert same(cached(ROWS), half(ROWS))


def test_rows_of_a_cancelled_call_are_computed_by_those_who_wait(server: Server) -> None:
    async def run(cache: Cache) -> None:
        calls = []

        async def slow(rows: list[int]) -> list[int]:
            calls.append(rows)
            await asyncio.sleep(0.05 if len(calls) > 1 else 30)
            return [2 * row for row in rows]

        cached = cache.memoize_rows(
            version="1", name="slow", revision="1", batch_equality="ignore"
        )(slow)
        first = asyncio.create_task(cached([1, 2, 3]))
        await asyncio.sleep(0.1)
        others = [asyncio.create_task(cached([n, n + 1])) for n in (1, 2, 3)]
        await asyncio.sleep(0.1)
        first.cancel()
        answers = await asyncio.wait_for(asyncio.gather(*others), 5)
        assert answers == [[2, 4], [4, 6], [6, 8]]
        with pytest.raises(asyncio.CancelledError):
            await first

    with Cache(server.url, timeout=5.0) as cache:
        asyncio.run(run(cache))


def test_forked_children_answer_and_leave_the_parent_alone(cache: Cache) -> None:
    rows, call = cache.memoize_rows(version="1")(half), cache.memoize(version="1")(answer)

    def all_right() -> bool:
        return all(
            same(rows(np.arange(n, n + 50)), half(np.arange(n, n + 50))) and call(n) == answer(n)
            for n in range(60)
        )

    assert all_right()
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            os._exit(0 if all_right() else 1)
        children.append(child)
    assert all_right()
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 3

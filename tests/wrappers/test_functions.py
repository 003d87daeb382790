"""A cached function returns what the function alone returns, and is called like it."""

from __future__ import annotations

import asyncio
import functools
import gc
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from weakref import ref

import numpy as np
import pandas as pd
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from model_cache import (
    Cache,
    ConfigurationError,
    bypass,
    do_not_store,
    last_outcome,
    record_outcomes,
    refresh,
)
from tests.servers import Server
from tests.stored import entries
from tests.waiting import poll
from tests.wrappers.functions_under_test import OPTIONS
from tests.wrappers.tables_under_test import same


class Point(NamedTuple):
    x: int
    y: float


VALUES: list[Any] = [
    0,
    False,
    0.0,
    -0.0,
    np.int64(0),
    np.float32(0),
    np.bool_(False),
    np.array(0),
    np.array([0]),
    "",
    b"",
    "0",
    None,
    (),
    [],
    {},
    set(),
    frozenset(),
    (0,),
    [0],
    {"a": 1, "b": 2},
    {"b": 2, "a": 1},
    {0: 1},
    {"0": 1},
    float("nan"),
    2**80,
    1 + 2j,
    Point(1, 2.0),
    (1, 2.0),
    np.array([[1.0, np.nan]]),
    pd.Timestamp("2024-01-01", tz="Europe/Berlin"),
    pd.Series([1, 2], index=[5, 5]),
    pd.DataFrame({"a": [1, 2]}),
    pd.NA,
    *(
        pd.date_range("2024-01-31", periods=2, freq=freq)
        for freq in (
            "ME",
            pd.offsets.MonthEnd(normalize=True),
            pd.offsets.CustomBusinessDay(),
            pd.offsets.CustomBusinessDay(holidays=["2025-01-01"]),
        )
    ),
]


def shown(value: Any) -> str:
    dtype = getattr(value, "dtype", None)
    freq = getattr(value, "freq", None)
    of_freq = [getattr(freq, name, None) for name in ("normalize", "holidays")]
    details = f"{dtype} {getattr(value, 'ndim', None)} {of_freq}"
    return f"{type(value).__qualname__} {details} {value!r}"


def test_values_that_a_function_can_tell_apart_do_not_share_an_entry(cache: Cache) -> None:
    cached = cache.memoize(version="1", name="shown")(shown)
    for _ in range(2):
        for value in VALUES:
            assert cached(value) == shown(value)
    assert cached.stats().misses + cached.stats().uncacheable // 2 == len(VALUES)


@pytest.mark.parametrize("number", range(len(VALUES)))
def test_every_result_comes_back_as_it_is(cache: Cache, number: int) -> None:
    cached = cache.memoize(version="1", name="f")(lambda: VALUES[number])
    for _ in range(3):
        assert same(cached(), VALUES[number])


SIGNATURES: list[Any] = [
    lambda a, b=2, *rest, c=3, **others: (a, b, rest, c, others),
    lambda a, b=2, /, *, c=3: (a, b, c),
    lambda *args, **kwargs: (args, kwargs),
    lambda a=1, b=None: (a, b),
]


@pytest.mark.parametrize("number", range(len(SIGNATURES)))
@settings(max_examples=40)
@given(
    args=st.lists(st.integers(0, 2), max_size=4),
    kwargs=st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2), max_size=3),
)
def test_arguments_are_bound_as_python_does(
    server: Server, number: int, args: list[int], kwargs: dict[str, int]
) -> None:
    function = SIGNATURES[number]
    cached = _cache_for(server.url).memoize(version=str(number), name="signatures")(function)
    for _ in range(2):
        assert _outcome(cached, args, kwargs) == _outcome(function, args, kwargs)


def _outcome(function: Any, args: list[int], kwargs: dict[str, int]) -> str:
    try:
        return repr(function(*args, **kwargs))
    except TypeError as error:
        return str(error)


@functools.lru_cache(1)
def _cache_for(url: str) -> Cache:
    return Cache(url)


def test_position_keyword_and_default_are_one_key(cache: Cache) -> None:
    @cache.memoize(version="1", ignored=["session"])
    def scaled(x: int, by: int = 2, session: object = None) -> int:
        return x * by

    keys = {
        scaled.cache_key(1),
        scaled.cache_key(1, 2),
        scaled.cache_key(x=1),
        scaled.cache_key(by=2, x=1),
        scaled.cache_key(1, session=object()),
    }
    assert len(keys) == 1
    assert scaled.cache_key(1, 3) not in keys


def test_a_decorator_may_have_a_default_of_its_own(cache: Cache) -> None:
    def with_default(function: Any) -> Any:
        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            kwargs.setdefault("by", 5)
            return function(*args, **kwargs)

        return inner

    @with_default
    def scaled(x: int, by: int = 2) -> int:
        return x * by

    @with_default
    def scaled_rows(rows: list[int], by: int = 2) -> list[int]:
        return [row * by for row in rows]

    shown: list[Any] = []

    def note(arguments: dict[str, Any], _: Any) -> bool:
        shown.append(arguments)
        return True

    cached = cache.memoize(version="1", cache_if=note)(scaled)
    cached_rows = cache.memoize_rows(version="1")(scaled_rows)
    for _ in range(2):
        assert (cached(1), cached(1, by=2), cached(x=1, by=5)) == (5, 2, 5)
        assert (cached_rows([1]), cached_rows([1], by=2)) == ([5], [2])
    assert shown == [{"x": 1, "by": 2}, {"x": 1, "by": 2}, {"x": 1, "by": 5}]
    assert cached.stats().hits == 3
    biggest = cache.memoize(version="1", cache_if=lambda _, result: result > 0)(max)
    assert (biggest(3, 4), biggest(3, 4), biggest.cache_info().hits) == (4, 4, 1)


def test_a_mutable_default_counts_with_its_contents(cache: Cache) -> None:
    @cache.memoize(version="1")
    def appended(x: int, seen: list[int] = []) -> list[int]:  # noqa: B006 - on purpose
        seen.append(x)
        return list(seen)

    assert [appended(1), appended(1), appended(2)] == [[1], [1, 1], [1, 1, 2]]


@pytest.mark.parametrize("options", OPTIONS)
def test_each_option_works_with_functions(server: Server, options: str) -> None:
    with Cache(server.url, **OPTIONS[options]) as cache:
        calls: list[int] = []

        @cache.memoize(version="1")
        def half(x: int) -> dict[str, Any]:
            calls.append(x)
            return {"half": np.arange(x) / 2, "text": "x" * 100}

        for _ in range(2):
            for number in range(20):
                assert same(half(number)["half"], np.arange(number) / 2)
            poll(lambda: half.stats().stored == 20)
        assert calls == list(range(20))
        assert half.cache_info()[:2] == (20, 20)


def test_none_and_exceptions(cache: Cache) -> None:
    calls = []

    @cache.memoize(version="1")
    def checked(x: int) -> None:
        calls.append(x)
        if x < 0:
            raise KeyError(x)

    assert [checked(1), checked(1)] == [None, None]
    for _ in range(2):
        with pytest.raises(KeyError):
            checked(-1)
    assert calls == [1, -1, -1]


def test_generators_are_refused_and_iterators_pass_unread(cache: Cache) -> None:
    with pytest.raises(ConfigurationError, match="is a generator"):

        @cache.memoize(version="1")
        def numbers() -> Iterator[int]:
            yield 1

    for made in (iter, map, zip, enumerate, reversed):
        arguments: Any = (str, [1, 2]) if made is map else ([1, 2],)

        def lazy(made: Any = made, arguments: Any = arguments) -> Any:
            return made(*arguments)

        cached = cache.memoize(version="1", name="lazy", ignored=["made", "arguments"])(lazy)
        for _ in range(2):
            assert list(cached()) == list(lazy())


def test_what_holds_state_needs_a_revision(cache: Cache) -> None:
    class Scale:
        def __init__(self, by: int) -> None:
            self.by = by

        def scaled(self, x: int) -> int:
            return x * self.by

        __call__ = scaled

    for function in (Scale(2).scaled, Scale(2), functools.partial(max, 2)):
        with pytest.raises(ConfigurationError, match="revision"):
            cache.memoize(version="1")(function)
    for by in (2, 3):
        for function in (Scale(by).scaled, Scale(by)):
            name = type(function).__name__
            cached = cache.memoize(version="1", name=name, revision=str(by))(function)
            assert cached(5) == 5 * by


def test_methods_ignore_self(cache: Cache) -> None:
    with pytest.raises(ConfigurationError, match="self"):
        cache.memoize(version="1")(_Scaler.scaled)

    class Scaler:
        @cache.memoize(version="1", ignored=["self"])
        def doubled(self, x: int) -> int:
            return 2 * x

        @staticmethod
        @cache.memoize(version="1")
        def halved(x: int) -> float:
            return x / 2

        @classmethod
        @cache.memoize(version="1", ignored=["cls"])
        def tripled(cls, x: int) -> int:
            return 3 * x

    tripled: Any = Scaler.tripled  # type checkers do not bind `cls`
    for _ in range(2):
        assert (Scaler().doubled(4), Scaler.halved(4), tripled(4)) == (8, 2.0, 12)
    assert tripled.cache_info().hits == 1


class _Scaler:
    def scaled(self, x: int) -> int:
        return x


def test_functions_written_in_c(cache: Cache) -> None:
    for _ in range(2):
        assert cache.memoize(version="1")(math.hypot)(3, 4) == 5.0
        assert cache.memoize(version="1")(max)(3, 4) == 4
        assert cache.memoize(version="1", name="add", revision="1")(np.add)(3, 4) == 7


def test_two_functions_under_one_name_are_refused(server: Server, cache: Cache) -> None:
    def one(x: int) -> int:
        return x

    def two(x: int) -> int:
        return -x

    first = cache.memoize(version="1", name="same")(one)
    with pytest.raises(ConfigurationError, match=r"already the name of .*one"):
        cache.memoize(version="1", name="same")(two)
    with pytest.raises(ConfigurationError, match=r"already the name of .*one"):
        cache.memoize_rows(version="1", name="same")(two)
    assert cache.memoize(version="1", name="same", revision="2")(two)(5) == -5
    assert cache.memoize(version="1", name="same", prefix="p")(two)(5) == -5
    assert first(5) == 5
    del first, one
    assert cache.memoize(version="1", name="same")(two)(5) == -5


def test_functions_of_one_qualified_name_differ_by_their_code_and_closure(cache: Cache) -> None:
    def scaler(by: int) -> Any:
        return cache.memoize(version="1")(lambda x: x * by)

    two, three = scaler(2), scaler(3)
    for _ in range(2):
        assert (two(5), three(5)) == (10, 15)


def test_a_decorated_function_does_not_share_the_entries_of_the_bare_one(cache: Cache) -> None:
    def times(by: int) -> Callable[[Callable[[int], int]], Callable[[int], int]]:
        def decorate(function: Callable[[int], int]) -> Callable[[int], int]:
            @functools.wraps(function)
            def inner(x: int) -> int:
                return by * function(x) if x else inner(1) - by

            return inner

        return decorate

    bare = cache.memoize(version="1")(_identical)
    assert bare(5) == 5
    for _ in range(2):  # a module may be reloaded
        doubled = cache.memoize(version="2")(times(2)(_identical))
        assert doubled(5) == 10
        assert cache.memoize(version="2")(doubled)(5) == 10
    for version, function in (("1", times(2)(_identical)), ("2", times(3)(_identical))):
        with pytest.raises(ConfigurationError, match=r"_identical \(decorated: .*inner\)"):
            cache.memoize(version=version)(function)


def _identical(x: int) -> int:
    return x


SCRIPT = """
import multiprocessing, sys
from model_cache import Cache

cache = Cache(sys.argv[1], timeout=5.0)

@cache.memoize(version="1")
def scaled(x):
    return FACTOR * x

def key(x):
    return scaled.cache_key(x)

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(key(7) == pool.apply(key, [7]), pool.apply(scaled, [7]))
    cache.close()
"""


def test_processes_of_two_scripts_do_not_share_entries(server: Server, tmp_path: Path) -> None:
    for factor in (2, 3):
        script = tmp_path / f"script_{factor}.py"
        script.write_text(SCRIPT.replace("FACTOR", str(factor)))
        command = [sys.executable, str(script), server.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        assert done.stdout.split() == ["True", str(7 * factor)]


def test_a_function_that_calls_another_and_does_not_want_to_be_stored(
    cache: Cache, client: redis.Redis
) -> None:
    calls = []

    @cache.memoize(version="1")
    def inner(x: int) -> int:
        calls.append(x)
        if x < 0:
            do_not_store()
        return x + 1

    @cache.memoize(version="1", revision="1")  # `inner` in the closure can't be identified
    def outer(x: int) -> int:
        return 2 * inner(x)

    assert [outer(1), outer(1), inner(1)] == [4, 4, 2]
    assert [outer(-1), outer(-1)] == [0, 0]
    assert calls == [1, -1, -1]
    assert len(entries(client)) == 2


def test_bypass_refresh_and_outcomes(cache: Cache) -> None:
    calls: list[int] = []

    @cache.memoize(version="1")
    def counted(x: int) -> int:
        calls.append(x)
        return len(calls)

    assert counted(1) == 1
    with bypass():
        assert counted(1) == 2
    assert counted(1) == 1
    with refresh(), record_outcomes() as outcomes:
        assert counted(1) == 3
    assert [(each.kind, each.refreshed) for each in outcomes] == [("miss", True)]
    assert counted(1) == 3
    outcome = last_outcome()
    assert outcome is not None
    assert outcome.kind == "hit"
    assert counted.cache_clear() == 1
    assert counted(1) == 4


def test_a_damaged_entry_is_computed_again_and_healed(server: Server, client: redis.Redis) -> None:
    for integrity in (False, True):
        with Cache(server.url, integrity=integrity) as cache:
            calls: list[int] = []

            def answer(x: int, calls: Any = calls) -> list[Any]:
                calls.append(x)
                return [x, float(x)]

            cached = cache.memoize(version=f"{integrity}", name="answer", ignored=["calls"])(answer)
            assert cached(1) == [1, 1.0]
            (key,) = entries(client, f"*/{integrity}/*")
            for data in (b"", b"\xc1", b"\xff" * 9, (client.get(key) or b"")[:-1]):
                client.set(key, data)
                calls.clear()
                assert [cached(1), cached(1)] == [[1, 1.0]] * 2
                assert calls == [1]


def test_async_functions_in_several_loops(server: Server) -> None:
    with Cache(server.url, near_cache=100) as cache:
        calls: list[int] = []

        @cache.memoize(version="1")
        async def doubled(x: int) -> int:
            calls.append(x)
            await asyncio.sleep(0.001)
            if x < 0:
                raise ValueError(x)
            return 2 * x

        @cache.memoize_rows(version="1")
        async def halved(rows: list[int]) -> list[float]:
            await asyncio.sleep(0.001)
            return [row / 2 for row in rows]

        async def several() -> list[Any]:
            answers = await asyncio.gather(*(doubled(number % 5) for number in range(50)))
            with pytest.raises(ValueError, match="-1"):
                await doubled(-1)
            with pytest.raises(TypeError):
                await doubled(1, 2)  # type: ignore[call-arg]
            tables = await asyncio.gather(*(halved(list(range(n, n + 9))) for n in range(9)))
            assert tables == [[row / 2 for row in range(n, n + 9)] for n in range(9)]
            return answers

        for _ in range(3):
            assert asyncio.run(several()) == [2 * (number % 5) for number in range(50)]
        assert sorted(number for number in calls if number >= 0) == list(range(5))


def test_a_call_can_be_forgotten(cache: Cache) -> None:
    calls: list[int] = []

    @cache.memoize(version="1", revision="1")
    def double(number: int, times: int = 2) -> int:
        calls.append(number)
        return number * times

    @cache.memoize(version="1", revision="1")
    async def triple(number: int) -> int:
        calls.append(number)
        return number * 3

    assert double.forget(1) is False
    assert (double(1), double(number=1), double(2)) == (2, 2, 4)
    assert double.forget(number=1) is True
    assert (double(1), double(2), calls) == (2, 4, [1, 2, 1])

    async def use() -> None:
        assert await triple(5) == await triple(5) == 15
        assert await triple.aforget(5) is True
        assert await triple(5) == 15

    asyncio.run(use())
    assert calls == [1, 2, 1, 5, 5]


def test_a_ttl_may_depend_on_the_arguments_and_the_result(cache: Cache, server: Server) -> None:
    seen: list[Any] = []

    def ttl(arguments: object, result: object) -> float:
        seen.append((arguments, result))
        return 0.0 if result == 4 else 60.0

    @cache.memoize(version="1", revision="1", ttl=ttl)
    def double(number: int) -> int:
        return number * 2

    assert [double(1), double(1), double(2), double(2)] == [2, 2, 4, 4]
    assert (double.stats().hits, double.stats().skipped) == (1, 2)
    assert seen == [({"number": 1}, 2), ({"number": 2}, 4), ({"number": 2}, 4)]


@pytest.mark.parametrize("memoize", [Cache.memoize, Cache.memoize_rows])
def test_a_cached_function_that_nobody_uses_any_more_is_freed_at_once(
    cache: Cache, memoize: Any
) -> None:
    cached = memoize(cache, version="1", name="freed", revision="1")(lambda rows: rows)
    function = ref(cached)
    gc.disable()
    try:
        del cached
        assert function() is None
    finally:
        gc.enable()

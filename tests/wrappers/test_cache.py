"""`Cache`: one place for many models, functions and estimators."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import pickle
import threading
from typing import Any

import numpy as np
import pytest
import redis

from model_cache import Cache, ConfigurationError, RedisCachingDecorator
from tests.models import FunctionModel, charge, person
from tests.servers import Server
from tests.stored import entries


def half(rows: Any) -> Any:
    return np.asarray(rows) / 2


def double(x: int) -> int:
    return 2 * x


class Doubling:
    """An estimator."""

    def __init__(self, by: int = 2) -> None:
        self.by = by

    def predict(self, rows: Any) -> Any:
        return np.asarray(rows) * self.by


def everything(cache: Cache) -> tuple[Any, ...]:
    model = cache.model(FunctionModel())
    return (
        model,
        cache.memoize(version="1")(double),
        cache.memoize_rows(version="1")(half),
        cache.wrap(Doubling(), name="doubling", version="1"),
    )


def used(parts: tuple[Any, ...]) -> list[Any]:
    model, function, rows, estimator = parts
    return [
        model.predict(person()),
        function(4),
        rows([1.0, 2.0]).tolist(),
        estimator.predict([1, 2]).tolist(),
    ]


ANSWERS = [charge(person()), 8, [0.5, 1.0], [2, 4]]


def test_models_functions_rows_and_estimators_share_it(cache: Cache, client: redis.Redis) -> None:
    before = len(client.client_list())
    parts = everything(cache)
    assert isinstance(parts[0], RedisCachingDecorator)
    assert [used(parts), used(parts)] == [ANSWERS, ANSWERS]
    by_model = cache.stats_by_model()
    assert {name: (stats.misses, stats.hits) for name, stats in by_model.items()} == {
        f"{parts[0].qualified_name}/{parts[0].version}": (1, 1),
        "tests.wrappers.test_cache.double/1": (1, 1),
        "tests.wrappers.test_cache.half/1": (2, 2),
        "doubling/1": (2, 2),
    }
    assert (cache.stats().misses, cache.stats().hits) == (6, 6)
    assert cache.ping() > 0
    assert len(client.client_list()) - before <= 1
    assert cache.purge() == len(entries(client)) + 6 == 6
    assert used(parts) == ANSWERS
    assert cache.stats().misses == 12


def test_an_option_may_be_set_anew(server: Server, client: redis.Redis) -> None:
    with Cache(server.url, ttl=1000, prefix="a") as cache:
        cache.memoize(version="1", ttl=10)(double)(1)
        cache.memoize_rows(version="1", prefix="b")(half)([1])
        cache.model(FunctionModel(), ttl=50, hashing_fields=["age"]).predict(person())
        ttls = sorted(client.ttl(key) for key in entries(client))
        assert [ttl > bound for ttl, bound in zip(ttls, (7, 40, 850), strict=True)] == [True] * 3
        assert len(entries(client, "b/*")) == 1


def test_close_aclose_and_with_leave_it_usable(server: Server) -> None:
    with Cache(server.url, write="background") as cache:
        parts = everything(cache)
        assert used(parts) == ANSWERS
    assert parts[1].stats().stored == 1
    assert used(parts) == ANSWERS

    async def run() -> None:
        async with Cache(server.url, write="background") as cache:

            @cache.memoize(version="1")
            async def doubled(x: int) -> int:
                return 2 * x

            assert [await doubled(1), await doubled(1)] == [2, 2]
        assert doubled.stats().stored == 1
        assert await doubled(1) == 2
        await cache.aclose()
        await cache.aclose()

    asyncio.run(run())
    cache.close()
    cache.close()


@pytest.mark.parametrize("off", ["option", "environment", "part"])
def test_a_disabled_cache_computes(
    server: Server, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, off: str
) -> None:
    if off == "environment":
        monkeypatch.setenv("MODEL_CACHE_DISABLED", "1")
    with Cache(server.url, enabled=off != "option") as cache:
        options: Any = {"enabled": False} if off == "part" else {}
        function = cache.memoize(version="1", **options)(double)
        rows = cache.memoize_rows(version="1", **options)(half)
        fast = cache.wrap(Doubling(), name="d", version="1", **options)
        for _ in range(2):
            assert function(4) == 8
            assert rows([1.0, 2.0]).tolist() == [0.5, 1.0]
            assert fast.predict([1, 2]).tolist() == [2, 4]
        fast.by = 3
        assert fast.predict([1, 2]).tolist() == [3, 6]
        assert client.dbsize() == 0
        if off != "part":
            assert cache.ping() == 0.0


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"tll": 5}, "did you mean 'ttl'"),
    ({"ttl": -1}, "ttl"),
    ({"hashing_fields": ["age"]}, "hashing_fields"),
    ({"near_cache": 5}, "near_cache"),
    ({"on_error": "rais"}, "raise"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_wrong_options_say_what_is_allowed(
    cache: Cache, options: dict[str, Any], message: str
) -> None:
    for use in (
        lambda: cache.memoize(version="1", **options)(double),
        lambda: cache.memoize_rows(version="1", **options)(half),
        lambda: cache.wrap(Doubling(), name="d", version="1", **options),
    ):
        with pytest.raises(ConfigurationError, match=message):
            use()


def test_names_and_versions_are_required(cache: Cache) -> None:
    decorators: list[Any] = [cache.memoize, cache.memoize_rows]
    for decorate in decorators:
        for use in (
            lambda decorate=decorate: decorate(double),
            lambda decorate=decorate: decorate()(double),
            lambda decorate=decorate: decorate(version="")(double),
            lambda decorate=decorate: decorate(version="1", name="")(double),
            lambda decorate=decorate: decorate(version="1", ignored=["y"])(double),
            lambda decorate=decorate: decorate(version="1")(5),
        ):
            with pytest.raises(ConfigurationError):
                use()  # type: ignore[no-untyped-call]
    with pytest.raises(ConfigurationError, match="name"):
        cache.wrap(Doubling(), name="", version="1")
    with pytest.raises(ConfigurationError, match="version"):
        cache.wrap(Doubling(), name="d", version=None)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="did you mean 'rows'"):
        cache.memoize_rows(version="1", rows="row")(half)


def test_a_copy_reaches_the_same_entries(cache: Cache) -> None:
    used(everything(cache))
    assert copy.deepcopy(cache) is cache
    with pickle.loads(pickle.dumps(cache)) as again:
        assert repr(again) == repr(cache)
        assert used(everything(again)) == ANSWERS
        assert again.stats().misses == 0
    assert pickle.loads(pickle.dumps(halved)) is halved


@Cache("redis://127.0.0.1:1", timeout=0.01).memoize(version="1")
def halved(x: int) -> float:
    return x / 2


def _in_a_child(cache: Cache, results: Any) -> None:
    parts = everything(cache)
    results.put((used(parts), cache.stats().misses))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_has_the_same_entries(cache: Cache, method: str) -> None:
    used(everything(cache))
    context: Any = multiprocessing.get_context(method)
    results = context.Queue()
    child = context.Process(target=_in_a_child, args=(cache, results))
    child.start()
    assert results.get(timeout=60) == (ANSWERS, 0)
    child.join()


def test_a_purge_by_another_process_in_the_middle_of_a_call(cache: Cache, server: Server) -> None:
    started, go = threading.Event(), threading.Event()
    world = [1]

    def scaled(rows: Any) -> Any:
        weight = world[0]
        started.set()
        assert go.wait(60)
        return np.asarray(rows) * weight

    options: Any = {"version": "1", "name": "scaled", "revision": "1", "batch_equality": "ignore"}
    cached = cache.memoize_rows(**options)(scaled)
    computing = threading.Thread(target=cached, args=(np.arange(3),))
    computing.start()
    assert started.wait(10)
    context: Any = multiprocessing.get_context("spawn")
    child = context.Process(target=_purge, args=(cache, options))
    child.start()
    child.join()
    assert child.exitcode == 0
    world[0] = 2
    go.set()
    computing.join()
    assert cached(np.arange(3)).tolist() == [0, 2, 4]


def _purge(cache: Cache, options: Any) -> None:
    cache.memoize_rows(**options)(half).cache_clear()

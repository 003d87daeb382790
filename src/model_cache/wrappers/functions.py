"""Cached functions: one entry for the arguments of a call."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import (
    Any,
    Concatenate,
    NamedTuple,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    cast,
    overload,
)

from model_cache.binding.explaining import Keyed
from model_cache.observing.counters import Stats
from model_cache.options.config import Config
from model_cache.prediction.backend import Sharing
from model_cache.wrappers.explaining import ExplainableCall, ExplainedCall, explainer
from model_cache.wrappers.function_binding import FunctionBinding
from model_cache.wrappers.identity import identity_of, refuse_uncacheable
from model_cache.wrappers.part import Part
from model_cache.wrappers.signatures import (
    Arguments,
    arguments_of,
    binder,
    keyed_parameters,
    signature_of,
    warn_of_fresh_arguments,
)

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)


class CacheInfo(NamedTuple):
    """The counters of a cached function in this process, as `functools.lru_cache` has them.

    Attributes:
        hits: the calls that the cache answered.
        misses: the calls that the function computed.
        maxsize: None: Redis decides how many entries there are.
        currsize: how many entries this process has written.
    """

    hits: int
    misses: int
    maxsize: None
    currsize: int


class Counted(Protocol):
    """The counters and the entries of a cached function. A method has those of all objects."""

    def cache_info(self) -> CacheInfo:
        """Return how often the cache has answered in this process."""
        ...

    def cache_clear(self) -> int:
        """Delete the entries of this version; return how many there were."""
        ...

    def acache_clear(self) -> Coroutine[Any, Any, int]:
        """Do the same as `cache_clear`, in a thread, without blocking the event loop."""
        ...

    def stats(self) -> Stats:
        """Return an immutable snapshot of the function's counters."""
        ...


class BoundCached(Counted, Protocol[P, R_co]):
    """A cached method of an object: what `Cached` is, once it has a `self`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Return what the method returns, from the cache if possible."""
        ...


class Cached(Counted, Protocol[P, R_co]):
    """A cached function, which is called like the function itself."""

    __name__: str
    __qualname__: str

    @property
    def __wrapped__(self) -> Callable[P, R_co]:
        """The function without the cache."""
        ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Return what the function returns, from the cache if possible."""
        ...

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(
        self: Cached[Concatenate[S, Q], T], instance: S, owner: type | None = None
    ) -> BoundCached[Q, T]: ...


class Memoized(Cached[P, R_co], Protocol[P, R_co]):
    """A cached function with one entry for each call; see `Cache.memoize`."""

    def cache_key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key of a call. For a method, the first argument is the object.

        Raises:
            NotCacheableError: an argument has no canonical form; the message says which type.
        """
        ...

    def explain(self, *args: P.args, **kwargs: P.kwargs) -> ExplainedCall[P]:
        """Explain the key of a call, on its own or compared to another call.

        print(charges.explain(42, bmi=24.0).compared_to(42, bmi=24))
        """
        ...

    def forget(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Delete the entry of a call; return whether there was one.

        Raises:
            StoreUnavailableError: Redis failed; other processes may return the entry.
        """
        ...

    def aforget(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, bool]:
        """Do the same as `forget`, without blocking the event loop."""
        ...


def memoized(
    cache: Sharing,
    function: Callable[P, R],
    options: Mapping[str, Any],
    *,
    name: str | None,
    version: str,
    ignored: Sequence[str],
) -> Memoized[P, R]:
    """Return a function that looks up each call before it is made; see `Cache.memoize`."""
    refuse_uncacheable(function, name, options)
    bind = binder(function, ignored)

    def binding(config: Config) -> FunctionBinding:
        identity = identity_of(function, name, version, ignored, config)
        return FunctionBinding(function, identity, config, ignored)

    part = Part(cache, options, binding)
    if part.config.enabled:
        warn_of_fresh_arguments(function, ignored, stacklevel=3)

    def arguments(*args: P.args, **kwargs: P.kwargs) -> Arguments:
        try:
            return Arguments(bind(*args, **kwargs), args, kwargs)
        except TypeError:
            signature_of(function).bind(*args, **kwargs)  # raises it in plain words
            raise

    wrapper = _asynchronous if inspect.iscoroutinefunction(function) else _blocking
    cached: Any = functools.wraps(function)(wrapper(function, part, arguments))
    _attach_calls(cached, function, part, arguments, keyed_parameters(function, ignored))
    return cast(Memoized[P, R], attached(cached, part))


def _attach_calls(
    cached: Any,
    function: Callable[..., Any],
    part: Part,
    arguments: Callable[..., Arguments],
    names: Sequence[str],
) -> None:
    """Give a cached function the methods that concern one call."""

    def key(*args: Any, **kwargs: Any) -> str:
        return part.cache_key(arguments(*args, **kwargs))

    def forget(*args: Any, **kwargs: Any) -> bool:
        return part.sync.forget([arguments(*args, **kwargs)]) > 0

    async def aforget(*args: Any, **kwargs: Any) -> bool:
        return await part.asynchronous.forget([arguments(*args, **kwargs)]) > 0

    def read(*args: Any, **kwargs: Any) -> ExplainableCall:
        data = arguments(*args, **kwargs)
        return ExplainableCall(
            lambda: Keyed.of(lambda: part.cache_key(data)),
            arguments_of(function, args, kwargs),
            dict(zip(names, data.key, strict=True)),
        )

    cached.cache_key, cached.forget, cached.aforget = key, forget, aforget
    cached.explain = explainer(read, hides_values=part.config.hides_values)


def attached(cached: Any, part: Part) -> Any:
    """Give a cached function the methods of `Cached`; return it."""

    def cache_info() -> CacheInfo:
        stats = part.stats()
        hits = stats.hits + stats.shared + stats.stale
        return CacheInfo(hits, stats.predictions - hits, None, stats.stored)

    cached.cache_info = cache_info
    cached.cache_clear = part.purge
    cached.acache_clear = functools.partial(asyncio.to_thread, part.purge)
    cached.stats = part.stats
    return cached


def _blocking(
    function: Callable[..., Any], part: Part, arguments: Callable[..., Arguments]
) -> Callable[..., Any]:
    predict = part.sync.predict

    def cached(*args: Any, **kwargs: Any) -> Any:
        try:
            data = arguments(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # its own error says what is wrong with them
        return predict(data).value

    return cached


def _asynchronous(
    function: Callable[..., Any], part: Part, arguments: Callable[..., Arguments]
) -> Callable[..., Any]:
    predict = part.asynchronous.predict

    async def cached(*args: Any, **kwargs: Any) -> Any:
        try:
            data = arguments(*args, **kwargs)
        except TypeError:
            return await function(*args, **kwargs)
        return (await predict(data)).value

    return cached

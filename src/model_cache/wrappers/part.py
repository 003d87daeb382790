"""The part of a cache that predicts for one function, or for one method of an estimator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from model_cache.binding import Bound
from model_cache.observing.counters import Counters, Stats
from model_cache.observing.hooks import LoggingHook, telling
from model_cache.options.config import Config
from model_cache.prediction.assembly import assembled
from model_cache.prediction.backend import DisabledBackend, Sharing

T = TypeVar("T")


class Wrapped(Bound, Protocol):
    """The binding of something that a cache wraps."""

    def shown(self, data: Any, prediction: Any) -> tuple[Any, Any]:
        """Return an input and a prediction as the user knows them."""
        ...


class Holder:
    """Holds the current binding of something that says itself when it changes.

    Attributes:
        binding: the binding.
    """

    def __init__(self, binding: Wrapped) -> None:
        self.binding = binding

    def bound(self) -> Wrapped:
        return self.binding

    def get(self) -> Wrapped:
        return self.binding


class Part:
    """Predictors, counters and binding of something that a cache wraps.

    Args:
        cache: the cache.
        options: all options, with the cache's own.
        bind: makes the binding from the validated options.

    Attributes:
        config: the validated options.
        current: holds the binding.
        sync: predicts in threads.
        asynchronous: predicts in event loops.
    """

    def __init__(
        self, cache: Sharing, options: Mapping[str, Any], bind: Callable[[Config], Wrapped]
    ) -> None:
        self.config = config = Config.parse(options)
        self._backend = cache.backend if config.enabled else DisabledBackend()
        self._counters = Counters()
        self.current = Holder(bind(config))
        if config.cache_if is not None:
            config = replace(config, cache_if=self._shown_to(config.cache_if))
        if callable(config.ttl):
            config = replace(config, ttl=self._shown_to(config.ttl))
        hook = telling([LoggingHook(), *config.hooks])
        predictors = assembled(config, self._backend, self.current, self._counters, hook)
        self.sync, self.asynchronous = predictors
        cache.join(self)

    def _shown_to(self, rule: Callable[[Any, Any], T]) -> Callable[[Any, Any], T]:
        """Return a rule, such as `cache_if`, that passes on what the user knows."""
        return lambda data, prediction: rule(*self.current.binding.shown(data, prediction))

    @property
    def qualified_name(self) -> str:
        """The name in keys and metrics."""
        return self.current.binding.qualified_name

    @property
    def version(self) -> str:
        """The version in keys and metrics."""
        return self.current.binding.version

    def cache_key(self, data: Any) -> str:
        """Return the key of an input.

        Raises:
            NotCacheableError: the input has no key; the message says why.
        """
        binding = self.current.binding
        return binding.keys.key_of(binding.canonical(data)).decode()

    def stats(self) -> Stats:
        """Return an immutable snapshot of the counters."""
        return self._counters.snapshot(self._backend.state)

    def purge(self) -> int:
        """Delete the entries of this version; return how many there were."""
        return self._backend.purge(self.current.binding.namespace)

    async def drain(self) -> None:
        """Finish the background jobs of the running event loop."""
        await self.asynchronous.drain()

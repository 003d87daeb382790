"""The decorator: the order of the steps, and nothing else.

A prediction is looked up under its key; what is found is decoded and returned. Otherwise the
model predicts, and what it returned is encoded and stored. The parts are next door: the key
and the entry in `binding`, what follows a miss in `misses`, Redis in `stores`, the options in
`config`.
"""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Never, Self

from ml_base import MLModelDecorator
from ml_base.ml_model import MLModel
from pydantic import BaseModel

from model_cache.binding import Binding, CurrentBinding, Request
from model_cache.budget import Budget
from model_cache.codec import is_fresh
from model_cache.composition import compose
from model_cache.config import (
    DEFAULT_DATABASE,
    DEFAULT_HOST,
    DEFAULT_PORT,
    CacheIf,
    Config,
    refuse_unknown,
    shown,
)
from model_cache.errors import (
    ConfigurationError,
    NotCacheableError,
    StoreUnavailableError,
)
from model_cache.events import Hook, InputNotCacheable, LoggingHook, telling
from model_cache.keeping import Keeper
from model_cache.misses import Lookup, Misses
from model_cache.outcome import Kind, Outcome, note, requested_mode
from model_cache.purging import delete_all
from model_cache.settings import CacheSettings
from model_cache.statistics import Counters, Stats

_REMADE = (
    "_config",
    "_configuration",
    "_hook",
    "_watch",
    "_counters",
    "_store",
    "_keeper",
    "_misses",
    "_current",
)
# Purging is for operators: each of its round trips may take this many seconds.
_PURGE_TIMEOUT = 5.0


class RedisCachingDecorator(MLModelDecorator):  # type: ignore[misc]  # ml-base is untyped
    """Keeps the predictions of an ml-base `MLModel` in Redis.

    The model must be deterministic: its prediction depends on the fields of its input, and on
    nothing else. Whatever Redis does, `predict` returns the model's answer.

    Args:
        host: name or address of Redis; by default localhost.
        port: its TCP port; by default 6379.
        database: its number there; by default 0.
        prefix: put in front of each key, to keep apart what shares a Redis.
        hashing_fields: the only input fields, by dotted path, that the key is made of.
        serder: how entries are written: "JSON", "MessagePack", a registered serder's name, or
            an import path `package.module:name`.
        use_compression: False, True (snappy), or a compressor's name: "snappy", "zstd", "lz4".
        reduced_precision_fields: numeric input fields, by dotted path, that are rounded for
            the key and for the model.
        number_of_places: decimal places to round to: one number, or a mapping from each field
            in `reduced_precision_fields` to its own.
        ignored_fields: input fields, by dotted path, that the key leaves out.
        reduced_precision: whether to round every float and Decimal in the input.
        url: where Redis is, in one string, instead of host, port and database:
            `redis://`, `rediss://`, `unix://`, `redis+cluster://`, `redis+sentinel://` or
            `embedded://`. With neither, the environment's REDIS_URL counts.
        username: of the ACL user, if any.
        password: of Redis.
        ttl: how long an entry lives, in seconds or as a timedelta, less up to a tenth, so that
            entries written together do not expire together; None for until evicted.
        timeout: seconds that a prediction may lose to Redis, reading and writing together.
        on_error: "predict" without the cache when Redis fails, or "raise".
        revision: tells apart models of the same version: a text, or a list of the model's
            files, which are hashed.
        integrity: whether entries carry a tag, and damaged or swapped ones are misses.
        key_secret: keys the digests, so that inputs can't be guessed from keys nor entries
            forged; implies `integrity`.
        max_entry_bytes: larger entries are not stored.
        max_connections: how many connections this process opens at most.
        cache_if: a function `(input, prediction) -> bool`, or an import path to one, that says
            whether to store a prediction.
        enabled: False turns the cache off, as does MODEL_CACHE_DISABLED=1 in the environment.
        proxied: whether Redis is behind a proxy such as Twemproxy: RESP2, and neither HELLO,
            CLIENT, SELECT nor SCAN, so no `purge`.
        single_flight: of many callers that miss the same entry at once, one computes and the
            rest wait for it: in this "process", in all processes that share the store
            ("fleet"), or "off".
        single_flight_wait: seconds to wait for another's prediction; then one computes alone.
        write: "foreground", before `predict` returns, or in the "background", on a thread.
        stale_if_error: seconds past their ttl in which entries still answer if the model raises.
        hooks: who is told of each prediction: "prometheus", "opentelemetry", "logging", an import
            path `package.module:name`, or a function of one argument, an `Outcome` or an event.

    Raises:
        ConfigurationError: an option can't be honoured; the message says why and what can.
    """

    ANSWER_OPTIONS = (
        "hashing_fields",
        "ignored_fields",
        "reduced_precision",
        "reduced_precision_fields",
        "number_of_places",
    )
    """The options that make a difference to a cache around this one."""

    def __init__(  # noqa: PLR0913, PLR0917 - the article's nine by position; the rest is options
        self,
        host: str = DEFAULT_HOST,
        port: int = DEFAULT_PORT,
        database: int = DEFAULT_DATABASE,
        prefix: str | None = None,
        hashing_fields: Sequence[str] | None = None,
        serder: str = "JSON",
        use_compression: bool | str = False,
        reduced_precision_fields: Sequence[str] | None = None,
        number_of_places: int | Mapping[str, int] | None = None,
        *,
        ignored_fields: Sequence[str] | None = None,
        reduced_precision: bool = False,
        url: str | None = None,
        username: str | None = None,
        password: str | None = None,
        ttl: float | timedelta | None = None,
        timeout: float = 0.1,
        on_error: Literal["predict", "raise"] = "predict",
        revision: str | Path | Sequence[str | Path] | None = None,
        integrity: bool = False,
        key_secret: str | bytes | None = None,
        max_entry_bytes: int = 1_048_576,
        max_connections: int = 50,
        cache_if: CacheIf | str | None = None,
        enabled: bool = True,
        proxied: bool = False,
        single_flight: Literal["process", "fleet", "off"] = "process",
        single_flight_wait: float = 10.0,
        write: Literal["foreground", "background"] = "foreground",
        stale_if_error: float | timedelta | None = None,
        hooks: Sequence[str | Hook] | None = None,
        **unknown: Never,
    ) -> None:
        given = locals()
        options = {name: given[name] for name in self._option_names()}
        refuse_unknown(unknown, options)
        self._set_up(options)

    @staticmethod
    def _option_names() -> list[str]:
        return list(inspect.signature(RedisCachingDecorator).parameters)[:-1]

    def _set_up(self, options: dict[str, Any]) -> None:
        config, counters = Config.parse(options), Counters()
        hook = telling([LoggingHook(), *config.hooks])
        watch = telling(config.hooks) if config.hooks else None
        store = compose(config, hook) if config.enabled else None
        keeper = misses = None
        if store is not None:
            keeper = Keeper(config, store, counters, hook, watch)
            misses = Misses(config, store, keeper, hook)
        super().__init__(**shown(options))
        # Through __dict__, since ml-base forwards the setting of attributes to the model.
        self.__dict__.update(
            _options=options,
            _config=config,
            _hook=hook,
            _watch=watch,
            _counters=counters,
            _store=store,
            _keeper=keeper,
            _misses=misses,
            _current=CurrentBinding(config, hook),
        )

    def set_model(self, model: MLModel) -> Self:
        """Bind to a model; its name, version, revision and schemas are read now.

        May be called again; a prediction under way keeps to the model that it began with.

        Args:
            model: the model, or another decorator around it.

        Returns:
            This decorator, to be used in the model's place.

        Raises:
            ConfigurationError: an option does not fit the model's schemas.
        """
        if not isinstance(model, MLModel):
            hint = "; give an instance of it" if isinstance(model, type) else ""
            raise ConfigurationError("model", f"{model!r} is no ml-base MLModel{hint}")
        binding = Binding(model, self._config)
        binding.warn_of_echoed_fields()
        with self._current.lock:
            super().set_model(model)
            self._current.binding = binding
        return self

    def predict(self, data: BaseModel) -> Any:
        """Return the model's prediction for an input, from the cache if it is there.

        Args:
            data: an instance of the model's input schema; it is not changed.

        Returns:
            An instance of the model's output schema, the caller's own.

        Raises:
            ModelCacheError: there is no model yet.
            StoreUnavailableError: Redis failed, and `on_error` is "raise".
            Exception: whatever the model raises, as it is; nothing is cached then.
        """
        began = time.perf_counter()
        if not self._config.enabled:
            return self._predict_aside("off", self._current.bound(), data, began)
        binding = self._current.get()
        request = self._request(binding, data)
        if request is None:
            return self._predict_aside("uncacheable", binding, data, began)
        mode = requested_mode()
        if mode == "bypass":
            return self._predict_aside("bypass", binding, request.data, began)

        purges, asked = self._keeper.purges, time.perf_counter()
        entry, lost = (None, None) if mode == "refresh" else self._look_up(request.key)
        store_seconds = time.perf_counter() - asked
        if lost is not None:
            more = {"store_seconds": store_seconds, "store_error": lost.kind}
            if self._config.on_error == "raise":
                self._tell("unavailable", binding, began, **more)
                raise lost
            return self._predict_aside("unavailable", binding, request.data, began, **more)
        found = None
        if entry is not None:
            found = binding.decode(request.key, entry)
            if found is not None and is_fresh(entry):
                size = len(entry)
                self._tell("hit", binding, began, store_seconds=store_seconds, entry_bytes=size)
                return found
        lookup = Lookup(
            asked=asked,
            budget=Budget(self._config.timeout - store_seconds),
            purges=purges,
            stale=found,
            undecodable=entry is not None and found is None,
            refreshes=mode == "refresh",
        )
        outcome: dict[str, Any] = {}
        try:
            return self._misses.answer(binding, request, lookup, outcome)
        finally:
            if outcome:  # told when nobody waits for this computation any more
                self._tell(binding=binding, began=began, **outcome)

    def _request(self, binding: Binding, data: BaseModel) -> Request | None:
        """Return what to look up; None, if the input has no key."""
        try:
            return binding.request(data)
        except NotCacheableError as error:
            self._hook(InputNotCacheable(binding.qualified_name, str(error)))
            return None

    def _look_up(self, key: bytes) -> tuple[bytes | None, StoreUnavailableError | None]:
        """Return the entry, if there is one, or why the store did not answer."""
        try:
            return self._store.get(key, self._config.timeout), None
        except StoreUnavailableError as error:
            return None, error

    def _predict_aside(
        self, kind: Kind, binding: Binding, data: BaseModel, began: float, **more: Any
    ) -> Any:
        """Answer by the model alone."""
        started = time.perf_counter()
        try:
            prediction = binding.predict(data)
        except Exception:
            seconds = time.perf_counter() - started
            self._tell("error", binding, began, model_seconds=seconds, **more)
            raise
        seconds = time.perf_counter() - started
        self._tell(kind, binding, began, model_seconds=seconds, **more)
        return prediction

    def _tell(self, kind: Kind, binding: Binding, began: float, **more: Any) -> None:
        """Tell everyone what came of a prediction."""
        seconds = time.perf_counter() - began
        outcome = Outcome(kind, binding.qualified_name, binding.version, seconds, **more)
        self._counters.count(outcome)
        if self._watch is not None:
            self._watch(outcome)
        note(outcome)

    def cache_key(self, data: BaseModel) -> str:
        """Return the key under which the prediction for an input is kept.

        Args:
            data: an instance of the model's input schema; it is rounded first, if so configured.

        Returns:
            `[{prefix}/]{qualified_name}/{version}/{digest}`.

        Raises:
            ModelCacheError: there is no model yet.
            NotCacheableError: the input has no key; the message says why.
        """
        binding: Binding = self._current.get()
        return binding.request(data).key.decode()

    def purge(self) -> int:
        """Delete the entries of this version of this model; return how many there were.

        Predictions of this process that are being made meanwhile are not stored.

        Raises:
            ModelCacheError: there is no model yet.
            ConfigurationError: a proxy is in between, which can't list keys.
            StoreUnavailableError: Redis failed; some entries may be left.
        """
        namespace = self._current.get().namespace
        if self._store is None:
            return 0
        self._keeper.purge_begins()
        self._misses.forget()
        found = self._store.scan(namespace.pattern, _PURGE_TIMEOUT)
        keys = [key for key in found if namespace.holds(key)]
        return delete_all(self._store, keys, _PURGE_TIMEOUT)

    def ping(self) -> float:
        """Return how many seconds the store takes to answer a read; 0.0 if the cache is off.

        For health checks. Of a cluster, one node is asked.

        Raises:
            ModelCacheError: there is no model yet.
            StoreUnavailableError: Redis failed, or is spared since it kept failing.
        """
        namespace = self._current.get().namespace
        if self._store is None:
            return 0.0
        began = time.perf_counter()
        self._store.get(namespace.raw, self._config.timeout)  # a key that no entry has
        return time.perf_counter() - began

    def stats(self) -> Stats:
        """Return what this decorator has done so far, as an immutable snapshot."""
        snapshot: Stats = self._counters.snapshot(self._store.state if self._store else "off")
        return snapshot

    @property
    def cache_settings(self) -> CacheSettings:
        """The settings that are in effect, without secrets."""
        config: Config = self._config
        place = config.endpoint
        return CacheSettings(
            store="embedded" if place.embedded else f"{place}/{place.database}",
            prefix=config.prefix,
            ttl=None if config.ttl is None else config.ttl / 1000,
            timeout=config.timeout,
            on_error=config.on_error,
            write=config.write,
            enabled=config.enabled,
        )

    def close(self) -> None:
        """Write what waits to be written, and close the connections; they open again if need be.

        Servers that a signal stops skip Python's own clean-up: call this when the service shuts
        down, say, in its framework's lifespan.
        """
        if self._store is not None:
            self._keeper.close()
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        # ml-base's own raises KeyError on a decorator that is being made.
        if "_model" not in self.__dict__:
            raise AttributeError(name)
        return super().__getattr__(name)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).__new__, (type(self),), self.__getstate__()

    def __getstate__(self) -> dict[str, Any]:
        # Connections, counters and the binding are made anew.
        return {name: value for name, value in self.__dict__.items() if name not in _REMADE}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        model = self._model
        self._set_up(self._options)
        if model is not None:
            self.set_model(model)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Defined, since else ml-base would find the model's.
        made = memo[id(self)] = type(self).__new__(type(self))
        # Hooks are where events go to, not part of what is copied.
        memo.update({id(hook): hook for hook in self._options["hooks"] or ()})
        made.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return made

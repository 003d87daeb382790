"""`RedisCachingDecorator`: the ml-base interface, with pickling and copying.

Predictions are in `prediction`, snapshots of the model in `binding`, options in `options`.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import itertools
import logging
import sys
from asyncio import _get_running_loop
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Never, Self, overload

from ml_base import MLModelDecorator
from ml_base.ml_model import MLModel
from pydantic import BaseModel, SecretStr

from model_cache.binding import CurrentBinding
from model_cache.binding.explaining import Explanation, explain
from model_cache.closing import Closing
from model_cache.errors import ConfigurationError
from model_cache.interruptions import reraise_interruption
from model_cache.observing.counters import Counters, Stats
from model_cache.observing.events import Hook
from model_cache.observing.hooks import LoggingHook, telling
from model_cache.options.config import (
    DEFAULT_DATABASE,
    DEFAULT_FLIGHT_WAIT,
    DEFAULT_HOST,
    DEFAULT_NEAR_BYTES,
    DEFAULT_NEAR_TTL,
    DEFAULT_PORT,
    DEFAULT_VERIFY_LIMIT,
    CacheIf,
    Config,
    Secret,
    TtlRule,
)
from model_cache.options.names import refuse_unknown
from model_cache.options.settings import CacheSettings
from model_cache.prediction.assembly import assembled
from model_cache.prediction.asynchronous import AsyncPredictor
from model_cache.prediction.backend import (
    Backend,
    DisabledBackend,
    Sharing,
    closed_in_a_thread,
    open_backend,
)
from model_cache.prediction.sync import Predictor
from model_cache.redaction import sealed_options, shown
from model_cache.stores.access import AddressMap, CredentialProvider

logger = logging.getLogger("model_cache")

# Not copied or pickled: connections, counters and the binding are created again.
_REMADE = (
    "_async_predictor",
    "_backend",
    "_config",
    "_configuration",
    "_counters",
    "_current",
    "_has_warned",
    "_predictor",
)


class RedisCachingDecorator(Closing, MLModelDecorator):  # type: ignore[misc]  # ml-base is untyped
    """Caches the predictions of an ml-base `MLModel` in Redis.

    The model must be deterministic: its prediction depends only on the fields of its input. If
    Redis fails, `predict` returns the model's answer without the cache.

    Args:
        host: name or address of Redis; by default localhost.
        port: its TCP port; by default 6379.
        database: the database number; by default 0.
        prefix: put in front of each key, to separate applications that share a Redis.
        hashing_fields: the input fields, by dotted path, that make up the key; by default all.
        serder: how entries are encoded: "JSON", "MessagePack", a registered serder's name, or
            an import path `package.module:name`.
        use_compression: False, True (snappy), or a compressor's name: "snappy", "zstd", "lz4".
        reduced_precision_fields: numeric input fields, by dotted path, that are rounded for
            the key and for the model.
        number_of_places: decimal places to round to: one number, or a mapping from each field
            in `reduced_precision_fields` to its own.
        ignored_fields: input fields, by dotted path, that are not part of the key; like
            `hashing_fields`, also extra fields, private attributes and keys of dicts.
        reduced_precision: whether to round every float and Decimal in the input.
        ordered_dicts: whether the order of a dict's items is part of the key; an `OrderedDict`'s
            always is.
        url: the address of Redis as a url, instead of host, port and database:
            `redis://`, `rediss://`, `unix://`, `redis+cluster://`, `redis+sentinel://` or
            `embedded://`. By default REDIS_URL from the environment, if set.
        username: the ACL user, if any.
        password: the password for Redis. No repr, error or log line shows it.
        ssl_ca_certs: file of trusted certificates; by default the system's. Like the four
            options below, for a `rediss://` url; with `host` and `port`, it turns TLS on.
        ssl_certfile: file of the client's certificate, if the server requires one.
        ssl_keyfile: file of the certificate's key.
        ssl_cert_reqs: "required" (the default), or "none" to skip verification.
        ssl_check_hostname: whether the certificate must match the host; by default True.
        ttl: how long an entry lives, in seconds or as a timedelta, shortened at random by up to a
            tenth so that entries written together do not expire together; None: until evicted. Or
            a function `(input, prediction)` that returns it, or an import path to one.
        timeout: the most seconds that a prediction may spend on Redis, reading and writing.
        on_error: "predict" without the cache when Redis fails, or "raise".
        revision: distinguishes models of the same version: a string, or a list of the model's
            files, which are hashed; see `revision_of`.
        integrity: whether to tag entries, so that damaged or swapped ones are misses.
        key_secret: keys the digests, so that inputs can't be guessed from keys and entries can't
            be forged; implies `integrity`.
        encryption_key: encrypts entries with AES-256-GCM: a secret, or a list of which the first
            encrypts and all decrypt. Without `key_secret`, the last one also keys the digests.
        max_entry_bytes: larger entries are not stored.
        max_connections: the most connections that this process opens; each event loop that
            predicts has one more.
        max_connection_age: seconds after which a connection is replaced, so that changes of a
            host name's address are noticed; None for never.
        credential_provider: an object whose `get_credentials()` returns `(password,)` or
            `(username, password)`, or an import path to one; called for each new connection.
        address_map: where to connect instead of the addresses that a cluster or a Sentinel
            announces: a mapping of `host:port` to `host:port`, or a function of `(host, port)`, or
            an import path to either.
        cache_if: a function `(input, prediction) -> bool`, or an import path to one, that says
            whether to store a prediction.
        enabled: False turns the cache off, as does MODEL_CACHE_DISABLED=1 in the environment.
        proxied: whether Redis is behind a proxy such as Twemproxy: RESP2 without HELLO, CLIENT,
            SELECT and SCAN, so `purge` is not available.
        single_flight: when many callers miss the same entry at once, one computes it and the
            others wait: in this "process", in all processes that share the store ("fleet"), or
            "off".
        single_flight_wait: the most seconds to wait for another caller before computing alone.
        write: "foreground", before `predict` returns, or in the "background", on a thread.
        stale_if_error: for how many seconds past its ttl an entry is returned if the model raises.
        stale_while_revalidate: for how many seconds past its ttl an entry answers at once, while it
            is computed again in the background.
        near_cache: the most entries to cache in this process, in front of Redis; None for no near
            cache.
        near_ttl: the most seconds that an entry stays there, but no longer than its `ttl`.
        near_cache_bytes: the approximate limit of their memory, in bytes.
        batch_equality: what to do if the model's `predict_many` answers differently from its
            `predict`: "warn" once, "refuse" to call it, or "ignore" the difference.
        verify: the share of hits that are computed again, in the background, and compared: 0.01 for
            one in a hundred. Wrong entries are logged and replaced.
        verify_first: how many hits after `set_model` are verified, all of them, so that a model
            that was retrained under the same version is noticed when it is deployed.
        verify_limit: if more entries than this turn out wrong, this process no longer serves
            the model's entries, until a purge or a new version; None for no limit.
        verify_tolerance: floats that differ by at most this share of their size count as equal; by
            default 1e-6 if the model may answer batches, which round differently, else 0.
        layout: "plain", a Redis key for each entry, or "packed": small entries share hashes of
            about a hundred, which takes a third of the memory or less.
        expected_entries: how many entries you expect for one version of the model; required for
            the packed layout. If you change it, the cache starts empty.
        fleet_stats: whether to add the counts of this process, every few seconds, to a small hash
            in Redis that `model-cache stats` shows.
        adaptive: whether to predict without the cache while it measurably costs more time than it
            saves; a small share of lookups finds out when that changes.
        record: a folder in which requests are recorded, for `model-cache advise`; also with
            `enabled=False`. They are written in the background, to files that rotate.
        record_share: the share of the keys whose requests are recorded: 0.1 for all requests of
            one input in ten.
        hooks: receive each prediction: "prometheus", "opentelemetry", "logging", an import path
            `package.module:name`, or a function of one argument, an `Outcome` or an event.

    Raises:
        ConfigurationError: an option is invalid; the message says why and what is allowed.
    """

    _options: dict[str, Any]
    _cache: Sharing | None
    _config: Config
    _counters: Counters
    _current: CurrentBinding
    _backend: Backend
    _predictor: Predictor
    _async_predictor: AsyncPredictor
    _has_warned: bool

    ANSWER_OPTIONS = (
        "hashing_fields",
        "ignored_fields",
        "reduced_precision",
        "reduced_precision_fields",
        "number_of_places",
        "ordered_dicts",
    )
    """The options that affect the answers of a cache around this one."""

    def __init__(  # noqa: PLR0913 - the article's nine by position; the rest is options
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
        ordered_dicts: bool = True,
        url: str | SecretStr | None = None,
        username: str | None = None,
        password: str | SecretStr | None = None,
        ssl_ca_certs: str | Path | None = None,
        ssl_certfile: str | Path | None = None,
        ssl_keyfile: str | Path | None = None,
        ssl_cert_reqs: str | None = None,
        ssl_check_hostname: bool | None = None,
        ttl: float | timedelta | TtlRule | str | None = None,
        timeout: float = 0.1,
        on_error: Literal["predict", "raise"] = "predict",
        revision: str | Path | Sequence[str | Path] | None = None,
        integrity: bool = False,
        key_secret: Secret | None = None,
        encryption_key: Secret | Sequence[Secret] | None = None,
        max_entry_bytes: int = 1_048_576,
        max_connections: int = 50,
        max_connection_age: float | timedelta | None = 300.0,
        credential_provider: CredentialProvider | str | None = None,
        address_map: Mapping[str, str] | AddressMap | str | None = None,
        cache_if: CacheIf | str | None = None,
        enabled: bool = True,
        proxied: bool = False,
        single_flight: Literal["process", "fleet", "off"] = "process",
        single_flight_wait: float = DEFAULT_FLIGHT_WAIT,
        write: Literal["foreground", "background"] = "foreground",
        stale_if_error: float | timedelta | None = None,
        stale_while_revalidate: float | timedelta | None = None,
        near_cache: int | None = None,
        near_ttl: float | timedelta = DEFAULT_NEAR_TTL,
        near_cache_bytes: int = DEFAULT_NEAR_BYTES,
        batch_equality: Literal["warn", "refuse", "ignore"] = "warn",
        verify: float = 0.0,
        verify_first: int = 0,
        verify_limit: int | None = DEFAULT_VERIFY_LIMIT,
        verify_tolerance: float | None = None,
        layout: Literal["plain", "packed"] = "plain",
        expected_entries: int | None = None,
        fleet_stats: bool = True,
        adaptive: bool = False,
        record: str | Path | None = None,
        record_share: float = 1.0,
        hooks: Sequence[str | Hook] | None = None,
        **unknown: Never,
    ) -> None:
        options = sealed_options(locals(), _option_names())
        # Tracebacks can show the local variables of this frame.
        del host, url, password, key_secret, encryption_key
        unknown_names = list(unknown)
        unknown.clear()
        refuse_unknown(unknown_names, options)
        self._set_up(options, None)

    @classmethod
    def sharing(cls, cache: Sharing, options: Mapping[str, Any]) -> Self:
        """Return a decorator that shares the backend of a `Cache`; see `Cache.model`."""
        made = cls.__new__(cls)
        made._set_up(dict(options), cache)
        return made

    def _set_up(self, options: dict[str, Any], cache: Sharing | None) -> None:
        config, counters = Config.parse(options), Counters()
        hook = telling([LoggingHook(), *config.hooks])
        current = CurrentBinding(config, hook)
        if cache is None:
            backend = open_backend(config, hook)
        else:
            backend = cache.backend if config.enabled else DisabledBackend()
        predictors = assembled(config, backend, current, counters, hook)
        super().__init__(**shown(options))
        # Through __dict__, since ml-base forwards attribute writes to the model.
        self.__dict__.update(
            _options=options,
            _cache=cache,
            _config=config,
            _counters=counters,
            _current=current,
            _backend=backend,
            _predictor=predictors.sync,
            _async_predictor=predictors.asynchronous,
            _has_warned=not config.enabled,
        )
        if cache is not None:
            cache.join(self)

    def set_model(self, model: MLModel) -> Self:
        """Bind the decorator to a model, and read its name, version and schemas.

        Files of the revision are hashed once per model object, or again if its version changes.
        You may call this again; predictions in progress continue with the previous model.

        Args:
            model: the model, or another decorator around it.

        Returns:
            This decorator, to use in place of the model.

        Raises:
            ConfigurationError: an option does not match the model's schemas.
        """
        if not isinstance(model, MLModel):
            hint = "; pass an instance of it" if isinstance(model, type) else ""
            raise ConfigurationError("model", f"{model!r} is not an ml-base MLModel{hint}")
        binding = self._current.bind(model)
        with self._current.lock:
            super().set_model(model)
            self._current.binding = binding
        return self

    def predict(self, data: BaseModel) -> Any:
        """Return the model's prediction for an input, from the cache if possible.

        Args:
            data: an instance of the model's input schema; it is not changed.

        Returns:
            An instance of the model's output schema, a new object for each caller.

        Raises:
            ModelCacheError: no model is set.
            StoreUnavailableError: Redis failed, and `on_error` is "raise".
            Exception: the model's exception, unchanged. It is not cached.
        """
        if not self._has_warned and _get_running_loop() is not None:
            self._warn_of_loop()
        return self._predictor.predict(data)

    @overload
    def predict_many(
        self,
        inputs: Sequence[BaseModel],
        *,
        return_exceptions: bool = ...,
        chunk_size: int = ...,
    ) -> list[Any]: ...

    @overload
    def predict_many(
        self,
        inputs: Iterable[BaseModel],
        *,
        return_exceptions: bool = ...,
        chunk_size: int = ...,
    ) -> Iterable[Any]: ...

    def predict_many(
        self,
        inputs: Iterable[BaseModel],
        *,
        return_exceptions: bool = False,
        chunk_size: int = 1000,
    ) -> Iterable[Any]:
        """Return the model's predictions for many inputs, from the cache where possible.

        All entries are read in one round trip and written in another. Equal inputs are computed
        once. If the model has a `predict_many` of its own, one call computes all misses.

        Args:
            inputs: instances of the model's input schema; they are not changed.
            return_exceptions: whether to return the model's exceptions in place of predictions. If
                not, the first one is raised after storing the predictions computed before it.
            chunk_size: how many inputs to process at once; each chunk may spend `timeout` seconds
                on Redis.

        Returns:
            The predictions in the order of the inputs: a list for a sequence; for any other
            iterable an iterator, which reads the inputs lazily.

        Raises:
            ModelCacheError: no model is set.
            StoreUnavailableError: Redis failed, and `on_error` is "raise".
            Exception: the model's exception, unchanged.
        """
        _check_chunk_size(chunk_size)
        if not self._has_warned and _get_running_loop() is not None:
            self._warn_of_loop()
        predict = functools.partial(
            self._predictor.predict_many, return_exceptions=return_exceptions
        )
        chunks = _chunks(inputs, chunk_size)
        # Not with `map`, which a model's StopIteration would end as if it were the last chunk.
        if isinstance(inputs, Sequence):
            return [answer for chunk in chunks for answer in predict(chunk)]
        return (answer for chunk in chunks for answer in predict(chunk))

    async def apredict(self, data: BaseModel) -> Any:
        """Return the model's prediction for an input, without blocking the event loop.

        Otherwise the same as `predict`. A model whose class has an `apredict`, or whose `predict`
        is a coroutine function, is awaited; any other runs in the loop's thread pool, in a copy
        of the context.

        Args:
            data: an instance of the model's input schema; it is not changed.

        Returns:
            An instance of the model's output schema, a new object for each caller.

        Raises:
            ModelCacheError: no model is set.
            StoreUnavailableError: Redis failed, and `on_error` is "raise".
            Exception: the model's exception, unchanged. It is not cached.
        """
        return await self._async_predictor.predict(data)

    @overload
    def apredict_many(  # type: ignore[overload-overlap]  # the first that matches counts
        self,
        inputs: Sequence[BaseModel],
        *,
        return_exceptions: bool = ...,
        chunk_size: int = ...,
    ) -> Coroutine[Any, Any, list[Any]]: ...

    @overload
    def apredict_many(
        self,
        inputs: Iterable[BaseModel] | AsyncIterable[BaseModel],
        *,
        return_exceptions: bool = ...,
        chunk_size: int = ...,
    ) -> AsyncIterator[Any]: ...

    def apredict_many(
        self,
        inputs: Iterable[BaseModel] | AsyncIterable[BaseModel],
        *,
        return_exceptions: bool = False,
        chunk_size: int = 1000,
    ) -> Coroutine[Any, Any, list[Any]] | AsyncIterator[Any]:
        """Return the model's predictions for many inputs, without blocking the event loop.

        Otherwise the same as `predict_many`. If the model's class has an `apredict_many`, one call
        of it computes all misses.

        Args:
            inputs: instances of the model's input schema; they are not changed. An async iterable
                works as well.
            return_exceptions: whether to return the model's exceptions in place of predictions. If
                not, the first one is raised after storing the predictions computed before it.
            chunk_size: how many inputs to process at once; each chunk may spend `timeout` seconds
                on Redis.

        Returns:
            The predictions in the order of the inputs: an awaitable list for a sequence; for any
            other iterable an async iterator, which reads the inputs lazily.

        Raises:
            ModelCacheError: no model is set.
            StoreUnavailableError: Redis failed, and `on_error` is "raise".
            Exception: the model's exception, unchanged.
        """
        _check_chunk_size(chunk_size)
        answers = self._answers(_chunks_in_a_loop(inputs, chunk_size), return_exceptions)
        return _listed(answers) if isinstance(inputs, Sequence) else answers

    async def _answers(
        self, chunks: AsyncIterator[list[BaseModel]], return_exceptions: bool
    ) -> AsyncIterator[Any]:
        predict_many = self._async_predictor.predict_many
        async for chunk in chunks:
            for answer in await predict_many(chunk, return_exceptions=return_exceptions):
                yield answer

    def _warn_of_loop(self) -> None:
        self.__dict__["_has_warned"] = True
        if "ipykernel" in sys.modules:  # the cells of a notebook run in a loop, one after the other
            return
        try:
            logger.warning(
                "predict was called in a running event loop and blocks it; "
                "use `await model.apredict(data)` there"
            )
        except Exception as error:  # from a logging filter
            reraise_interruption(error)

    def cache_key(self, data: BaseModel) -> str:
        """Return the key of the prediction for an input.

        Args:
            data: an instance of the model's input schema; it is rounded first, if so configured.

        Returns:
            `[{prefix}/]{qualified_name}/{version}/{digest}`.

        Raises:
            ModelCacheError: no model is set.
            NotCacheableError: the input has no key; the message says why.
        """
        binding = self._current.get()
        return binding.keys.key_of(binding.canonical(binding.rounded(data))).decode()

    def explain(self, a: BaseModel, b: BaseModel) -> Explanation:
        """Explain why two inputs have the same key, or different ones.

        Args:
            a: an instance of the model's input schema.
            b: another one.

        Returns:
            What differs, field by field, and what of it is part of the key; `print` it. With
            `key_secret` or `encryption_key`, it shows no values.

        Raises:
            ModelCacheError: no model is set.
        """
        return explain(self._current.get(), a, b, hides_values=self._config.hides_values)

    def lookup(self, data: BaseModel) -> Any:
        """Return the prediction for an input if it is in the cache, else None.

        The model is not called. A lookup is not a prediction: it is not counted, no hook receives
        it, and `last_outcome()` stays as it is. Inside `bypass()` and `refresh()` it returns None.

        Args:
            data: an instance of the model's input schema; it is not changed.

        Returns:
            A new instance of the model's output schema; None if there is no entry, if it is past
            its ttl, or if Redis failed.

        Raises:
            ModelCacheError: no model is set.
            StoreUnavailableError: Redis failed, and `on_error` is "raise".
        """
        return self._predictor.lookup(data)

    async def alookup(self, data: BaseModel) -> Any:
        """Do the same as `lookup`, without blocking the event loop."""
        return await self._async_predictor.lookup(data)

    def store(self, data: BaseModel, prediction: BaseModel) -> bool:
        """Store a prediction that was computed elsewhere, such as in a nightly batch.

        It is checked like the model's own: `cache_if`, `max_entry_bytes`, and that it survives
        storing. The cache can't check that the model would return the same. It is written before
        this returns, and replaces the entry as `refresh()` does: predictions that are in progress
        in this process are not stored afterwards. Other processes do not learn of it, since a batch
        may store many: their near caches keep the older entry for `near_ttl`, and a prediction in
        progress there may overwrite this one.

        Args:
            data: an instance of the model's input schema; it is rounded first, if so configured.
            prediction: an instance of the model's output schema.

        Returns:
            Whether it was stored. If not, the reason is logged, and an existing entry stays, unless
            the write failed halfway. Inside `bypass()` and `read_only()`, nothing is stored.

        Raises:
            ModelCacheError: no model is set.
            ConfigurationError: the prediction is not an instance of the output schema.
        """
        return self._predictor.store(data, prediction)

    async def astore(self, data: BaseModel, prediction: BaseModel) -> bool:
        """Do the same as `store`, without blocking the event loop."""
        return await self._async_predictor.store(data, prediction)

    def forget(self, data: BaseModel) -> bool:
        """Delete the entry of one input; return whether there was one.

        Afterwards, this process returns no older answer for the input, and other processes do so
        within a second, also from their near caches. Predictions that are in progress are not
        stored. Other entries stay.

        Args:
            data: an instance of the model's input schema; it is rounded first, if so configured.

        Raises:
            ModelCacheError: no model is set.
            StoreUnavailableError: Redis failed; this process ignores the entry for a minute, but
                other processes may return it.
        """
        return self._predictor.forget([data]) > 0

    async def aforget(self, data: BaseModel) -> bool:
        """Do the same as `forget`, without blocking the event loop."""
        return await self._async_predictor.forget([data]) > 0

    def purge(self) -> int:
        """Delete the entries of this version of this model; return how many there were.

        Afterwards, this process returns no older answers: predictions that are in progress during
        the purge are neither stored nor shared with later callers.

        Raises:
            ModelCacheError: no model is set.
            ConfigurationError: Redis is behind a proxy, which can't list keys.
            StoreUnavailableError: Redis failed; some entries may remain.
        """
        return self._backend.purge(self._current.get().namespace)

    async def apurge(self) -> int:
        """Do the same as `purge`, in a thread, without blocking the event loop."""
        return await asyncio.to_thread(self.purge)

    def ping(self) -> float:
        """Return how many seconds the store takes to answer a read; 0.0 if the cache is off.

        For health checks. In a cluster, it reads from one node.

        Raises:
            ModelCacheError: no model is set.
            StoreUnavailableError: Redis failed, or the circuit is open.
        """
        return self._backend.ping(self._current.get().namespace)

    async def aping(self) -> float:
        """Do the same as `ping`, on the connection of the running event loop."""
        return await self._backend.aping(self._current.get().namespace)

    def stats(self) -> Stats:
        """Return an immutable snapshot of this decorator's counters."""
        return self._counters.snapshot(self._backend.state)

    @property
    def cache_settings(self) -> CacheSettings:
        """The settings that are in effect, without secrets."""
        config = self._config
        place = config.endpoint
        return CacheSettings(
            store="embedded" if place.embedded else f"{place}/{place.database}",
            prefix=config.prefix,
            ttl=None if config.longest_ttl is None else config.longest_ttl / 1000,
            timeout=config.timeout,
            on_error=config.on_error,
            write=config.write,
            enabled=config.enabled,
        )

    def close(self) -> None:
        """Finish the background writes and close the connections, which reopen on demand.

        Call this when your service shuts down, for example in its framework's lifespan: servers
        that a signal stops skip Python's own cleanup.
        """
        self._backend.close()

    async def aclose(self) -> None:
        """Do the same as `close`, without blocking the event loop.

        Call it in each loop that predicts, before the loop ends: it finishes the loop's background
        jobs.
        """
        await self.drain()
        self._backend.close_in_loop()
        await closed_in_a_thread(self.close)

    async def drain(self) -> None:
        """Finish the background jobs of the running event loop."""
        await self._async_predictor.drain()

    def __getattr__(self, name: str) -> Any:
        # ml-base's own raises KeyError on a decorator that is still being created.
        if "_model" not in self.__dict__:
            raise AttributeError(name)
        try:
            return super().__getattr__(name)
        except AttributeError as error:
            if name in _option_names():
                raise self._fixed(name, "can't be read back") from error
            raise

    def __setattr__(self, name: str, value: object) -> None:
        # ml-base forwards this to the model, where an option would have no effect.
        if name in _option_names():
            del value  # may be a secret, and tracebacks can show local variables
            raise self._fixed(name, "can't be changed")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in _option_names():
            raise self._fixed(name, "can't be deleted")
        super().__delattr__(name)

    def _fixed(self, name: str, problem: str) -> AttributeError:
        return AttributeError(
            f"{name!r} is an option of {type(self).__name__}, fixed at creation; it {problem}. "
            "Create a new decorator instead: "
            f"{type(self).__name__}({name}=..., ...).set_model(model). For the model's attribute "
            "of the same name, use the model itself",
            name=name,
            obj=self,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).__new__, (type(self),), self.__getstate__()

    def __getstate__(self) -> dict[str, Any]:
        # Connections, counters and the binding are created again.
        state = {name: value for name, value in self.__dict__.items() if name not in _REMADE}
        return {**state, "_taken": self._current.taken}

    def __setstate__(self, state: dict[str, Any]) -> None:
        taken = state.pop("_taken")
        self.__dict__.update(state)
        model = self._model
        self._set_up(self._options, self._cache)
        if model is not None:
            self._current.adopt(model, taken)
            self.set_model(model)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Defined here, since ml-base would otherwise find the model's.
        made = memo[id(self)] = type(self).__new__(type(self))
        # Hooks are shared, not copied: they are destinations of events.
        memo.update({id(hook): hook for hook in self._options["hooks"] or ()})
        # So is the credential provider, which may have threads and clients.
        provider = self._options["credential_provider"]
        memo[id(provider)] = provider
        made.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return made


def option_defaults() -> dict[str, Any]:
    """Return the options of `RedisCachingDecorator` with their defaults."""
    parameters = inspect.signature(RedisCachingDecorator).parameters
    return {name: parameters[name].default for name in _option_names()}


@functools.cache
def _option_names() -> tuple[str, ...]:
    return tuple(inspect.signature(RedisCachingDecorator).parameters)[:-1]


def _chunks(inputs: Iterable[BaseModel], size: int) -> Iterator[list[BaseModel]]:
    iterator = iter(inputs)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def _check_chunk_size(chunk_size: int) -> None:
    if not isinstance(chunk_size, int) or chunk_size < 1:
        raise ConfigurationError(
            "chunk_size", f"expected a whole number of at least 1, got {chunk_size!r}"
        )


async def _chunks_in_a_loop(
    inputs: Iterable[BaseModel] | AsyncIterable[BaseModel], size: int
) -> AsyncIterator[list[BaseModel]]:
    if isinstance(inputs, Iterable):
        for chunk in _chunks(inputs, size):
            yield chunk
        return
    gathered: list[BaseModel] = []
    async for data in inputs:
        gathered.append(data)
        if len(gathered) == size:
            yield gathered
            gathered = []
    if gathered:
        yield gathered


async def _listed(answers: AsyncIterator[Any]) -> list[Any]:
    return [answer async for answer in answers]

"""ml-base's door: the decorator's signature, its model, pickling and copying.

What a prediction does is next door, in `prediction`; the model at one moment in `binding`; the
options in `config`.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import logging
from asyncio import _get_running_loop
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Never, Self

from ml_base import MLModelDecorator
from ml_base.ml_model import MLModel
from pydantic import BaseModel, SecretBytes, SecretStr

from model_cache.binding import Binding, CurrentBinding
from model_cache.errors import ConfigurationError
from model_cache.observing.counters import Counters, Stats
from model_cache.observing.events import Hook
from model_cache.observing.hooks import LoggingHook, telling
from model_cache.options.config import (
    DEFAULT_DATABASE,
    DEFAULT_HOST,
    DEFAULT_PORT,
    CacheIf,
    Config,
    refuse_unknown,
)
from model_cache.options.settings import CacheSettings
from model_cache.prediction.assembly import assembled
from model_cache.redaction import sealed_options, shown
from model_cache.stores.access import AddressMap, CredentialProvider

logger = logging.getLogger("model_cache")

# Not part of a copy, nor of a pickle: connections, counters and the binding are made anew.
_REMADE = (
    "_async_predictor",
    "_config",
    "_configuration",
    "_counters",
    "_current",
    "_has_warned",
    "_predictor",
)


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
        password: of Redis. Wrapped at once: no repr, error or log line shows it.
        ssl_ca_certs: file of the certificates to trust; by default the system's. Like the four
            options below, for a `rediss://` url; with `host` and `port`, it turns TLS on.
        ssl_certfile: file of the client's certificate, if the server asks for one.
        ssl_keyfile: file of its key.
        ssl_cert_reqs: "required" (the default), or "none" to check no certificate at all.
        ssl_check_hostname: whether the certificate must be for the host; by default True.
        ttl: how long an entry lives, in seconds or as a timedelta, less up to a tenth, so that
            entries written together do not expire together; None for until evicted.
        timeout: seconds that a prediction may lose to Redis, reading and writing together.
        on_error: "predict" without the cache when Redis fails, or "raise".
        revision: tells apart models of the same version: a text, or a list of the model's
            files, which are hashed; see `revision_of`.
        integrity: whether entries carry a tag, and damaged or swapped ones are misses.
        key_secret: keys the digests, so that inputs can't be guessed from keys nor entries
            forged; implies `integrity`.
        max_entry_bytes: larger entries are not stored.
        max_connections: how many connections this process opens at most; each event loop that
            predicts has one more.
        max_connection_age: seconds after which a connection is replaced, so that a name that moves
            to another server is followed; None for never.
        credential_provider: an object whose `get_credentials()` returns `(password,)` or
            `(username, password)`, or an import path to one; called for each new connection.
        address_map: where to connect instead of the addresses that a cluster or a Sentinel
            announces: a mapping of `host:port` to `host:port`, or a function of `(host, port)`, or
            an import path to either.
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
        url: str | SecretStr | None = None,
        username: str | None = None,
        password: str | SecretStr | None = None,
        ssl_ca_certs: str | Path | None = None,
        ssl_certfile: str | Path | None = None,
        ssl_keyfile: str | Path | None = None,
        ssl_cert_reqs: str | None = None,
        ssl_check_hostname: bool | None = None,
        ttl: float | timedelta | None = None,
        timeout: float = 0.1,
        on_error: Literal["predict", "raise"] = "predict",
        revision: str | Path | Sequence[str | Path] | None = None,
        integrity: bool = False,
        key_secret: str | bytes | SecretStr | SecretBytes | None = None,
        max_entry_bytes: int = 1_048_576,
        max_connections: int = 50,
        max_connection_age: float | timedelta | None = 300.0,
        credential_provider: CredentialProvider | str | None = None,
        address_map: Mapping[str, str] | AddressMap | str | None = None,
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
        options = sealed_options(locals(), _option_names())
        # A traceback may show the locals of this frame.
        del host, url, password, key_secret
        unknown_names = list(unknown)
        unknown.clear()
        refuse_unknown(unknown_names, options)
        self._set_up(options)

    def _set_up(self, options: dict[str, Any]) -> None:
        config, counters = Config.parse(options), Counters()
        hook = telling([LoggingHook(), *config.hooks])
        current = CurrentBinding(config, hook)
        predictors = assembled(config, current, counters, hook)
        super().__init__(**shown(options))
        # Through __dict__, since ml-base forwards the setting of attributes to the model.
        self.__dict__.update(
            _options=options,
            _config=config,
            _counters=counters,
            _current=current,
            _predictor=predictors.sync,
            _async_predictor=predictors.asynchronous,
            _has_warned=not config.enabled,
        )

    def set_model(self, model: MLModel) -> Self:
        """Bind to a model; its name, version and schemas are read now.

        Files of the revision are hashed once for each model object, unless its version changes.
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
        binding = self._current.bind(model)
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
        if _get_running_loop() is not None and not self._has_warned:
            self._warn_of_loop()
        return self._predictor.predict(data)

    async def apredict(self, data: BaseModel) -> Any:
        """Return the model's prediction for an input, without blocking the event loop.

        The same as `predict` in all else. A model whose class has an `apredict`, or whose `predict`
        is a coroutine function, is awaited; any other runs in the loop's thread pool, in a copy
        of the context.

        Args:
            data: an instance of the model's input schema; it is not changed.

        Returns:
            An instance of the model's output schema, the caller's own.

        Raises:
            ModelCacheError: there is no model yet.
            StoreUnavailableError: Redis failed, and `on_error` is "raise".
            Exception: whatever the model raises, as it is; nothing is cached then.
        """
        return await self._async_predictor.predict(data)

    def _warn_of_loop(self) -> None:
        self.__dict__["_has_warned"] = True
        logger.warning(
            "predict was called in a running event loop, which stands still meanwhile; "
            "use `await model.apredict(data)` there"
        )

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
        return binding.key(binding.rounded(data)).decode()

    def purge(self) -> int:
        """Delete the entries of this version of this model; return how many there were.

        In this process, no answer from before is given after it: predictions that are being made
        meanwhile are neither stored nor shared with later callers.

        Raises:
            ModelCacheError: there is no model yet.
            ConfigurationError: a proxy is in between, which can't list keys.
            StoreUnavailableError: Redis failed; some entries may be left.
        """
        deleted: int = self._predictor.purge(self._current.get().namespace)
        return deleted

    def ping(self) -> float:
        """Return how many seconds the store takes to answer a read; 0.0 if the cache is off.

        For health checks. Of a cluster, one node is asked.

        Raises:
            ModelCacheError: there is no model yet.
            StoreUnavailableError: Redis failed, or is spared since it kept failing.
        """
        seconds: float = self._predictor.ping(self._current.get().namespace)
        return seconds

    def stats(self) -> Stats:
        """Return what this decorator has done so far, as an immutable snapshot."""
        snapshot: Stats = self._counters.snapshot(self._predictor.state)
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
        self._predictor.close()
        self._async_predictor.close()

    async def aclose(self) -> None:
        """Do the same as `close`, without blocking the event loop.

        Entries that this loop has yet to write are written. Call it in each loop that predicts,
        before the loop ends.
        """
        await self._async_predictor.drain()
        self._async_predictor.close()
        try:
            closing = asyncio.get_running_loop().run_in_executor(None, self.close)
        except RuntimeError:  # the loop's threads have ended
            self.close()
        else:
            await closing

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

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
        try:
            return super().__getattr__(name)
        except AttributeError as error:
            if name in _option_names():
                raise self._fixed(name, "can't be read back") from error
            raise

    def __setattr__(self, name: str, value: object) -> None:
        # ml-base forwards this to the model, where an option would have no effect.
        if name in _option_names():
            del value  # a secret, perhaps: a traceback may show the locals
            raise self._fixed(name, "can't be changed")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in _option_names():
            raise self._fixed(name, "can't be deleted")
        super().__delattr__(name)

    def _fixed(self, name: str, problem: str) -> AttributeError:
        return AttributeError(
            f"{name!r} is an option of {type(self).__name__}, fixed when it is made; it {problem}. "
            f"Make a new decorator with the {name} that you want and give it the model: "
            f"{type(self).__name__}({name}=..., ...).set_model(model). For the attribute of the "
            "model with this name, use the model itself",
            name=name,
            obj=self,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).__new__, (type(self),), self.__getstate__()

    def __getstate__(self) -> dict[str, Any]:
        # Connections, counters and the binding are made anew.
        state = {name: value for name, value in self.__dict__.items() if name not in _REMADE}
        return {**state, "_taken": self._current.taken}

    def __setstate__(self, state: dict[str, Any]) -> None:
        taken = state.pop("_taken")
        self.__dict__.update(state)
        model = self._model
        self._set_up(self._options)
        if model is not None:
            self._current.adopt(model, taken)
            self.set_model(model)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Defined, since else ml-base would find the model's.
        made = memo[id(self)] = type(self).__new__(type(self))
        # Hooks are where events go to, not part of what is copied.
        memo.update({id(hook): hook for hook in self._options["hooks"] or ()})
        # Nor is a provider, which may have threads and clients.
        provider = self._options["credential_provider"]
        memo[id(provider)] = provider
        made.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return made


@functools.cache
def _option_names() -> tuple[str, ...]:
    return tuple(inspect.signature(RedisCachingDecorator).parameters)[:-1]

"""The decorator: the order of the steps, and nothing else.

A prediction is looked up under its key; what is found is decoded and returned. Otherwise the
model predicts, and what it returned is encoded and stored. The parts are next door: the key
and the entry in `binding`, Redis in `stores`, the options in `config`.
"""

from __future__ import annotations

import copy
import inspect
import random
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Never, Self

from ml_base import MLModelDecorator
from ml_base.ml_model import MLModel
from pydantic import BaseModel

from model_cache.binding import Binding, Request, Unbindable
from model_cache.codec import EntryRefusedError, Refusal
from model_cache.composition import compose
from model_cache.config import CacheIf, Config, refuse_unknown
from model_cache.endpoint import DefaultNumber, DefaultText, masked_url
from model_cache.errors import (
    ConfigurationError,
    ModelCacheError,
    NotCacheableError,
    StoreUnavailableError,
)
from model_cache.events import (
    BindingFailed,
    InputNotCacheable,
    LoggingHook,
    PredictionNotStored,
    WriteFailed,
)
from model_cache.statistics import Counters, Stats
from model_cache.storing import Prediction

_DEFAULT_HOST, _DEFAULT_PORT = DefaultText("localhost"), DefaultNumber(6379)
_DEFAULT_DATABASE = DefaultNumber(0)
_SECRETS = ("password", "key_secret")
# Purging is for operators: each of its round trips may take this many seconds.
_PURGE_TIMEOUT = 5.0
# The system's: a model may have seeded the random module's for itself.
_jitter = random.SystemRandom().random


class RedisCachingDecorator(MLModelDecorator):  # type: ignore[misc]  # ml-base is untyped
    """Keeps the predictions of an ml-base `MLModel` in Redis.

    The model must be deterministic: its prediction depends on the fields of its input, and on
    nothing else. Whatever Redis does, `predict` returns the model's answer.

    Args:
        host: name or address of Redis.
        port: its TCP port.
        database: its number there.
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
            `redis://`, `rediss://`, `unix://` or `embedded://`. With neither, the environment's
            REDIS_URL counts.
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

    Raises:
        ConfigurationError: an option can't be honoured; the message says why and what can.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the article's nine by position; the rest is options
        self,
        host: str = _DEFAULT_HOST,
        port: int = _DEFAULT_PORT,
        database: int = _DEFAULT_DATABASE,
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
        config, hook = Config.parse(options), LoggingHook()
        super().__init__(**_shown(options))
        # Through __dict__, since ml-base forwards the setting of attributes to the model.
        self.__dict__.update(
            _options=options,
            _config=config,
            _hook=hook,
            _counters=Counters(),
            _store=compose(config, hook) if config.enabled else None,
            _binding=None,
            _purges=0,
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
            raise ConfigurationError("model", f"{model!r} is no ml-base MLModel")
        binding = Binding(model, self._config)
        binding.warn_of_echoed_fields()
        super().set_model(model)
        self.__dict__["_binding"] = binding
        return self

    def predict(self, data: BaseModel) -> Any:
        """Return the model's prediction for an input, from the cache if it is there.

        Args:
            data: an instance of the model's input schema; it is not changed.

        Returns:
            An instance of the model's output schema, the caller's own.

        Raises:
            StoreUnavailableError: Redis failed, and `on_error` is "raise".
            Exception: whatever the model raises, as it is; nothing is cached then.
        """
        binding, config, purges = self._current_binding(), self._config, self._purges
        if not config.enabled:
            return binding.predict(data)
        try:
            request = binding.request(data)
        except NotCacheableError as error:
            self._counters.add(uncacheable=1)
            self._hook(InputNotCacheable(binding.qualified_name, str(error)))
            return binding.predict(data)

        started = time.perf_counter()
        try:
            entry = self._store.get(request.key, config.timeout)
        except StoreUnavailableError:
            self._counters.add(unavailable=1)
            if config.on_error == "raise":
                raise
            return binding.predict(request.data)
        if entry is not None:
            prediction = binding.decode(request.key, entry)
            if prediction is not None:
                self._counters.hit(time.perf_counter() - started)
                return prediction
            self._counters.add(undecodable=1)

        missed = time.perf_counter()
        with Prediction() as making:
            prediction = binding.predict(request.data)
        self._counters.add(misses=1, model_seconds=time.perf_counter() - missed)
        if making.may_be_stored:
            self._keep(binding, request, prediction, config.timeout - (missed - started), purges)
        else:
            self._counters.add(skipped=1)
        return prediction

    def cache_key(self, data: BaseModel) -> str:
        """Return the key under which the prediction for an input is kept.

        Raises:
            NotCacheableError: the input has no key; the message says why.
        """
        return self._current_binding().request(data).key.decode()

    def purge(self) -> int:
        """Delete the entries of this version of this model; return how many there were.

        Predictions of this process that are being made meanwhile are not stored.

        Raises:
            StoreUnavailableError: Redis failed; some entries may be left.
        """
        self.__dict__["_purges"] += 1
        if self._store is None:
            return 0
        namespace = self._current_binding().namespace
        keys = filter(namespace.holds, self._store.scan(namespace.pattern, _PURGE_TIMEOUT))
        deleted: int = self._store.delete(keys, _PURGE_TIMEOUT)
        return deleted

    def stats(self) -> Stats:
        """Return what this decorator has done so far, as an immutable snapshot."""
        snapshot: Stats = self._counters.snapshot(self._store.state if self._store else "off")
        return snapshot

    def close(self) -> None:
        """Close the connections; a later prediction opens them again."""
        if self._store is not None:
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
        return _rebuild, (type(self), self._options, self._model)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Defined, since else ml-base would find the model's.
        made: Self = _rebuild(
            type(self), copy.deepcopy(self._options, memo), copy.deepcopy(self._model, memo)
        )
        return made

    def _current_binding(self) -> Binding:
        binding: Binding | None = self._binding
        if binding is None:
            raise ModelCacheError("there is no model yet; give one with set_model")
        if binding.is_current():
            return binding
        renewed = self._bind_again(binding.model)
        if self._binding is binding:  # else a set_model came in between
            self.__dict__["_binding"] = renewed
        return renewed

    def _bind_again(self, model: MLModel) -> Binding:
        """Follow a model that was reloaded in place under another version or name."""
        try:
            return Binding(model, self._config)
        except Exception as error:  # a prediction must not fail for what the cache can't do
            self._hook(BindingFailed(type(model).__qualname__, str(error)))
            return Unbindable(model, self._config, str(error))

    def _keep(
        self,
        binding: Binding,
        request: Request,
        prediction: BaseModel,
        seconds: float,
        purges: int,
    ) -> None:
        """Store a prediction, if it may be; nothing that goes wrong here is the caller's."""
        counters, name = self._counters, binding.qualified_name
        try:
            if not self._is_wanted(request.data, prediction):
                counters.add(skipped=1)
                return
            entry = binding.encode(request.key, prediction)
            if purges != self._purges or not binding.is_current():
                return
            deadline = time.perf_counter() + seconds
            self._store.set(request.key, entry, self._entry_ttl(), seconds)
            counters.add(stored=1, bytes_stored=len(entry))
            if purges != self._purges:  # a purge may have passed this key before it was there
                self._store.delete([request.key], deadline - time.perf_counter())
        except EntryRefusedError as error:
            counters.add(**{"too_large" if error.reason is Refusal.TOO_LARGE else "lossy": 1})
            self._hook(PredictionNotStored(name, error.reason.value))
        except StoreUnavailableError as error:
            counters.add(write_failures=1)
            self._hook(WriteFailed(error.kind, str(error)))
        except Exception as error:  # cache_if's, or a property's of the model
            counters.add(skipped=1)
            self._hook(PredictionNotStored(name, f"{type(error).__name__} was raised"))

    def _is_wanted(self, data: BaseModel, prediction: BaseModel) -> bool:
        cache_if = self._config.cache_if
        return cache_if is None or bool(cache_if(data, prediction))

    def _entry_ttl(self) -> int | None:
        ttl: int | None = self._config.ttl
        return None if ttl is None else max(1, ttl - int(_jitter() * ttl / 10))


def _shown(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options as `_configuration` shows them: without their secrets."""
    shown = {
        name: "***" if name in _SECRETS and value else value for name, value in options.items()
    }
    if isinstance(shown["url"], str):
        shown["url"] = masked_url(shown["url"])
    return shown


def _rebuild(
    cls: type[RedisCachingDecorator], options: dict[str, Any], model: MLModel | None
) -> RedisCachingDecorator:
    """Make a decorator again from its options, in another process or as a copy."""
    made = cls.__new__(cls)
    made._set_up(options)
    if model is not None:
        made.set_model(model)
    return made

"""`Cache`: one place for the predictions of any number of models, functions and estimators."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, Protocol, Self, TypeVar, Unpack, cast
from weakref import WeakValueDictionary

from ml_base.ml_model import MLModel
from pydantic import SecretStr

from model_cache.closing import Closing
from model_cache.decorator import RedisCachingDecorator, option_defaults
from model_cache.errors import ConfigurationError
from model_cache.keys.key import Namespace
from model_cache.observing.counters import Stats, StatsByModel, added_up
from model_cache.observing.hooks import LoggingHook, telling
from model_cache.option_values import text
from model_cache.options.config import Config
from model_cache.options.names import refuse_unknown
from model_cache.options.typed import CacheOptions, EntryOptions, ModelOptions
from model_cache.prediction.backend import closed_in_a_thread, open_backend
from model_cache.redaction import sealed_options
from model_cache.wrappers.estimators import wrapped
from model_cache.wrappers.functions import Memoized, memoized
from model_cache.wrappers.rows import MemoizedRows, memoized_rows

_PINGED = Namespace(None, "ping", "")

P = ParamSpec("P")
R = TypeVar("R")
E = TypeVar("E")


class Member(Protocol):
    """Something that a cache has wrapped."""

    @property
    def qualified_name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def stats(self) -> Stats: ...

    def purge(self) -> int: ...

    async def drain(self) -> None: ...


class Cache(Closing):
    """Caches the predictions of models, functions and estimators in Redis.

    All that one cache wraps shares its connections, its circuit breaker and its near cache. Nothing
    connects to Redis before the first prediction.

    Args:
        url: the address of Redis: `redis://`, `rediss://`, `unix://`, `redis+cluster://`,
            `redis+sentinel://` or `embedded://`. By default REDIS_URL from the environment, or
            the options `host` and `port`.
        **options: where entries go and how they are kept; see `RedisCachingDecorator`, which
            describes them all.

    Raises:
        ConfigurationError: an option is invalid; the message says why and what is allowed.
    """

    def __init__(self, url: str | SecretStr | None = None, **options: Unpack[CacheOptions]) -> None:
        given = {**option_defaults(), **options, "url": url}
        names = list(options)
        del options, url  # tracebacks can show the local variables of this frame
        given = sealed_options(given, given)
        _refuse_others(names, [*CacheOptions.__optional_keys__, "url"])
        self._set_up(given)

    def _set_up(self, options: Mapping[str, Any]) -> None:
        self._options = options
        config = Config.parse(options)
        self._place = "embedded" if config.endpoint.embedded else str(config.endpoint)
        self.backend = open_backend(config, telling([LoggingHook(), *config.hooks]), shared=True)
        self._members: WeakValueDictionary[int, Member] = WeakValueDictionary()
        self._numbers = itertools.count()

    def model(self, model: MLModel, **options: Unpack[ModelOptions]) -> RedisCachingDecorator:
        """Return an ml-base model that is cached here.

        Args:
            model: the model.
            **options: what its key is made of, and what differs from the cache's own options.

        Raises:
            ConfigurationError: an option is invalid, or does not match the model's schemas.
        """
        _refuse_others(options, ModelOptions.__optional_keys__)
        decorator = RedisCachingDecorator.sharing(self, {**self._options, **options})
        return decorator.set_model(model)

    def memoize(
        self,
        function: None = None,
        /,
        *,
        version: str | None = None,
        name: str | None = None,
        ignored: Sequence[str] = (),
        revision: str | Path | Sequence[str | Path] | None = None,
        **options: Unpack[EntryOptions],
    ) -> Callable[[Callable[P, R]], Memoized[P, R]]:
        """Return a decorator that caches a function or coroutine function, one entry for each call.

            @cache.memoize(version="1.0.0")
            def charges(age: int, bmi: float) -> float: ...

        Arguments are bound by the signature, so that it does not matter whether they are passed by
        position, by keyword or by default. The function must be deterministic.

        Args:
            function: leave it out: `memoize` needs a version, so it needs parentheses.
            version: the function's version. Change it whenever its results change: nothing else
                tells new code from old.
            name: its name in keys and metrics; by default its module and qualified name.
            ignored: the names of parameters that are not part of the key.
            revision: distinguishes what the version does not, such as the files of the weights
                that the function uses; a string, or a list of files, which are hashed.
            **options: what differs from the cache's own options.

        Raises:
            ConfigurationError: an option is invalid, or the function can't be cached.
        """
        given = self._given(function, version, revision, options)

        def decorate(wrapped: Callable[P, R]) -> Memoized[P, R]:
            return memoized(self, wrapped, given, name=name, version=version or "", ignored=ignored)

        return decorate

    def memoize_rows(
        self,
        function: None = None,
        /,
        *,
        version: str | None = None,
        name: str | None = None,
        rows: str | None = None,
        ignored: Sequence[str] = (),
        revision: str | Path | Sequence[str | Path] | None = None,
        **options: Unpack[EntryOptions],
    ) -> Callable[[Callable[P, R]], MemoizedRows[P, R]]:
        """Return a decorator that caches a function of many rows, one entry for each row.

            @cache.memoize_rows(version="all-MiniLM-L6-v2")
            def embed(texts: list[str]) -> np.ndarray: ...

        The function takes a list, tuple, array, Series or DataFrame, and returns as many rows. It
        is called once, with the distinct rows that miss. Index labels count only if they are times.

        Args:
            function: leave it out: `memoize_rows` needs a version, so it needs parentheses.
            version: the function's version. Change it whenever its results change.
            name: its name in keys and metrics; by default its module and qualified name.
            rows: the parameter with the rows; by default the first. All others are in each key.
            ignored: the names of parameters that are not part of the key.
            revision: distinguishes what the version does not; a string, or a list of files.
            **options: what differs from the cache's own options.

        Raises:
            ConfigurationError: an option is invalid, or the function can't be cached.
        """
        given = self._given(function, version, revision, options)

        def decorate(wrapped: Callable[P, R]) -> MemoizedRows[P, R]:
            return memoized_rows(
                self, wrapped, given, name=name, version=version or "", rows=rows, ignored=ignored
            )

        return decorate

    def wrap(
        self,
        estimator: E,
        *,
        name: str,
        version: str,
        methods: Sequence[str] | None = None,
        revision: str | Path | Sequence[str | Path] | None = None,
        **options: Unpack[EntryOptions],
    ) -> E:
        """Return an object that you use like an estimator, with one entry for each row.

            fast = cache.wrap(pipeline, name="charges", version="1.0.0")
            fast.predict(df)

        A fingerprint of the fitted state is part of the keys. It is taken once, and again when
        the estimator may have changed, such as after `fit`.

        Args:
            estimator: an estimator of scikit-learn, XGBoost, LightGBM or CatBoost, a pipeline, an
                ONNX Runtime session, an MLflow model, a sentence encoder, or any object with such
                methods.
            name: its name in keys and metrics.
            version: its version.
            methods: the methods to cache; by default `predict`, `predict_proba`,
                `predict_log_proba`, `decision_function`, `transform`, `encode` and `run`, whichever
                it has. Everything else passes through.
            revision: what takes the place of the fingerprint: a string that changes with the
                weights, or a list of the model's files.
            **options: what differs from the cache's own options.

        Raises:
            ConfigurationError: an option is invalid, the estimator has none of the methods, or its
                state has no stable fingerprint and there is no revision.
        """
        given = self._given(None, version, revision, options)
        checked = text("name", name), text("version", version)
        return cast(E, wrapped(self, estimator, given, *checked, methods))

    def _given(
        self, function: object, version: str | None, revision: Any, options: EntryOptions
    ) -> dict[str, Any]:
        """Return the options of something that is wrapped, with the cache's own."""
        if function is not None or version is None:
            raise ConfigurationError(
                "version",
                "is required: it is part of the keys, and a new one keeps results of older code "
                'from being returned. Write @cache.memoize(version="1.0.0")',
            )
        _refuse_others(options, EntryOptions.__optional_keys__)
        return {**self._options, **options, "revision": revision}

    def join(self, member: Member) -> None:
        """Count something that was wrapped, as long as it exists, in `stats` and `purge`."""
        self._members[next(self._numbers)] = member

    def stats(self) -> Stats:
        """Return the sum of the counters of all that this cache has wrapped."""
        return added_up(self.stats_by_model().values(), self.backend.state)

    def stats_by_model(self) -> dict[str, Stats]:
        """Return the counters by `name/version`."""
        return StatsByModel(
            (f"{name}/{version}", stats)
            for (name, version), stats in self.stats_by_version().items()
        )

    def stats_by_version(self) -> dict[tuple[str, str], Stats]:
        """Return the counters by name and version."""
        grouped: dict[tuple[str, str], list[Stats]] = {}
        for member in list(self._members.values()):
            grouped.setdefault((member.qualified_name, member.version), []).append(member.stats())
        return {version: added_up(each, self.backend.state) for version, each in grouped.items()}

    def purge(self) -> int:
        """Delete the entries of all that this cache has wrapped; return how many there were.

        Raises:
            ConfigurationError: Redis is behind a proxy, which can't list keys.
            StoreUnavailableError: Redis failed; some entries may remain.
        """
        return sum(member.purge() for member in list(self._members.values()))

    async def apurge(self) -> int:
        """Do the same as `purge`, in a thread, without blocking the event loop."""
        return await asyncio.to_thread(self.purge)

    def ping(self) -> float:
        """Return how many seconds the store takes to answer a read; 0.0 if the cache is off.

        Raises:
            StoreUnavailableError: Redis failed, or the circuit is open.
        """
        return self.backend.ping(_PINGED)

    async def aping(self) -> float:
        """Do the same as `ping`, on the connection of the running event loop."""
        return await self.backend.aping(_PINGED)

    def close(self) -> None:
        """Finish the background work and close the connections, which reopen on demand."""
        self.backend.close()

    async def aclose(self) -> None:
        """Do the same as `close`, without blocking the event loop.

        Call it in each loop that predicts, before the loop ends: it finishes the loop's background
        jobs.
        """
        for member in list(self._members.values()):
            await member.drain()
        self.backend.close_in_loop()
        await closed_in_a_thread(self.close)

    def __repr__(self) -> str:
        return f"Cache({self._place!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Connections and counters are created again.
        return _reopened, (self._options,)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # a destination, like a connection pool


def _reopened(options: Mapping[str, Any]) -> Cache:
    cache = Cache.__new__(Cache)
    cache._set_up(options)
    return cache


_ELSEWHERE = {
    "ignored": "applies to memoize and memoize_rows. cache.model has ignored_fields; for an "
    "estimator, drop the columns before the call",
    "ignored_fields": "applies to ml-base models; pass it to cache.model(...). memoize and "
    "memoize_rows have ignored; for an estimator, drop the columns before the call",
}


def _refuse_others(names: Iterable[str], known: Collection[str]) -> None:
    """Raise `ConfigurationError` for the first name that is not a known option."""
    others = [name for name in names if name not in known]
    for name in others:
        if name in CacheOptions.__optional_keys__ or name == "url":
            raise ConfigurationError(name, "applies to the whole cache; pass it to Cache(...)")
        if name in _ELSEWHERE:
            raise ConfigurationError(name, _ELSEWHERE[name])
        if name in ModelOptions.__optional_keys__:
            raise ConfigurationError(name, "applies to ml-base models; pass it to cache.model(...)")
    refuse_unknown(others, known)

"""Cached estimators: an object that is used like the estimator, with rows from the cache."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from model_cache.entries.values import Classes
from model_cache.errors import ConfigurationError, NotCacheableError
from model_cache.keys.canonical import INPUTS
from model_cache.observing.counters import Stats, added_up
from model_cache.options.config import Config
from model_cache.prediction.backend import Sharing
from model_cache.wrappers.fitted import CurrentState
from model_cache.wrappers.identity import Identity, revision_in
from model_cache.wrappers.part import Part
from model_cache.wrappers.rows import TableCalls, attach_rows, blocking
from model_cache.wrappers.rows_binding import RowsBinding
from model_cache.wrappers.signatures import signature_of, with_rows

METHODS = (
    "predict",
    "predict_proba",
    "predict_log_proba",
    "decision_function",
    "transform",
    "encode",
    "run",
)
"""The methods that are cached by default, if the estimator has them."""

# Methods that change nothing, besides those that are cached and those that begin with "get_".
_READERS = frozenset({"score", "kneighbors", "inverse_transform", "save", "save_model"})

# scikit-learn's options that change answers or errors, besides the container of transformers.
_ANSWER_OPTIONS = ("array_api_dispatch", "assume_finite", "enable_metadata_routing")

# Methods of the wrapper itself, and of each cached method.
_ADDED = frozenset({"stats", "purge", "apurge"})
_ADDED_TO_METHODS = frozenset({"cache_keys", "explain", "forget", "aforget"})

# Operators are looked up on the class, so they are forwarded only if the estimator has them.
_OPERATORS = ("__len__", "__getitem__", "__iter__", "__contains__", "__bool__", "__call__")


class CachedEstimator:
    """An estimator whose predictions are cached row by row; see `Cache.wrap`.

    Attributes and methods that are not cached are the estimator's own. When it may have changed,
    by a method such as `fit` or by new attributes, the fingerprint of its state is taken anew.
    """

    __slots__ = ("__weakref__", "_cached")

    _cached: _Cached

    def __init__(self, cached: _Cached) -> None:
        object.__setattr__(self, "_cached", cached)

    @property  # type: ignore[misc]  # mypy wants a setter
    def __class__(self) -> type:  # for isinstance
        return type(self._cached.estimator)

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]  # for vars
        attributes: dict[str, Any] = vars(self._cached.estimator)
        return attributes

    def __getattr__(self, name: str) -> Any:
        return self._cached.attribute(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        with self._cached.state.changing():
            setattr(self._cached.estimator, name, value)

    def __delattr__(self, name: str) -> None:
        with self._cached.state.changing():
            delattr(self._cached.estimator, name)

    def __dir__(self) -> list[str]:
        return sorted({*dir(self._cached.estimator), *_ADDED})

    def __repr__(self) -> str:
        cached = self._cached
        name, version = cached.name, cached.version
        return f"<cached {cached.estimator!r}, name={name!r}, version={version!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return wrapped, self._cached.arguments()

    def __copy__(self) -> CachedEstimator:
        cache, estimator, *others = self._cached.arguments()
        return wrapped(cache, copy.copy(estimator), *others)

    def __deepcopy__(self, memo: dict[int, Any]) -> CachedEstimator:
        cache, estimator, *others = self._cached.arguments()
        return wrapped(cache, copy.deepcopy(estimator, memo), *others)


class _Method:
    """A method of a `CachedEstimator`: what it does, with the looks of the estimator's own.

    An object and not a function, since pickle must find it by the wrapper.
    """

    def __init__(
        self,
        wrapper: CachedEstimator,
        name: str,
        method: Callable[..., Any],
        function: Callable[..., Any],
    ) -> None:
        functools.update_wrapper(self, method)
        self._found = wrapper, name
        self._function = function

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, self._found

    def __repr__(self) -> str:
        wrapper, name = self._found
        return f"<method {name!r} of {wrapper!r}>"


class _Cached:
    """What a `CachedEstimator` knows, apart from its estimator's attributes.

    Attributes:
        estimator: the estimator.
        name: its name in keys.
        version: its version.
        state: its fitted state.
    """

    def __init__(
        self,
        cache: Sharing,
        estimator: Any,
        options: Mapping[str, Any],
        name: str,
        version: str,
        methods: Sequence[str] | None,
        refitted: str,
    ) -> None:
        self._arguments = (cache, estimator, options, name, version, methods)
        self._cache, self._options = cache, options
        self.estimator, self.name, self.version = estimator, name, version
        self._methods = _checked_methods(estimator, methods)
        self._is_session = type(estimator).__module__.partition(".")[0] == "onnxruntime"
        self._parts: dict[str, Part] = {}
        self._calls: dict[str, TableCalls] = {}
        given = None if options["revision"] is None else self._revision
        self.state = CurrentState(estimator, given, refitted)
        self._part(min(self._methods))  # for `purge`, which concerns all methods

    def _revision(self) -> str:
        return revision_in(Config.parse(self._options))

    def arguments(self) -> tuple[Any, ...]:
        """Return the arguments of `wrapped` for a copy."""
        self.state.renew(self._bind_all)
        return *self._arguments, self.state.refitted

    def attribute(self, wrapper: CachedEstimator, name: str) -> Any:
        """Return an attribute of the estimator; a cached method in place of its own."""
        if name in _ADDED:
            return getattr(self, name)
        try:
            found = getattr(self.estimator, name)
        except AttributeError as error:
            if name not in _ADDED_TO_METHODS:
                raise
            has = functools.partial(hasattr, self.estimator)
            method = next(filter(has, self._methods), "predict")
            raise AttributeError(
                f"{name!r} belongs to each cached method; use {method}.{name}",
                name=name,
                obj=wrapper,
            ) from error
        if not callable(found) or isinstance(found, type):
            return found
        if name in self._methods:
            return self._cached_method(wrapper, name, found)
        if name.startswith(("get_", "_")) or name in _READERS:
            return found
        if _is_held(self.estimator, name, found):
            return found
        return self._forwarded(wrapper, name, found)

    def _cached_method(
        self, wrapper: CachedEstimator, name: str, method: Callable[..., Any]
    ) -> _Method:
        part, calls = self._part(name), self._calls_of(name, method)
        cached = _Method(wrapper, name, method, blocking(part, calls))
        attach_rows(cached, part, calls)
        return cached

    def _calls_of(self, name: str, method: Callable[..., Any]) -> TableCalls:
        calls = self._calls.get(name)
        if calls is None or not _is_same(calls.function, method):
            self._calls[name] = calls = TableCalls(
                method,
                "input_feed" if self._is_session and name == "run" else None,
                context=self._context,
                signature=with_rows(signature_of(method)),
            )
        return calls

    def _context(self) -> object:
        """Return what answers depend on besides the state, which is renewed."""
        self.state.renew(self._bind_all)
        if self.state.refusal:
            raise NotCacheableError(self.state.refusal)
        return _configuration()

    def _forwarded(
        self, wrapper: CachedEstimator, name: str, method: Callable[..., Any]
    ) -> _Method:
        """Return a method that may change the estimator, and that returns the wrapper for it."""

        def forwarded(*args: Any, **kwargs: Any) -> Any:
            with self.state.changing():
                result = method(*args, **kwargs)
            return wrapper if result is self.estimator else result

        return _Method(wrapper, name, method, forwarded)

    def _part(self, method: str) -> Part:
        part = self._parts.get(method)
        if part is None:
            with self.state.lock:  # or it could miss that others are bound anew
                part = self._parts.get(method)
                if part is None:
                    part = Part(self._cache, self._options, functools.partial(self._bind, method))
                    self._parts[method] = part
        return part

    def _bind(self, method: str, config: Config) -> RowsBinding:
        facts = INPUTS.encode(("estimator", method))
        return RowsBinding(
            Identity(self.name, self.version, self.state.text, facts),
            config,
            Classes(None),
            returns="outputs" if self._is_session else "either",
            is_current=self.state.since_now(),
        )

    def _bind_all(self) -> None:
        for method, part in list(self._parts.items()):
            part.current.binding = self._bind(method, part.config)

    def stats(self) -> Stats:
        """Return the sum of the counters of all methods."""
        parts = list(self._parts.values())
        return added_up((part.stats() for part in parts), self._cache.backend.state)

    def purge(self) -> int:
        """Delete the entries of this version; return how many there were."""
        return sum(part.purge() for part in list(self._parts.values()))

    async def apurge(self) -> int:
        """Do the same as `purge`, in a thread, without blocking the event loop."""
        return await asyncio.to_thread(self.purge)


def _is_same(function: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Return whether nothing has taken the place of a method, which is a new object each time."""
    return function is other or (inspect.ismethod(function) and function == other)


def _is_held(estimator: Any, name: str, found: Any) -> bool:
    """Return whether something callable is a value that an estimator holds, not its method.

    Such as the fitted kernel of a Gaussian process, which is used by its own attributes.
    """
    if name in getattr(estimator, "__dict__", ()):
        return not isinstance(found, types.MethodType)
    return isinstance(inspect.getattr_static(type(estimator), name, None), property)


def _checked_methods(estimator: Any, methods: Sequence[str] | None) -> tuple[str, ...]:
    if isinstance(estimator, type):
        raise ConfigurationError("estimator", f"expected an object, got the class {estimator!r}")
    if methods is None and inspect.isroutine(estimator):
        hint = f"got the function {estimator.__qualname__}; use memoize, or memoize_rows for rows"
        raise ConfigurationError("estimator", f"expected an object with methods, {hint}")
    kind = type(estimator).__qualname__
    if methods is None:
        if not any(callable(getattr(estimator, name, None)) for name in METHODS):
            raise ConfigurationError(
                "methods",
                f"{kind} has none of {', '.join(METHODS)}; name the methods to cache, as in "
                'methods=["predict_batch"], or cache a function with memoize_rows',
            )
        return METHODS
    if isinstance(methods, str):
        raise ConfigurationError("methods", f"expected a list of names, got {methods!r}")
    for name in methods:
        if not callable(getattr(estimator, name, None)):
            raise ConfigurationError("methods", f"{kind} has no method {name!r}")
    return tuple(methods)


def wrapped(
    cache: Sharing,
    estimator: Any,
    options: Mapping[str, Any],
    name: str,
    version: str,
    methods: Sequence[str] | None,
    refitted: str = "",
) -> CachedEstimator:
    """Return an estimator whose methods answer from the cache; see `Cache.wrap`."""
    cached = _Cached(cache, estimator, options, name, version, methods, refitted)
    return _class_for(type(estimator))(cached)


def _class_for(cls: type[Any]) -> type[CachedEstimator]:
    """Return a class with the operators that a class has."""
    operators = {name: _forward(name) for name in _OPERATORS if hasattr(cls, name)}
    body = {"__doc__": cls.__doc__, "__slots__": (), **operators}
    return type(f"Cached{cls.__name__}", (CachedEstimator,), body)


def _forward(operator: str) -> Callable[..., Any]:
    def forward(self: CachedEstimator, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._cached.estimator, operator)(*args, **kwargs)

    forward.__name__ = operator
    return forward


def _configuration() -> object:
    """Return what scikit-learn's global configuration changes: containers, and what is checked."""
    sklearn = sys.modules.get("sklearn")
    if sklearn is None:
        return "default"
    options = sklearn.get_config()
    output = str(options["transform_output"])
    others = [name for name in _ANSWER_OPTIONS if options.get(name)]
    return (output, others) if others else output

"""Cached functions of many rows: one entry for each row of a call."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from model_cache.binding.explaining import Keyed
from model_cache.entries.values import Classes
from model_cache.errors import ConfigurationError, NotCacheableError, did_you_mean
from model_cache.keys.canonical import INPUTS
from model_cache.keys.canonical.refusals import refuse
from model_cache.keys.tables import Table, table_of
from model_cache.options.config import Config
from model_cache.prediction.backend import Sharing
from model_cache.prediction.table_call import TableCall, TableRow
from model_cache.wrappers.explaining import ExplainableCall, ExplainedCall, explainer
from model_cache.wrappers.functions import Cached, attached
from model_cache.wrappers.identity import identity_of, refuse_uncacheable
from model_cache.wrappers.part import Part
from model_cache.wrappers.rows_binding import RowsBinding
from model_cache.wrappers.signatures import (
    Omitted,
    annotations_of,
    check_parameters,
    is_decorated,
    signature_of,
    warn_of_fresh_arguments,
    with_name,
)

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class MemoizedRows(Cached[P, R_co], Protocol[P, R_co]):
    """A cached function with one entry for each row of a call; see `Cache.memoize_rows`."""

    def cache_keys(self, *args: P.args, **kwargs: P.kwargs) -> list[str]:
        """Return the keys of a call's rows.

        Raises:
            NotCacheableError: the call has no keys; the message says why.
        """
        ...

    def explain(self, *args: P.args, **kwargs: P.kwargs) -> ExplainedCall[P]:
        """Explain the key of a call's first row, on its own or compared to another call's.

        print(embed.explain(["snow"]).compared_to(("snow",)))
        """
        ...

    def forget(self, *args: P.args, **kwargs: P.kwargs) -> int:
        """Delete the entries of a call's rows; return how many there were.

        Raises:
            StoreUnavailableError: Redis failed; some entries may remain.
        """
        ...

    def aforget(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, int]:
        """Do the same as `forget`, without blocking the event loop."""
        ...


class TableCalls:
    """Makes the calls of a function of many rows.

    Args:
        function: the function.
        rows: the parameter that takes the rows; None for the first that is not ignored.
        ignored: parameters that are not part of the key.
        context: returns what else the results depend on at the time of a call. It may raise
            NotCacheableError.
        signature: the function's signature; None for its own.

    Raises:
        ConfigurationError: a name that is not a parameter's, or a function of which nothing says
            which parameter takes the rows.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        rows: str | None = None,
        ignored: Sequence[str] = (),
        context: Callable[[], object] = lambda: None,
        signature: inspect.Signature | None = None,
    ) -> None:
        self.function = function
        self._context = context
        self._signature = signature or signature_of(function)
        self._is_decorated = is_decorated(function)
        self._ignored = frozenset(ignored)
        names = list(self._signature.parameters)
        for option, name in [("rows", rows), *(("ignored", name) for name in ignored)]:
            if name is not None and name not in names:
                hint = did_you_mean(name, names)
                raise ConfigurationError(option, f"{name!r} is not a parameter; {hint}")
        candidates = [name for name in names if name not in self._ignored]
        if rows is None and not candidates:
            raise ConfigurationError("rows", "the function has no parameter for the rows")
        self._rows = candidates[0] if rows is None else rows
        parameter = self._signature.parameters[self._rows]
        if rows is None and parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ConfigurationError(
                "rows",
                f"the first parameter is {parameter}, which may only pass arguments on; if each "
                f'of them is a row, use rows="{self._rows}"',
            )
        is_plain = parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        self._place = names.index(self._rows) if is_plain else None

    def __call__(self, /, *args: Any, **kwargs: Any) -> TableCall:
        """Return a call with these arguments."""
        function, name, place = self.function, self._rows, self._place
        try:
            passed, complete = self._bind(args, kwargs)
        except TypeError as error:  # the function's own says it better
            return TableCall(None, lambda _: function(*args, **kwargs), None, reason=str(error))
        whole = complete[name]
        # A decorated function may have other defaults than the signature says.
        known = passed if self._is_decorated else complete

        def compute(rows: Any) -> Any:
            if rows is whole:
                return function(*args, **kwargs)
            # As they were passed: a decorated function may look at that.
            if place is not None and place < len(args):
                return function(*args[:place], rows, *args[place + 1 :], **kwargs)
            if place is not None and name in kwargs:
                return function(*args, **{**kwargs, name: rows})
            replaced = inspect.BoundArguments(self._signature, OrderedDict(passed, **{name: rows}))
            return function(*replaced.args, **replaced.kwargs)

        try:
            context = self._context()
            table, encoded = _table(whole, name), _encoded(self._keyed(known))
        except NotCacheableError as error:
            return TableCall(whole, compute, None, reason=str(error))
        shared = INPUTS.encode((table.kind, encoded, context))
        return TableCall(whole, compute, table, hashlib.blake2b(shared, digest_size=16).digest())

    def _bind(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the arguments that were passed, by name, and these with the defaults.

        Raises:
            TypeError: they don't fit the signature.
        """
        bound = self._signature.bind(*args, **kwargs)
        passed = dict(bound.arguments)
        bound.apply_defaults()
        return passed, bound.arguments

    def _keyed(self, arguments: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """Return the arguments that are part of the keys of all rows."""
        left_out = {self._rows, *self._ignored}
        return [item for item in arguments.items() if item[0] not in left_out]

    def explainable(
        self, part: Part, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> ExplainableCall:
        """Return a call with these arguments, to explain its first row.

        Raises:
            TypeError: the arguments don't fit the signature.
        """
        passed, complete = self._bind(args, kwargs)
        others = {name: value for name, value in complete.items() if name != self._rows}
        keyed = dict(self._keyed(complete))
        if self._is_decorated:
            keyed = {name: passed.get(name, Omitted.DEFAULT) for name in keyed}
        call = self(*args, **kwargs)
        first = call.table.part([0]) if call.table else None

        def key() -> Keyed:
            if first is None:
                return Keyed(None, call.reason if call.table is None else "it has no rows")
            return Keyed(_key_of(part, call.head, first.rows()[0]), None)

        return ExplainableCall(key, others, keyed, self._rows, first)


def _table(whole: Any, name: str) -> Table:
    try:
        return table_of(whole)
    except NotCacheableError as error:
        refuse(error, name)


def _encoded(others: list[tuple[str, Any]]) -> bytes:
    try:
        return INPUTS.encode(others)
    except NotCacheableError as error:
        place = error.path.replace("][1]", "]", 1)  # of a value, in the pair with its name
        located = NotCacheableError(error.reason, place)
        raise with_name(located, [name for name, _ in others]) from error.__cause__


def attach_rows(cached: Any, part: Part, calls: TableCalls) -> None:
    """Give a cached function of many rows the methods that concern the rows of a call."""

    def keys(*args: Any, **kwargs: Any) -> list[str]:
        call = calls(*args, **kwargs)
        if call.table is None:
            raise NotCacheableError(call.reason)
        return [_key_of(part, call.head, row) for row in call.table.rows()]

    def forget(*args: Any, **kwargs: Any) -> int:
        return part.sync.forget(_rows_of(calls(*args, **kwargs)))

    async def aforget(*args: Any, **kwargs: Any) -> int:
        return await part.asynchronous.forget(_rows_of(calls(*args, **kwargs)))

    def read(*args: Any, **kwargs: Any) -> ExplainableCall:
        return calls.explainable(part, args, kwargs)

    cached.cache_keys, cached.forget, cached.aforget = keys, forget, aforget
    cached.explain = explainer(read, hides_values=part.config.hides_values)


def _key_of(part: Part, head: bytes, row: bytes) -> str:
    return part.current.binding.keys.key_of(head + row).decode()


def _rows_of(call: TableCall) -> list[TableRow]:
    return [TableRow(call, place) for place in range(0 if call.table is None else len(call.table))]


def memoized_rows(
    cache: Sharing,
    function: Callable[P, R],
    options: Mapping[str, Any],
    name: str | None,
    version: str,
    *,
    rows: str | None,
    ignored: Sequence[str],
) -> MemoizedRows[P, R]:
    """Return a function that looks up each row of its calls; see `Cache.memoize_rows`."""
    refuse_uncacheable(function, name, options)
    check_parameters(function, [*ignored, rows or _first(function, ignored)])
    calls, is_async = TableCalls(function, rows, ignored), inspect.iscoroutinefunction(function)

    def binding(config: Config) -> RowsBinding:
        identity = identity_of(function, name, version, ignored, config)
        classes = Classes(annotations_of(function).get("return"))
        return RowsBinding(identity, config, classes, is_async=is_async)

    part = Part(cache, options, binding)
    if part.config.enabled:
        warn_of_fresh_arguments(function, ignored, stacklevel=3)
    wrapper = _asynchronous if is_async else blocking
    cached: Any = functools.wraps(function)(wrapper(part, calls))
    attach_rows(cached, part, calls)
    return cast(MemoizedRows[P, R], attached(cached, part))


def _first(function: Callable[..., Any], ignored: Sequence[str]) -> str:
    names = signature_of(function).parameters
    return next((name for name in names if name not in ignored and name != "self"), "")


def blocking(part: Part, calls: TableCalls) -> Callable[..., Any]:
    """Return a function that answers calls from the cache."""

    def cached(*args: Any, **kwargs: Any) -> Any:
        return part.sync.predict_table(calls(*args, **kwargs))

    return cached


def _asynchronous(part: Part, calls: TableCalls) -> Callable[..., Any]:
    async def cached(*args: Any, **kwargs: Any) -> Any:
        return await part.asynchronous.predict_table(calls(*args, **kwargs))

    return cached

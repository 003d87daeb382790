"""Cached functions of many rows: one entry for each row of a call."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from model_cache.entries.values import Classes
from model_cache.errors import ConfigurationError, NotCacheableError, did_you_mean
from model_cache.keys.canonical import INPUTS
from model_cache.keys.tables import table_of
from model_cache.option_values import text
from model_cache.options.config import Config
from model_cache.prediction.table_call import TableCall, TableRow
from model_cache.wrappers.functions import (
    Cached,
    attached,
    identity,
    named,
    refuse_uncacheable,
    revision,
)
from model_cache.wrappers.part import Part, Sharing
from model_cache.wrappers.rows_binding import RowsBinding
from model_cache.wrappers.signatures import (
    annotations_of,
    check_parameters,
    is_decorated,
    signature_of,
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

    def forget(self, *args: P.args, **kwargs: P.kwargs) -> int:
        """Delete the entries of a call's rows; return how many there were.

        Raises:
            StoreUnavailableError: Redis failed; some entries may remain.
        """
        ...


class TableCalls:
    """Makes the calls of a function of many rows.

    Args:
        function: the function.
        rows: the parameter that takes the rows; None for the first that is not ignored.
        ignored: parameters that are not part of the key.
        context: returns what else the results depend on at the time of a call.
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
        self._function = function
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
        function, name, place = self._function, self._rows, self._place
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:  # the function's own says it better
            return TableCall(None, lambda _: function(*args, **kwargs), None, reason=str(error))
        passed = dict(bound.arguments)
        bound.apply_defaults()
        whole = bound.arguments[name]
        # A decorated function may have other defaults than the signature says.
        known = passed if self._is_decorated else bound.arguments

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
            table = table_of(whole)
            others = INPUTS.encode(
                [item for item in known.items() if item[0] != name and item[0] not in self._ignored]
            )
        except NotCacheableError as error:
            return TableCall(whole, compute, None, reason=str(error))
        head = hashlib.blake2b(
            INPUTS.encode((table.kind, others, self._context())), digest_size=16
        ).digest()
        return TableCall(whole, compute, table, head)


def keys_of(part: Part, call: TableCall) -> list[str]:
    """Return the keys of a call's rows.

    Raises:
        NotCacheableError: the call has no keys; the message says why.
    """
    if call.table is None:
        raise NotCacheableError(call.reason)
    key = part.current.binding.key
    return [key(call.head + row).decode() for row in call.table.rows()]


def forget(part: Part, call: TableCall) -> int:
    """Delete the entries of a call's rows; return how many there were."""
    places = range(0 if call.table is None else len(call.table))
    return sum(part.sync.forget(TableRow(call, place)) for place in places)


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

    def bind(config: Config) -> RowsBinding:
        return RowsBinding(
            name=named(function, name, version, config),
            version=text("version", version),
            config=config,
            revision=revision(config),
            identity=identity(function, config, ignored),
            classes=Classes(annotations_of(function).get("return")),
            is_async=is_async,
        )

    part = Part(cache, options, bind)
    wrapper = _asynchronous if is_async else _blocking
    cached: Any = functools.wraps(function)(wrapper(part, calls))
    cached.cache_keys = lambda *args, **kwargs: keys_of(part, calls(*args, **kwargs))
    cached.forget = lambda *args, **kwargs: forget(part, calls(*args, **kwargs))
    return cast(MemoizedRows[P, R], attached(cached, part))


def _first(function: Callable[..., Any], ignored: Sequence[str]) -> str:
    names = signature_of(function).parameters
    return next((name for name in names if name not in ignored and name != "self"), "")


def _blocking(part: Part, calls: TableCalls) -> Callable[..., Any]:
    def cached(*args: Any, **kwargs: Any) -> Any:
        return part.sync.predict_table(calls(*args, **kwargs))

    return cached


def _asynchronous(part: Part, calls: TableCalls) -> Callable[..., Any]:
    async def cached(*args: Any, **kwargs: Any) -> Any:
        return await part.asynchronous.predict_table(calls(*args, **kwargs))

    return cached

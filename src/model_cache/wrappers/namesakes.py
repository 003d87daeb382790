"""Detect different functions of a process that have the same name and version."""

from __future__ import annotations

import contextlib
import gc
import types
import weakref
from collections.abc import Callable
from typing import Any

from model_cache.errors import ConfigurationError
from model_cache.options.config import Config

# Functions of these modules return what the function returns that they cache.
_OURS = __name__.rpartition(".")[0]
_CONSTANTS = frozenset([bool, int, float, str])

# Weak: a function that no longer exists does not conflict.
_functions: weakref.WeakValueDictionary[tuple[Any, ...], Any] = weakref.WeakValueDictionary()


def refuse_namesake(
    function: Callable[..., Any], name: str, version: str, revision: str, config: Config
) -> None:
    """Refuse a function whose name in keys is that of another one in this process.

    Raises:
        ConfigurationError: they would return each other's results.
    """
    endpoint = config.endpoint
    place = str(endpoint), endpoint.database, endpoint.embedded
    key = (place, config.prefix, name, version, revision)
    if _other(key, function) is not None:
        gc.collect()  # it may be garbage already
    if (other := _other(key, function)) is not None:
        raise ConfigurationError(
            "name",
            f"{name!r} with version {version!r} is already the name of {_described(other)}; "
            f"choose another name or version for {_described(function)}",
        )
    with contextlib.suppress(TypeError):  # a ufunc can't be referred to weakly
        _functions[key] = function


def _other(key: tuple[Any, ...], function: Any) -> Any | None:
    """Return another function that has this key; one that was defined again is the same."""
    found = _functions.get(key)
    return None if found is None or _place(found) == _place(function) else found


def _place(function: Any) -> tuple[Any, ...]:
    function = _bare(function)
    named = function if hasattr(function, "__qualname__") else type(function)
    return str(named.__module__), str(named.__qualname__), *_decoration(function)


def _bare(function: Any) -> Any:
    """Return a function without the caches around it."""
    while hasattr(function, "__wrapped__") and _is_ours(function):
        function = function.__wrapped__
    return function


def _is_ours(function: Any) -> bool:
    return str(getattr(function, "__globals__", {}).get("__name__")).startswith(_OURS)


def _decoration(function: Any) -> tuple[Any, ...]:
    """Return what distinguishes functions that decorators have given the name of another one.

    With `functools.wraps`, a function that does something else has the same name. Objects that the
    decorator holds don't count, since they may change.
    """
    code = _other_code(function)
    return () if code is None else (code.co_qualname, *map(_held, function.__closure__ or ()))


def _other_code(function: Any) -> types.CodeType | None:
    """Return the code of a function that is decorated; None if its code has its own name."""
    code: types.CodeType | None = getattr(function, "__code__", None)
    return None if code is None or code.co_qualname == function.__qualname__ else code


def _held(cell: types.CellType) -> object:
    try:
        found = cell.cell_contents
    except ValueError:  # empty
        return None
    if isinstance(found, types.FunctionType):
        return found.__module__, found.__qualname__, found.__code__.co_qualname
    return found if type(found) in _CONSTANTS else None


def _described(function: Any) -> str:
    module, name, *_ = _place(function)
    code = _other_code(_bare(function))
    return f"{module}.{name}" + (f" (decorated: {code.co_qualname})" if code else "")

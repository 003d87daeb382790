"""Signatures of functions: which arguments a call has, and which of them are part of its key."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from model_cache.binding import unkeyed
from model_cache.errors import ConfigurationError, NotCacheableError, did_you_mean
from model_cache.interruptions import reraise_interruption

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Omitted(Enum):
    """Stands in keys for an argument that a decorated function did not get.

    Its default may be another one than that in the signature, which `functools.wraps` has from the
    function inside. The name of this class is part of keys.
    """

    DEFAULT = "default"


@dataclass(slots=True, eq=False, repr=False)
class Arguments:
    """The arguments of one call.

    Attributes:
        key: the arguments that are part of the key.
        args: the arguments by position, as they were passed.
        kwargs: the arguments by keyword, as they were passed.
    """

    key: tuple[Any, ...]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


def binder(function: Callable[..., Any], ignored: Sequence[str]) -> Callable[..., tuple[Any, ...]]:
    """Return a function with the same signature that returns the arguments for the key.

    It binds arguments as Python does, at the speed of a call: by position, by keyword or by
    default, except that a decorated function's own default counts as such.

    Args:
        function: the function whose calls are cached.
        ignored: the names of parameters that are not part of the key.

    Raises:
        ConfigurationError: a name that is not a parameter's, or a method whose `self` is not
            ignored.
    """
    parameters = signature_of(function).parameters
    extra = _ignored_keywords(parameters, ignored)
    check_parameters(function, ignored)
    # Source code in which only the names of parameters vary, which are identifiers.
    names = keyed_parameters(function, ignored)
    source = f"lambda {_source(parameters)}: ({''.join(name + ', ' for name in names)})"
    bind: Any = eval(source, {})
    omitted = Omitted.DEFAULT if is_decorated(function) else None
    bind.__defaults__ = tuple(
        omitted or parameter.default
        for parameter in parameters.values()
        if parameter.kind in _POSITIONAL and parameter.default is not parameter.empty
    )
    bind.__kwdefaults__ = {
        name: omitted or parameter.default
        for name, parameter in parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty
    }
    if not extra:
        return typing.cast(Callable[..., tuple[Any, ...]], bind)

    def without(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
        kept = {name: value for name, value in kwargs.items() if name not in extra}
        return typing.cast(tuple[Any, ...], bind(*args, **kept))

    return without


def with_name(error: NotCacheableError, names: Sequence[str]) -> NotCacheableError:
    """Return the error for a tuple of arguments, with a parameter's name for its position."""
    position, _, rest = error.path.removeprefix("[").partition("]")
    if not position.isdigit():
        return error
    named = NotCacheableError(error.reason, names[int(position)] + rest)
    named.__cause__ = error.__cause__
    return named


def arguments_of(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a call by name, with defaults.

    Raises:
        TypeError: they don't fit the signature.
    """
    bound = signature_of(function).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments


def keyed_parameters(function: Callable[..., Any], ignored: Sequence[str]) -> list[str]:
    """Return the names of the parameters that are part of the key, in order."""
    return [name for name in signature_of(function).parameters if name not in ignored]


def _source(parameters: Mapping[str, inspect.Parameter]) -> str:
    """Return the text of a signature, with None for each default."""
    bare = [
        parameter.replace(
            annotation=parameter.empty,
            default=parameter.empty if parameter.default is parameter.empty else None,
        )
        for parameter in parameters.values()
    ]
    return str(inspect.Signature(bare))[1:-1]


def check_parameters(function: Callable[..., Any], ignored: Sequence[str]) -> None:
    """Refuse parameters that can't be part of a key, unless they are ignored.

    Raises:
        ConfigurationError: a method whose `self` is not ignored, or an annotation of a type that
            has no canonical form.
    """
    first = next(iter(signature_of(function).parameters), "")
    if first in ("self", "cls") and first not in ignored:
        raise ConfigurationError(
            "ignored",
            f"{function.__qualname__} is a method: each object would need entries of its own. If "
            f'its results depend on the other arguments alone, use ignored=["{first}"]; if not, '
            "cache a function that takes what they depend on as arguments",
        )
    for name, hint in _keyed_annotations(function, ignored).items():
        found = unkeyed.uncovered_type(hint)
        if found is not None:
            raise ConfigurationError(
                "ignored",
                f"the parameter {name!r} is of type {found.__module__}.{found.__qualname__}, which "
                "has no canonical form, so it can't be part of a key; leave it out with "
                f'ignored=["{name}"], or register a form with model_cache.register_canonical',
            )


def warn_of_fresh_arguments(
    function: Callable[..., Any], ignored: Sequence[str], *, stacklevel: int
) -> None:
    """Warn of arguments that are never the same; see `unkeyed`."""
    keyed = _keyed_annotations(function, ignored)
    unkeyed.warn_of_fresh_arguments(keyed, stacklevel=stacklevel + 1)


def _keyed_annotations(function: Callable[..., Any], ignored: Sequence[str]) -> dict[str, Any]:
    hints = annotations_of(function)
    return {name: hints[name] for name in keyed_parameters(function, ignored) if name in hints}


def _ignored_keywords(
    parameters: Mapping[str, inspect.Parameter], ignored: Sequence[str]
) -> Collection[str]:
    """Return the ignored names that only `**kwargs` can receive."""
    extra = {name for name in ignored if name not in parameters}
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    if extra and not takes_any:
        name = min(extra)
        hint = did_you_mean(name, parameters)
        raise ConfigurationError("ignored", f"{name!r} is not a parameter; {hint}")
    return extra


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a function; of one that has none, written in C, a general one."""
    try:
        return inspect.signature(function)
    except ValueError:
        return inspect.signature(_unknown)


def is_decorated(function: Callable[..., Any]) -> bool:
    """Return whether the signature of a function is that of another one."""
    return hasattr(function, "__wrapped__") or hasattr(function, "__signature__")


def _unknown(first: Any, /, *args: Any, **kwargs: Any) -> None: ...


def with_rows(signature: inspect.Signature) -> inspect.Signature:
    """Return the signature of a method whose first parameter takes one argument: the rows.

    A method may take `*args` only to pass them on. Then its first argument has the rows: `*args` is
    not a table of which each argument is a row. If it takes `**kwargs` alone, nothing says where
    the rows are.
    """
    parameters = list(signature.parameters.values())
    first = parameters[0] if parameters else None
    if first is None or first.kind not in (first.VAR_POSITIONAL, first.VAR_KEYWORD):
        return signature
    named = inspect.Parameter("_rows", first.POSITIONAL_OR_KEYWORD, default=None)
    if first.kind is first.VAR_KEYWORD:
        named = named.replace(kind=first.KEYWORD_ONLY)
    return signature.replace(parameters=[named, *parameters])


def annotations_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations that can be resolved now; nothing of a function that has others."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception as error:  # a name that is not defined yet, for example
        reraise_interruption(error)
        return {}

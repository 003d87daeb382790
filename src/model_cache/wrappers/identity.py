"""What tells a function, or a method of an estimator, from all else that is cached."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_cache.binding.facts import OpaqueError, carried_facts
from model_cache.errors import ConfigurationError
from model_cache.interruptions import reraise_interruption
from model_cache.keys.canonical import INPUTS
from model_cache.option_values import text
from model_cache.options.config import Config
from model_cache.revision import revision_of
from model_cache.wrappers.namesakes import refuse_namesake
from model_cache.wrappers.signatures import keyed_parameters


@dataclass(frozen=True, slots=True)
class Identity:
    """What all entries of a function, or of a method of an estimator, have in common.

    Attributes:
        name: its name in keys.
        version: its version.
        revision: distinguishes functions of the same version.
        facts: canonical bytes of what else its results depend on.
    """

    name: str
    version: str
    revision: str
    facts: bytes


def identity_of(
    function: Callable[..., Any],
    name: str | None,
    version: str,
    ignored: Sequence[str],
    config: Config,
) -> Identity:
    """Return the identity of a function.

    Raises:
        ConfigurationError: another function has this name and version, or its closure has a value
            that can't be identified, and there is no revision instead.
    """
    name = f"{_module_of(function)}.{function.__qualname__}" if name is None else text("name", name)
    revision = revision_in(config)
    refuse_namesake(function, name, version, revision, config)
    return Identity(name, text("version", version), revision, _facts(function, ignored, config))


def _module_of(function: Callable[..., Any]) -> str:
    # multiprocessing imports the script by another name in the processes that it spawns.
    return "__main__" if function.__module__ == "__mp_main__" else function.__module__


def _is_named(function: Callable[..., Any]) -> bool:
    return _module_of(function) != "__main__" and "<" not in function.__qualname__


def revision_in(config: Config) -> str:
    """Return the revision in the options; files are hashed."""
    if isinstance(config.revision, tuple):
        return revision_of(*config.revision)
    return config.revision or ""


def _facts(function: Callable[..., Any], ignored: Sequence[str], config: Config) -> bytes:
    """Return canonical bytes for a function's parameters, and for what its name does not say.

    A function in a module is identified by its name and version. Two scripts may each have a
    function of the same name, as may two calls of a function that returns functions: these are
    told apart by their code and their closure.
    """
    names = keyed_parameters(function, ignored)
    if config.revision is not None or _is_named(function):
        return INPUTS.encode((names, b""))
    try:
        return INPUTS.encode((names, carried_facts(function)))
    except Exception as error:
        reraise_interruption(error)
        is_known = isinstance(error, OpaqueError)
        reason = str(error) if is_known else f"reading it raised {type(error).__name__}"
        raise ConfigurationError(
            "revision",
            f"{function.__qualname__} uses a variable of the function around it that can't be part "
            f"of a key: {reason}. Pass revision=..., a string that changes with it",
        ) from (None if is_known else error)


def refuse_uncacheable(function: Any, name: str | None, options: Mapping[str, Any]) -> None:
    """Refuse what is no function, and what a name and a version do not describe.

    Raises:
        ConfigurationError: the message says what to do instead.
    """
    if not callable(function) or isinstance(function, type):
        raise ConfigurationError("memoize", f"expected a function, got {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(
            "memoize",
            f"{function.__qualname__} is a generator, which can be read only once; "
            "return a list instead",
        )
    if _carries_state(function) and (name is None or options["revision"] is None):
        raise ConfigurationError(
            "revision",
            f"{function!r} holds values that are not part of the key; pass name=... and "
            "revision=..., a string that changes with them, or cache a function that takes them "
            "as arguments",
        )


def _carries_state(function: Any) -> bool:
    """Return whether it is a method of an object, a partial, or an object with `__call__`."""
    bound_to = getattr(function, "__self__", None)
    is_bound = bound_to is not None and not isinstance(bound_to, types.ModuleType)
    return is_bound or not hasattr(function, "__qualname__")

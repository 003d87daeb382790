"""Calls hooks with events, and the hook that logs."""

from __future__ import annotations

import logging
import re
from asyncio import CancelledError
from collections.abc import Sequence

from model_cache.context import Flag, FlagVar
from model_cache.interruptions import reraise_interruption
from model_cache.observing.events import (
    BindingFailed,
    Event,
    Hook,
    InputNotCacheable,
    PredictionNotStored,
    StaleServed,
    StoreFound,
    StoreLost,
    WriteFailed,
)

logger = logging.getLogger("model_cache")

# How many different events are remembered as logged: messages name fields and types, no values.
_MOST_REMEMBERED = 256


_INDEX = re.compile(r"\[\d+\]")  # in a path: items[3].when

_calling: FlagVar[Flag] = FlagVar("model_cache_calling_hooks")


def _once(event: Event) -> object:
    """What two events have in common of which only one is logged."""
    match event:
        case WriteFailed(kind=kind):
            return WriteFailed, kind
        case InputNotCacheable(model, reason) | PredictionNotStored(model, reason):
            return type(event), model, _INDEX.sub("[]", reason)
    return event


def telling(hooks: Sequence[Hook]) -> Hook:
    """Return one hook for all; an error of one fails neither a prediction nor the others.

    Errors are logged once for each hook: say, a full disk under a logging handler. Predictions
    made inside a hook are not reported, which prevents recursion.
    """
    failed: set[int] = set()

    def tell(event: Event) -> None:
        if _calling.get() is not None:
            return
        with _calling.raised(Flag()):
            for number, hook in enumerate(hooks):
                try:
                    hook(event)
                # A hook that waits for a cancelled future is one that failed.
                except (Exception, CancelledError, GeneratorExit) as error:
                    reraise_interruption(error)
                    if number not in failed:
                        failed.add(number)
                        _log_failure(hook, error)

    return tell


def _log_failure(hook: Hook, error: BaseException) -> None:
    try:
        logger.warning("a hook raised %s: %s", type(error).__name__, _name(hook))
    except Exception as logging_error:  # a logging handler's
        reraise_interruption(logging_error)


def _name(hook: Hook) -> str:
    # Not its repr, which may hold a secret.
    named = hook if hasattr(hook, "__qualname__") else type(hook)
    return f"{named.__module__}.{named.__qualname__}"


class LoggingHook:
    """Logs to the logger "model_cache": changes of state each time, everything else once."""

    def __init__(self) -> None:
        self._logged: set[object] = set()

    def __call__(self, event: Event) -> None:
        match event:
            case StoreLost(reason):
                logger.warning("the cache is out of reach, predicting without it: %s", reason)
            case StoreFound(place):
                logger.warning("the cache is back: %s", place)
            case _ if (once := _once(event)) not in self._logged:
                if len(self._logged) >= _MOST_REMEMBERED:
                    self._logged.clear()
                self._logged.add(once)
                self._log_once(event)

    def _log_once(self, event: Event) -> None:
        match event:
            case WriteFailed(kind=kind, reason=reason):
                logger.warning("an entry was not stored (%s): %s", kind, reason)
            case InputNotCacheable(model, reason):
                logger.warning("an input of %s can't be cached: %s", model, reason)
            case PredictionNotStored(model, reason):
                logger.warning("a prediction of %s was not cached: %s", model, reason)
            case StaleServed(model, error):
                logger.warning("%s raised %s; a stale prediction was served", model, error)
            case BindingFailed(model, reason):
                logger.error("%s changed and is predicted without the cache: %s", model, reason)

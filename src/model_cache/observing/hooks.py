"""Call hooks with events; the built-in hook that logs them."""

from __future__ import annotations

import logging
import re
from asyncio import CancelledError
from collections.abc import Sequence

from model_cache.context import Flag, FlagVar
from model_cache.interruptions import reraise_interruption
from model_cache.observing.events import (
    BindingFailed,
    CachePaused,
    CacheResumed,
    Event,
    Hook,
    InputNotCacheable,
    PredictionNotStored,
    RequestsNotRecorded,
    RevalidationFailed,
    ServingStopped,
    StaleServed,
    StoreFound,
    StoreLost,
    WriteFailed,
    WrongHit,
)
from model_cache.words import break_even, percent

logger = logging.getLogger("model_cache")

# How many distinct events to remember as logged. Messages name fields and types, never values.
_MOST_REMEMBERED = 256


_SWITCHED = {
    CachePaused: "Cache paused for %s of %s %s: hit ratio %s, break-even %s",
    CacheResumed: "Cache resumed for %s of %s %s: hit ratio %s, break-even %s",
}

_RAISED_AGAIN = "Model %s raised %s while a stale entry was recomputed; the entry stays"

_INDEX = re.compile(r"\[\d+\]")  # in a path: items[3].when

_calling: FlagVar[Flag] = FlagVar("model_cache_calling_hooks")


def _once(event: Event) -> object:
    """Return a value that is equal for events of which only the first is logged."""
    match event:
        case WriteFailed(kind=kind):
            return WriteFailed, kind
        case RequestsNotRecorded(model):
            return RequestsNotRecorded, model
        case InputNotCacheable(model, reason) | PredictionNotStored(model, reason):
            return type(event), model, _INDEX.sub("[]", reason)
    return event


def telling(hooks: Sequence[Hook]) -> Hook:
    """Return one hook that calls all hooks; an error in one affects neither predictions nor others.

    Each hook's first error is logged. Predictions made inside a hook are not reported, which
    prevents recursion.
    """
    failed: set[int] = set()

    def tell(event: Event) -> None:
        if _calling.get() is not None:
            return
        with _calling.raised(Flag()):
            for number, hook in enumerate(hooks):
                try:
                    hook(event)
                # CancelledError: the hook waited for a future that was cancelled.
                except (Exception, CancelledError, GeneratorExit) as error:
                    reraise_interruption(error)
                    if number not in failed:
                        failed.add(number)
                        _log_failure(hook, error)

    return tell


def _log_failure(hook: Hook, error: BaseException) -> None:
    try:
        logger.warning("Hook %s raised %s", _name(hook), type(error).__name__)
    except Exception as logging_error:  # from a logging handler
        reraise_interruption(logging_error)


def _name(hook: Hook) -> str:
    # Not its repr, which may contain a secret.
    named = hook if hasattr(hook, "__qualname__") else type(hook)
    return f"{named.__module__}.{named.__qualname__}"


def _differing(event: WrongHit) -> str:
    fields = ", ".join(event.fields) or "its value"
    return f"{fields} (by up to {event.difference})" if event.difference else fields


class LoggingHook:
    """Logs to the logger "model_cache": every change of state, everything else once."""

    def __init__(self) -> None:
        self._logged: set[object] = set()

    def __call__(self, event: Event) -> None:
        match event:
            case StoreLost(reason):
                logger.warning("Redis unavailable (%s); predicting without the cache", reason)
            case StoreFound(place):
                logger.warning("Redis available again: %s", place)
            case CachePaused(model, version) | CacheResumed(model, version):
                calls = "batches" if event.batches else "single predictions"
                ratios = percent(event.hit_ratio), break_even(event.break_even)
                logger.warning(_SWITCHED[type(event)], calls, model, version, *ratios)
            case _ if (once := _once(event)) not in self._logged:
                if len(self._logged) >= _MOST_REMEMBERED:
                    self._logged.clear()
                self._logged.add(once)
                self._log_once(event)

    def _log_once(self, event: Event) -> None:
        match event:
            case WriteFailed(kind=kind, reason=reason):
                logger.warning("Entry not stored (%s): %s", kind, reason)
            case InputNotCacheable(model, reason):
                logger.warning("Input of %s can't be cached: %s", model, reason)
            case PredictionNotStored(model, reason):
                logger.warning("Prediction of %s not cached: %s", model, reason)
            case StaleServed(model, error):
                logger.warning("Model %s raised %s; served a stale prediction", model, error)
            case RevalidationFailed(model, error):
                logger.warning(_RAISED_AGAIN, model, error)
            case WrongHit():
                logger.error(
                    "Wrong hit: entry %s differs from what %s returns now, in %s",
                    *(event.key, event.model, _differing(event)),
                )
            case ServingStopped(model, version, wrong, verified):
                logger.error(
                    "Entries of %s %s are no longer served until a purge or a new version: %s of "
                    "%s verified hits were wrong. Was the model retrained under the same version?",
                    *(model, version, wrong, verified),
                )
            case RequestsNotRecorded(model, folder, reason):
                logger.warning("Requests of %s not recorded in %s: %s", model, folder, reason)
            case BindingFailed(model, reason):
                logger.error("Model %s changed; predicting without the cache: %s", model, reason)

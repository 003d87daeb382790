"""What becomes of a prediction once it is made: wanted, encoded, stored now or a little later.

Nothing that goes wrong here is the caller's: it is counted, and told to the hook.
"""

from __future__ import annotations

import random
import time
from typing import NamedTuple

from pydantic import BaseModel

from model_cache.background import BackgroundWriter
from model_cache.binding import Binding, Request
from model_cache.budget import Budget
from model_cache.codec import EntryRefusedError, Refusal
from model_cache.config import Config
from model_cache.errors import StoreUnavailableError
from model_cache.events import EntryStored, Hook, PredictionNotStored, WriteFailed
from model_cache.outcome import Fate
from model_cache.protocols import Store
from model_cache.statistics import Counters

# The system's: a model may have seeded the random module's for itself.
_jitter = random.SystemRandom().random


class Encoded(NamedTuple):
    """An entry, and its time to live in Redis, in milliseconds."""

    entry: bytes
    ttl: int | None


class Keeper:
    """Encodes and stores predictions.

    Args:
        config: the decorator's options.
        store: where entries go.
        counters: where they are counted.
        hook: is told what went wrong.
        watch: is told what went well, if anybody wants to know.

    Attributes:
        purges: how many purges have begun; what was asked for before one must not be stored.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        counters: Counters,
        hook: Hook,
        watch: Hook | None = None,
    ) -> None:
        self.purges = 0
        self._watch = watch
        self._config = config
        self._store = store
        self._counters = counters
        self._hook = hook
        self._writer = BackgroundWriter() if config.write == "background" else None

    def encode(self, binding: Binding, request: Request, prediction: BaseModel) -> Encoded | Fate:
        """Return a prediction as an entry; or what becomes of it instead."""
        name = binding.qualified_name
        try:
            if not self._is_wanted(request.data, prediction):
                return "skipped"
            ttl, fresh_until = self._times()
            return Encoded(binding.encode(request.key, prediction, fresh_until), ttl)
        except EntryRefusedError as error:
            self._hook(PredictionNotStored(name, str(error)))
            return "too_large" if error.reason is Refusal.TOO_LARGE else "lossy"
        except Exception as error:  # cache_if's
            self._hook(PredictionNotStored(name, f"{type(error).__name__} was raised"))
            return "skipped"

    def store(
        self, binding: Binding, key: bytes, encoded: Encoded, budget: Budget, purges: int
    ) -> Fate:
        """Store an entry, now or a little later; return what became of it.

        Args:
            binding: of the model that made the prediction.
            key: where to.
            encoded: the entry.
            budget: the time that it may take.
            purges: how many purges had begun when the prediction was asked for.
        """
        # Of a fleet, others wait for the entry itself.
        if self._writer is None or self._config.single_flight == "fleet":
            return self._write(binding, key, encoded, budget, purges)

        def write() -> None:
            self._write(binding, key, encoded, Budget(self._config.timeout), purges)

        if self._writer.submit(write):
            return "queued"
        reason = "too many wait to be written, or no thread can be had"
        return self._failed(binding, "queue_full", reason)

    def purge_begins(self) -> None:
        """Drop what is about to be written."""
        self.purges += 1
        if self._writer is not None:
            self._writer.drop()

    def close(self) -> None:
        """Write what waits to be written, within a bound."""
        if self._writer is not None:
            self._writer.flush()

    def _write(
        self, binding: Binding, key: bytes, encoded: Encoded, budget: Budget, purges: int
    ) -> Fate:
        before = budget.left
        try:
            # Name and version once more: the model may have been reloaded while it predicted.
            if purges != self.purges or not binding.is_current():
                return "dropped"
            budget.spend(lambda left: self._store.set(key, *encoded, left))
            if purges != self.purges:  # a purge may have passed this key before it was there
                budget.spend(lambda left: self._store.delete([key], left))
                return "dropped"
        except StoreUnavailableError as error:
            return self._failed(binding, error.kind, str(error))
        except Exception as error:  # a property's of the model
            return self._failed(binding, "error", f"{type(error).__name__} was raised")
        size = len(encoded.entry)
        self._counters.add(stored=1, bytes_stored=size)
        if self._watch is not None:
            seconds = before - budget.left
            self._watch(EntryStored(binding.qualified_name, binding.version, size, seconds))
        return "stored"

    def _failed(self, binding: Binding, kind: str, reason: str) -> Fate:
        self._counters.add(write_failures=1)
        self._hook(WriteFailed(binding.qualified_name, binding.version, kind, reason))
        return "write_failed"

    def _is_wanted(self, data: BaseModel, prediction: BaseModel) -> bool:
        cache_if = self._config.cache_if
        return cache_if is None or bool(cache_if(data, prediction))

    def _times(self) -> tuple[int | None, int | None]:
        """Return an entry's time to live in Redis, and until when it is fresh: milliseconds."""
        ttl, stale = self._config.ttl, self._config.stale_if_error
        if ttl is None:
            return None, None
        ttl = max(1, ttl - int(_jitter() * ttl / 10))
        if stale is None:
            return ttl, None
        return ttl + stale, int(1000 * time.time()) + ttl

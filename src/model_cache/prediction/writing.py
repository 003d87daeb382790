"""From a prediction to an entry in the store: is it wanted, encoded, written now or later.

Failures here never reach the caller: they are counted, and hooks hear of them.
"""

from __future__ import annotations

import random
import time
from typing import NamedTuple

from pydantic import BaseModel

from model_cache.binding import Bound
from model_cache.entries.codec import EntryRefusedError, Refusal
from model_cache.errors import StoreUnavailableError, WriteRefusedError
from model_cache.interruptions import reraise_interruption
from model_cache.observing.counters import Counters
from model_cache.observing.events import EntryStored, Hook, PredictionNotStored, WriteFailed
from model_cache.observing.outcome import Fate
from model_cache.options.config import Config
from model_cache.prediction.barrier import Barrier, Computation
from model_cache.prediction.effects import Budget, Later, Pause, Steps

# The system's: a model may have seeded the random module's for itself.
_jitter = random.SystemRandom().random


class Encoded(NamedTuple):
    """An entry, and its time to live in Redis, in milliseconds."""

    entry: bytes
    ttl: int | None


class Written(NamedTuple):
    """What became of an entry.

    Attributes:
        fate: that.
        error: why the store failed, in a word, if it did.
    """

    fate: Fate
    error: str | None = None


class Writing:
    """Encodes and writes predictions.

    Args:
        config: the decorator's options.
        barrier: knows which computations a purge or a refresh has overtaken.
        counters: count the entries.
        hook: hears what went wrong.
        watch: hears what went well, if anybody wants to.
    """

    def __init__(
        self,
        config: Config,
        barrier: Barrier,
        counters: Counters,
        hook: Hook,
        watch: Hook | None = None,
    ) -> None:
        self._config = config
        self._barrier = barrier
        self._counters = counters
        self._hook = hook
        self._watch = watch
        # The other processes of a fleet wait for the entry itself.
        self._is_late = config.write == "background" and config.single_flight != "fleet"

    def encode(
        self, binding: Bound, key: bytes, data: BaseModel, prediction: BaseModel
    ) -> Encoded | Fate:
        """Return a prediction as an entry, or why it does not become one."""
        name = binding.qualified_name
        try:
            if not self._is_wanted(data, prediction):
                return "skipped"
            ttl, fresh_until = self._times()
            return Encoded(binding.encode(key, prediction, fresh_until), ttl)
        except EntryRefusedError as error:
            self._hook(PredictionNotStored(name, str(error)))
            return "too_large" if error.reason is Refusal.TOO_LARGE else "lossy"
        except Exception as error:  # cache_if's
            reraise_interruption(error)
            self._hook(PredictionNotStored(name, f"cache_if raised {type(error).__name__}"))
            return "skipped"

    def store(
        self,
        binding: Bound,
        computation: Computation,
        encoded: Encoded,
        budget: Budget,
        *,
        refreshes: bool = False,
    ) -> Steps[Written]:
        """Write an entry, now or after the answer, and end its computation.

        Args:
            binding: of the model that made the prediction.
            computation: that of the prediction.
            encoded: the entry.
            budget: the time that writing it now may take.
            refreshes: whether it must be written when the answer is returned.
        """
        if not self._is_late or refreshes:
            return self._write(binding, computation, encoded, budget)
        return self._write_later(binding, computation, encoded)

    def _write_later(
        self, binding: Bound, computation: Computation, encoded: Encoded
    ) -> Steps[Written]:
        steps = self._write(binding, computation, encoded, Budget(self._config.timeout))
        if (yield Later(steps, len(encoded.entry))):
            return Written("queued")
        self._barrier.end(computation)
        reason = "the queue of background writes is full, or no thread can be started"
        return self._failed(binding, "queue_full", reason)

    def _write(
        self, binding: Bound, computation: Computation, encoded: Encoded, budget: Budget
    ) -> Steps[Written]:
        before = budget.left
        try:
            # A purge's or a refresh's own write comes last.
            while self._barrier.is_held_up(computation):
                if budget.left <= 0:
                    self._barrier.distrust(computation.key)
                    break
                yield Pause(0.001)
                budget.left -= 0.001
            # Name and version once more: the model may have been reloaded while it predicted.
            if not binding.is_current() or not self._barrier.may_write(computation):
                return Written("dropped")
            yield from self._set(computation, encoded, budget)
            if computation.is_purged:
                return Written("dropped")
        except StoreUnavailableError as error:
            return self._failed(binding, error.kind, str(error))
        except Exception as error:  # a property's of the model
            reraise_interruption(error)
            return self._failed(binding, "error", f"{type(error).__name__} was raised")
        finally:
            self._barrier.end(computation)
        size = len(encoded.entry)
        self._counters.add(stored=1, bytes_stored=size)
        if self._watch is not None:
            seconds = before - budget.left
            self._watch(EntryStored(binding.qualified_name, binding.version, size, seconds))
        return Written("stored")

    def _set(self, computation: Computation, encoded: Encoded, budget: Budget) -> Steps[None]:
        """Set an entry; erase it again if a purge began meanwhile."""
        key, (entry, ttl) = computation.key, encoded
        try:
            yield from budget.ask(lambda store, left: store.set(key, entry, ttl, left))
            if computation.is_purged:
                yield from self._erase(key, budget)
        except BaseException as error:  # it may arrive late; so may one that was interrupted
            if not (isinstance(error, WriteRefusedError) or _was_not_sent(error)):
                self._barrier.write_may_be_late(computation)
            raise

    def discard(self, key: bytes, budget: Budget) -> Steps[None]:
        """Erase the entry that a refresh has found outdated, and has no other for."""
        try:
            yield from self._erase(key, budget)
        except StoreUnavailableError:
            self._barrier.distrust(key)

    def _erase(self, key: bytes, budget: Budget) -> Steps[None]:
        # Not by a DEL, which the login may not be allowed to use: nothing, and only for a moment.
        return budget.ask(lambda store, left: store.set(key, b"", 1, left))

    def _failed(self, binding: Bound, kind: str, reason: str) -> Written:
        self._counters.add(write_failures=1)
        self._hook(WriteFailed(binding.qualified_name, binding.version, kind, reason))
        return Written("write_failed", kind)

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


def _was_not_sent(error: BaseException) -> bool:
    return isinstance(error, StoreUnavailableError) and error.kind == "circuit_open"

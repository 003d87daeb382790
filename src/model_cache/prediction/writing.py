"""Store a prediction: decide whether to, encode it, and write it now or in the background.

Failures here never reach the caller: they are counted and reported to hooks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import compress
from typing import Any, NamedTuple

from model_cache.binding import Bound
from model_cache.entries.codec import EntryRefusedError, Refusal
from model_cache.errors import StoreUnavailableError, WriteRefusedError, may_arrive
from model_cache.interruptions import reraise_interruption
from model_cache.observing.counters import Counters, VersionCounters
from model_cache.observing.events import EntryStored, Hook, PredictionNotStored, WriteFailed
from model_cache.observing.outcome import Fate
from model_cache.options.config import Config
from model_cache.prediction.barrier import Barrier, Computation
from model_cache.prediction.call import Call
from model_cache.prediction.effects import Budget, Pause, Steps, WriteLater
from model_cache.prediction.generation import (
    LONGEST,
    Generation,
    Value,
    is_outdated,
    mark_of,
    records_of_erased,
)
from model_cache.prediction.generation_steps import Records, look, record
from model_cache.prediction.time_to_live import TtlRefusedError, expiry, shortest_ttl
from model_cache.prediction.veto import ModelCall


@dataclass(slots=True, eq=False)
class Write:
    """An entry on its way to the store.

    Attributes:
        computation: the computation of its prediction.
        entry: the entry.
        ttl: its time to live in Redis, in milliseconds.
        seen: the generation's value when the prediction was requested.
    """

    computation: Computation
    entry: bytes
    ttl: int | None
    seen: Value


class Written(NamedTuple):
    """The result of writing an entry.

    Attributes:
        fate: as in `Outcome.fate`.
        error: why the store failed, as one word, or None.
    """

    fate: Fate
    error: str | None = None


# The kinds of errors of a login that may not run a command, and of a proxy that does not know it.
_NOT_ALLOWED = frozenset(("NOPERM", "ERR", "other"))

_STORED, _DROPPED, _QUEUED = Written("stored"), Written("dropped"), Written("queued")


class Writing:
    """Encodes and writes predictions.

    Args:
        config: the decorator's options.
        barrier: tracks which computations a purge or a refresh has overtaken.
        counters: counts the entries.
        hook: receives failures.
        watch: receives `EntryStored`; None if there are no user hooks.
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
        # Other processes of a fleet wait for the entry itself.
        self._is_late = config.write == "background" and config.single_flight != "fleet"
        self._stale = max(config.stale_if_error or 0, config.stale_while_revalidate or 0)

    def encode(
        self, call: Call, key: bytes, prediction: Any, model_call: ModelCall | None = None
    ) -> bytes | None:
        """Return the entry of a call's prediction; None if it is not stored, see `call.fate`.

        Args:
            call: the call.
            key: the key of the entry.
            prediction: the prediction.
            model_call: the model call that made it, if any.
        """
        call.fate = "skipped"  # if this is interrupted
        if model_call is not None and not model_call.may_be_stored:
            return None
        if call.is_late and call.has_changed():
            return None
        binding, config = call.binding, self._config
        try:
            if config.cache_if is not None and not config.cache_if(call.data, prediction):
                return None
            by_model = None if model_call is None else model_call.ttl
            ttl = shortest_ttl(config.ttl, call.data, prediction, by_model)
            if ttl == 0:
                return None
            ttl, fresh_until = expiry(ttl, self._stale)
            entry = binding.codec.encode(key, prediction, fresh_until)
        except EntryRefusedError as error:
            call.fate = "too_large" if error.reason is Refusal.TOO_LARGE else "lossy"
            reason = str(error)
        except TtlRefusedError as error:
            reason = str(error)
        except Exception as error:  # from cache_if
            reraise_interruption(error)
            reason = f"cache_if raised {type(error).__name__}"
        else:
            call.made(entry, ttl, self._stale)
            return entry
        self._hook(PredictionNotStored(binding.qualified_name, reason))
        return None

    def store(
        self,
        binding: Bound,
        generation: Generation,
        writes: Sequence[Write],
        budget: Budget,
        *,
        renews: bool = False,
        records: Records | None = None,
    ) -> Steps[list[Written]]:
        """Write entries, now or in the background, and end their computations.

        Args:
            binding: the binding of the predictions.
            generation: the generation of the model's namespace.
            writes: the entries.
            budget: the time for writing them now.
            renews: whether they must be written before the answer is returned.
            records: those of the refresh that they are part of, which other processes learn of.

        Returns:
            The result of each.
        """
        if not self._is_late or renews:
            return self._write(binding, generation, writes, budget, records)
        return self._write_later(binding, generation, writes)

    def _write_later(
        self, binding: Bound, generation: Generation, writes: Sequence[Write]
    ) -> Steps[list[Written]]:
        def write(together: Sequence[Write]) -> Steps[object]:
            return self._write(binding, generation, together, Budget(self._config.timeout))

        size = sum([len(each.entry) for each in writes])
        if (yield WriteLater((self, binding, generation), write, writes, size)):
            return [_QUEUED] * len(writes)
        for each in writes:
            self._barrier.end(each.computation)
        reason = "the queue of background writes is full, or no thread can be started"
        return self._failed(binding, writes, "queue_full", reason)

    def _write(
        self,
        binding: Bound,
        generation: Generation,
        writes: Sequence[Write],
        budget: Budget,
        records: Records | None = None,
    ) -> Steps[list[Written]]:
        before, barrier = budget.left, self._barrier
        computations = [write.computation for write in writes]
        try:
            if barrier.has_overtaken_writes:
                yield from self.wait_for_overtaken(computations, budget)
            # Check name and version again: the model may have been reloaded while it predicted.
            if not binding.is_current():
                return [_DROPPED] * len(writes)
            allowed = list(map(barrier.may_write, computations))
            if True in allowed:
                kept = list(compress(writes, allowed))
                yield from self._change(generation, kept, budget, records)
        except StoreUnavailableError as error:
            return self._failed(binding, writes, error.kind, str(error))
        except Exception as error:  # from a property of the model
            reraise_interruption(error)
            return self._failed(binding, writes, "error", f"{type(error).__name__} was raised")
        finally:
            for computation in computations:
                barrier.end(computation)
        results, sizes = [], []
        for write, is_allowed in zip(writes, allowed, strict=True):
            computation = write.computation
            is_stored = is_allowed and not computation.is_purged
            results.append(_STORED if is_stored else _DROPPED)
            if is_stored:
                sizes.append(len(write.entry))
                if computation.is_valid:
                    barrier.replaced(computation.key)
        self._count(binding, sizes, before - budget.left)
        return results

    def wait_for_overtaken(
        self, computations: Iterable[Computation], budget: Budget
    ) -> Steps[None]:
        """Wait for writes to the same keys that a purge or a refresh has overtaken."""
        for computation in computations:
            while self._barrier.is_held_up(computation):
                if budget.left <= 0:
                    self._barrier.distrust(computation.key)
                    break
                yield Pause(0.001)
                budget.left -= 0.001

    def _change(
        self,
        generation: Generation,
        writes: Sequence[Write],
        budget: Budget,
        records: Records | None,
    ) -> Steps[None]:
        change = self._set_unless_purged(generation, writes, budget, records)
        if records is None:
            return change
        return self._between_records(records, generation, budget, change)

    def _between_records(
        self, records: Records, generation: Generation, budget: Budget, change: Steps[None]
    ) -> Steps[None]:
        """Change entries so that other processes learn of it, if the login may use APPEND."""
        clock, may_append = self._barrier.clock, True
        try:
            yield from record(records.raw, generation, budget, clock, may_begin_anew=False)
        except WriteRefusedError as error:
            if error.kind not in _NOT_ALLOWED:
                raise
            may_append = False
        yield from change
        if may_append:
            anew = records.may_begin_anew
            yield from record(records.raw, generation, budget, clock, may_begin_anew=anew)
            yield from look(generation, budget, clock)

    def _set_unless_purged(
        self,
        generation: Generation,
        writes: Sequence[Write],
        budget: Budget,
        records: Records | None = None,
    ) -> Steps[None]:
        """Set entries, and erase those that a purge has overtaken; if it fails, some may be set."""
        try:
            yield from self._set(generation, writes, budget, records)
        except BaseException as error:  # the write may still arrive, also after an interruption
            may_be_late = may_arrive(error)
            for write in writes:
                if may_be_late or write.computation.is_purged:  # it may still be there
                    self._barrier.write_may_be_late(write.computation)
            raise

    def _set(
        self,
        generation: Generation,
        writes: Sequence[Write],
        budget: Budget,
        records: Records | None,
    ) -> Steps[None]:
        entries = [(write.computation.key, write.entry, write.ttl) for write in writes]
        asked = self._barrier.clock()
        try:
            value = yield from budget.ask(
                lambda store, left: store.set_watching(entries, generation.key, left)
            )
            generation.saw(value, asked)
        except StoreUnavailableError as error:
            if len(writes) > 1 or error.answers:  # a part may be there
                with suppress(StoreUnavailableError):
                    now = yield from self._look_after(error, len(writes), generation, budget)
                    yield from self._erase_purged(generation, writes, now, budget, records)
            raise
        yield from self._erase_purged(generation, writes, value, budget, records)

    def _look_after(
        self, error: StoreUnavailableError, count: int, generation: Generation, budget: Budget
    ) -> Steps[Value]:
        """Read a generation after a write failed; None if only its shard of a cluster is lost."""
        if len(error.answers) >= count:  # all entries were written
            return None
        try:
            return (yield from look(generation, budget, self._barrier.clock))
        except StoreUnavailableError:
            if not error.answers:
                raise
            return None

    def _erase_purged(
        self,
        generation: Generation,
        writes: Sequence[Write],
        value: Value,
        budget: Budget,
        records: Records | None,
    ) -> Steps[None]:
        if records is not None and isinstance(value, bytes):
            value = value.replace(records.raw, b"")
        for write in writes:
            computation, seen = write.computation, write.seen
            if seen is None or is_outdated(mark_of(computation.key), seen, value):
                computation.is_purged = True  # by another process, or nobody can tell
                generation.overtook(self._barrier.clock())
        erased = [write.computation.key for write in writes if write.computation.is_purged]
        if not erased:
            return
        yield from self._erase(erased, budget)
        # Others may have read them in between, and put them into their near caches.
        erasures = records_of_erased(erased)
        if isinstance(value, bytes) and len(value) <= LONGEST:  # else it begins anew
            with suppress(StoreUnavailableError):  # the login may not be allowed to
                yield from budget.ask(
                    lambda store, left: store.append(generation.key, erasures, left)
                )

    def _count(self, binding: Bound, sizes: Sequence[int], seconds: float) -> None:
        if sizes:
            self._of(binding).add(stored=len(sizes), bytes_stored=sum(sizes))
        if self._watch is not None:
            for size in sizes:
                each = seconds / len(sizes)
                self._watch(EntryStored(binding.qualified_name, binding.version, size, each))

    def revalidated(self, binding: Bound, fate: Fate | None) -> None:
        """Count a stale entry that was computed anew in the background."""
        if fate == "stored":
            self._of(binding).add(revalidated=1)

    def _of(self, binding: Bound) -> VersionCounters:
        return self._counters.of(binding.qualified_name, binding.version)

    def discard(
        self,
        generation: Generation,
        computations: Sequence[Computation],
        budget: Budget,
        records: Records | None = None,
    ) -> Steps[None]:
        """Erase outdated entries when a refresh has nothing to replace them with."""
        keys = [each.key for each in computations]
        try:
            yield from self.wait_for_overtaken(computations, budget)
            change = self._erase(keys, budget)
            if records is not None:
                change = self._between_records(records, generation, budget, change)
            yield from change
            for key in keys:
                self._barrier.replaced(key)
        except StoreUnavailableError:
            for key in keys:
                self._barrier.distrust(key)

    def _erase(self, keys: Sequence[bytes], budget: Budget) -> Steps[None]:
        # Set empty values with a short ttl, because the login may not be allowed to delete.
        erasures = [(key, b"", 1) for key in keys]
        try:
            yield from budget.ask(lambda store, left: store.set_many(erasures, left))
        except WriteRefusedError as error:
            if error.kind != "OOM":
                raise
            yield from budget.ask(lambda store, left: store.delete(keys, left))

    def _failed(
        self, binding: Bound, writes: Sequence[Write], kind: str, reason: str
    ) -> list[Written]:
        self._of(binding).add(write_failures=len(writes))
        for _ in writes:
            self._hook(WriteFailed(binding.qualified_name, binding.version, kind, reason))
        return [Written("write_failed", kind)] * len(writes)

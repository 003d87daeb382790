"""The steps of a table: all rows of a call to a function of many rows.

Hits are found in bulk and cost no object of their own. Rows that miss take the steps of a batch;
see `many`. If the rows can't be put together again, the function is called for the whole table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast
from weakref import WeakSet

from model_cache.binding import Bound, Current
from model_cache.entries.row_entries import RowResult
from model_cache.errors import StoreUnavailableError
from model_cache.interruptions import is_interruption, reraise_interruption
from model_cache.observing.events import Hook, InputNotCacheable, PredictionNotStored
from model_cache.observing.outcome import Kind, Outcome
from model_cache.prediction.barrier import Barrier
from model_cache.prediction.call import Call
from model_cache.prediction.effects import Budget, Pause, Predict, Steps
from model_cache.prediction.flow import Flow
from model_cache.prediction.generation import UNKNOWN, Generation
from model_cache.prediction.look_up import LookUps
from model_cache.prediction.many import ManyFlow
from model_cache.prediction.serving import WRONG_ENTRIES
from model_cache.prediction.table_call import (
    MixedRowsError,
    RowsBound,
    RowsNotApartError,
    TableCall,
    TableRow,
)
from model_cache.prediction.table_rows import ABSENT, NEAR, STORE, LookedUp, Rows
from model_cache.prediction.veto import ModelCall, model_calls

CHUNK = 1000
"""How many rows are looked up in one round trip."""


class TableFlow:
    """The steps of the tables of one function.

    Args:
        current: holds the binding for new calls.
        flow: the steps of single rows.
        many: the steps of batches.
        look_ups: finds entries in the near cache and in the store.
        barrier: tracks which computations a purge or a refresh has overtaken.
        timeout: the most seconds that each lookup of a thousand rows may take.
        on_error: "predict" without the cache when the store fails, or "raise".
        hook: receives rare events.
        tell: receives outcomes: one for the hits of a table, and one for each row that missed.
    """

    def __init__(
        self,
        *,
        current: Current,
        flow: Flow,
        many: ManyFlow,
        look_ups: LookUps,
        barrier: Barrier,
        timeout: float,
        on_error: str,
        hook: Hook,
        tell: Callable[[Outcome], None],
    ) -> None:
        self._current = current
        self._flow = flow
        self._many = many
        self._look_ups = look_ups
        self._barrier = barrier
        self._verifying = flow.verifying
        self._serving = flow.verifying.serving
        self._timeout = timeout
        self._raises = on_error == "raise"
        self._hook = hook
        self._tell = tell
        self._clock = barrier.clock
        # Bindings whose last result could not be taken apart.
        self._refused: WeakSet[Bound] = WeakSet()

    def answer(self, call: TableCall) -> Steps[Any]:
        """Return what the function would return for all rows of a call."""
        began, epoch = self._clock(), self._barrier.epoch  # before the binding is read
        binding, table = cast(RowsBound, self._current.get()), call.table
        if self._serving.has_stopped(binding):
            yield from self._serving.look_for_purge(binding)
            return (yield from self._whole(call, binding, "unavailable"))
        if table is None:
            self._hook(InputNotCacheable(binding.qualified_name, call.reason))
            return (yield from self._whole(call, binding, "uncacheable"))
        mode = self._flow.calls.mode(binding, call.size, lambda: call.head + table.rows()[0])
        if mode == "direct":
            return (yield from self._whole(call, binding, mode))
        rows = Rows(call, table, binding, began)
        if rows.mode == "bypass" or not rows.distinct:
            return (yield from self._whole(call, binding, "bypass"))
        try:
            return (yield from self._answer(rows, epoch))
        except RowsNotApartError as error:
            self._refused.add(binding)
            self._hook(PredictionNotStored(binding.qualified_name, str(error)))
            if error.is_whole:
                return error.result
        except MixedRowsError:
            reason = "the types of its rows' results depend on the other rows of a call"
            self._hook(PredictionNotStored(binding.qualified_name, reason))
        return (yield from self._whole(call, binding, "uncacheable"))

    def _answer(self, rows: Rows, epoch: int) -> Steps[Any]:
        """Answer from found and computed rows.

        Raises:
            RowsNotApartError: the function's result can't be taken apart.
            MixedRowsError: rows can't be put together, even if all are computed anew.
        """
        if rows.mode != "refresh":
            yield from self._find(rows)
        if rows.binding in self._refused and rows.is_unknown and rows.has_equal_rows:
            # The distinct rows alone would be computed in vain once more.
            return (yield from self._whole(rows.call, rows.binding, "uncacheable"))
        computed = yield from self._compute(rows, epoch)
        try:
            result = rows.joined(computed)
        except MixedRowsError:
            rows.forget()
            computed = yield from self._compute(rows, epoch)
            result = rows.joined(computed)
        self._refused.discard(rows.binding)
        self._tell_of_others(rows)
        if self._verifying.is_on:
            yield from self._verify(rows, epoch)
        return result

    def _verify(self, rows: Rows, epoch: int) -> Steps[None]:
        """Verify those hits in the background that the sample takes."""
        hits = [place for place, source in enumerate(rows.sources) if source]
        for number in self._verifying.sample(rows.binding).among(len(hits)):
            place = hits[number]
            call = self._call(rows, place, epoch)
            if call.key is not None:
                call.kind, call.entry = "hit", rows.entry(place, call.key)
                yield from self._verify_row(rows, place, call)

    def _verify_row(self, rows: Rows, place: int, call: Call) -> Steps[None]:
        # A copy: the table is the caller's, and may be large.
        call.data = TableRow(rows.call.part([rows.firsts[place]]), 0)
        yield from self._verifying.verify(call)

    def _find(self, rows: Rows) -> Steps[None]:
        """Find rows in the near cache and in the store."""
        look_ups, generation = self._look_ups, self._look_ups.generation_of(rows.binding)
        if look_ups.has_near:
            yield from look_ups.look_again(generation, Budget(self._timeout))
            near = look_ups.near_many(generation, rows.near_keys)
            rows.take_in(range(len(near)), near, NEAR)
        missing = [place for place in rows.missing() if place not in rows.odd]
        for start in range(0, len(missing), CHUNK):
            if start:
                yield Pause(0)  # lets an event loop go on
            yield from self._find_in_store(rows, generation, missing[start : start + CHUNK])
            if rows.failure is not None:
                if self._raises:
                    raise rows.failure
                return

    def _find_in_store(
        self, rows: Rows, generation: Generation, places: Sequence[int]
    ) -> Steps[None]:
        look_ups = self._look_ups
        places, keys = self._trusted(places, rows.keys(places))
        if not places:
            return
        value, changes = generation.value, self._barrier.changes
        budget, rows.asked = Budget(self._timeout), self._clock()
        try:
            replies = yield from budget.ask(look_ups.request_many(keys, generation))
        except StoreUnavailableError as error:
            rows.failure = error
            generation.missed(error, rows.asked)
            return
        finally:
            rows.store_seconds += self._timeout - budget.left
        seen, found = look_ups.seen_and_found(keys, generation, replies, rows.asked)
        value = value if seen is UNKNOWN else seen
        taken = rows.take_in(places, [entry for entry, _ in found], STORE)
        if look_ups.has_near:
            near_keys = rows.near_keys
            read = [(near_keys[places[number]], found[number]) for number in taken]
            look_ups.keep_many(read, value, rows.asked, changes)
        for number, place in enumerate(places):
            if place in rows.odd:
                left = found[number][1]
                seconds = math.inf if left is None else left / 1000
                rows.looked_up[place] = LookedUp(rows.asked, value, changes, seconds)

    def _trusted(
        self, places: Sequence[int], keys: list[bytes]
    ) -> tuple[Sequence[int], list[bytes]]:
        """Leave out rows whose entries may be from before a barrier.

        Not when the reply is there: by then, another caller may have replaced the entry.
        """
        distrusted = self._barrier.distrusted
        if not distrusted or distrusted.keys().isdisjoint(keys):
            return places, keys
        pairs = [pair for pair in zip(places, keys, strict=True) if pair[1] not in distrusted]
        return [place for place, _ in pairs], [key for _, key in pairs]

    def _compute(self, rows: Rows, epoch: int) -> Steps[dict[int, RowResult]]:
        """Compute the rows that are not found, by one call of the function, and store them."""
        calls = {place: self._call(rows, place, epoch) for place in rows.missing()}
        if not calls:
            return {}
        began = self._clock()
        try:
            results = yield from self._read_or_made(rows, calls)
        finally:
            rows.model_seconds += sum(call.model_seconds for call in calls.values())
            self._many.tell(list(calls.values()), self._clock() - began, self._tell)
        if self._verifying.is_on:
            for place, call in calls.items():
                if call.kind == "hit" and self._verifying.sample(call.binding).takes():
                    yield from self._verify_row(rows, place, call)
        return results

    def _read_or_made(self, rows: Rows, calls: dict[int, Call]) -> Steps[dict[int, RowResult]]:
        results: dict[int, RowResult] = {}
        for place, entry in rows.odd.items():
            found = yield from self._read(calls[place], entry, rows.looked_up.get(place))
            if found is not None:
                results[place] = found
        waiting = {place: call for place, call in calls.items() if place not in results}
        made = yield from self._made(list(waiting.values()))
        return {**results, **{place: made[call] for place, call in waiting.items()}}

    def _read(
        self, call: Call, entry: bytes, looked_up: LookedUp | None
    ) -> Steps[RowResult | None]:
        """Answer with an entry that was found, if that is possible."""
        call.near, call.seconds_left = looked_up is None, 0.0
        if looked_up is not None:  # a purge since then overtakes it
            call.asked, call.seen, call.changes, call.seconds_left = looked_up
        found = self._flow.read(call, entry)
        if found is None and call.revalidates:
            found = yield from self._flow.revalidate(call)
        call.near = call.near and call.kind == "hit"
        return cast(RowResult | None, found)

    def _made(self, calls: list[Call]) -> Steps[dict[Call, RowResult]]:
        """Compute and store rows; if the function raises, answer with stale results.

        Raises:
            Exception: the function's.
        """
        try:
            return (yield from self._many.complete(calls))
        except Exception as error:
            reraise_interruption(error)
            if isinstance(error, RowsNotApartError) or any(call.stale is None for call in calls):
                for call in calls:
                    call.kind = call.kind or "error"
                raise
            name = type(error).__name__
        return {call: cast(RowResult, self._flow.serve_stale(call, name)) for call in calls}

    def _call(self, rows: Rows, place: int, epoch: int) -> Call:
        """Return a call for a distinct row that was not found."""
        call = Call(rows.binding, TableRow(rows.call, rows.firsts[place]), rows.began)
        call.mode, call.epoch, call.asked = rows.mode, epoch, rows.asked
        canonical = rows.canonical(place)
        self._look_ups.begin(call, canonical)
        if rows.failure is not None and place not in rows.odd:
            call.kind, call.store_error = "unavailable", rows.failure.kind
            return call
        call.key = rows.binding.keys.key_of(canonical)
        call.renews = rows.mode == "refresh" or self._barrier.distrusts(call.key)
        return call

    def _whole(self, call: TableCall, binding: Bound, kind: Kind) -> Steps[Any]:
        """Call the function for the whole table, without the cache."""
        told = Call(binding, call, self._clock())
        told.store_error = WRONG_ENTRIES if kind == "unavailable" else None
        try:
            with model_calls.raised(ModelCall(leads=False)):
                result = yield Predict(binding, call)
            told.kind = kind
            return result
        except Exception as error:
            told.kind = None if is_interruption(error) else "error"
            raise
        finally:
            told.batch_size = max(1, call.size)
            told.model_seconds = (self._clock() - told.began) / told.batch_size
            self._tell_of(told, told.model_seconds, call.size)

    def _tell_of_others(self, rows: Rows) -> None:
        """Report the rows that were not computed: hits, and rows equal to a computed one."""
        by_source = bytes(map(rows.sources.__getitem__, rows.places))
        seconds = (self._clock() - rows.began - rows.model_seconds) / len(rows.places)
        hits = max(1, len(rows.distinct) - rows.sources.count(ABSENT))
        kinds: list[tuple[int, Kind]] = [(NEAR, "hit"), (STORE, "hit"), (ABSENT, "shared")]
        for source, kind in kinds:
            count = by_source.count(source)
            if source == ABSENT:  # the computed ones have outcomes of their own
                count -= rows.sources.count(ABSENT)
            call = Call(rows.binding, rows.call, rows.began)
            call.kind, call.near = kind, source == NEAR
            call.entry_bytes = rows.entry_bytes // hits if source else 0
            call.batch_size = len(rows.places)
            call.store_seconds = rows.store_seconds / count if source == STORE and count else 0.0
            self._tell_of(call, seconds, count)

    def _tell_of(self, call: Call, seconds: float, count: int) -> None:
        if call.kind is not None and count:
            self._tell(call.outcome(seconds)._replace(rows=count))

"""The steps of a table: all rows of a call to a function of many rows.

Hits are found in bulk and cost no object of their own. Rows that miss take the steps of a batch;
see `many`. If the rows can't be put together again, the function is called for the whole table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol, cast

from model_cache.binding import Bound, Current
from model_cache.entries.row_entries import RowResult
from model_cache.errors import StoreUnavailableError
from model_cache.interruptions import is_interruption, reraise_interruption
from model_cache.keys.tables import Table
from model_cache.observing.events import Hook, InputNotCacheable, PredictionNotStored
from model_cache.observing.outcome import Kind, Outcome
from model_cache.observing.scope import Mode, requested_mode
from model_cache.prediction.barrier import Barrier
from model_cache.prediction.call import Call
from model_cache.prediction.effects import Budget, Pause, Predict, Steps
from model_cache.prediction.flow import Flow
from model_cache.prediction.generation import UNKNOWN, Generation
from model_cache.prediction.look_up import LookUps
from model_cache.prediction.many import ManyFlow
from model_cache.prediction.veto import ModelCall, model_calls

CHUNK = 1000
"""How many rows are looked up in one round trip."""


class TableCall:
    """A call to a function of many rows.

    Attributes:
        whole: the rows as the caller passed them.
        compute: calls the function with other rows in their place.
        table: the rows; None if they have no keys.
        head: canonical bytes of everything else that the results depend on.
        reason: why there are no keys.
    """

    __slots__ = ("compute", "head", "reason", "table", "whole")

    def __init__(
        self,
        whole: Any,
        compute: Callable[[Any], Any],
        table: Table | None,
        head: bytes = b"",
        reason: str = "",
    ) -> None:
        self.whole = whole
        self.compute = compute
        self.table = table
        self.head = head
        self.reason = reason

    @property
    def size(self) -> int:
        """The number of rows; 1 if it is not known."""
        if self.table is not None:
            return len(self.table)
        shape = getattr(self.whole, "shape", None)
        return int(shape[0]) if isinstance(shape, tuple) and shape else 1


class TableRow:
    """One row of a call."""

    __slots__ = ("call", "place")

    def __init__(self, call: TableCall, place: int) -> None:
        self.call = call
        self.place = place


class RowsNotApartError(Exception):
    """The function's result can't be taken apart into rows.

    Attributes:
        result: what the function returned.
        is_whole: whether it is the result for all rows of the call.
    """

    def __init__(self, reason: str, result: Any, *, is_whole: bool) -> None:
        super().__init__(reason)
        self.result = result
        self.is_whole = is_whole


class MixedRowsError(Exception):
    """Rows can't be put together: one of them is damaged, or their results differ in type."""


class RowsBound(Bound, Protocol):
    """The binding of a function of many rows."""

    def payloads(
        self, entries: Sequence[bytes | None], form: bytes | None
    ) -> tuple[bytes | None, list[bytes | None]]:
        """Return the form of plain entries, and the payload of each that has this form.

        Args:
            entries: the entries; None where there is none.
            form: the form that is expected; None for that of the first plain entry.
        """
        ...

    def joined(self, call: TableCall, form: bytes, payloads: Sequence[bytes]) -> Any:
        """Return the result for all rows of a call.

        Raises:
            Exception: a payload is damaged.
        """
        ...


_ABSENT, _STORE, _NEAR = range(3)


class _Rows:
    """The distinct rows of one call while they are looked up and computed.

    Attributes:
        call: the call.
        binding: the binding of the function.
        mode: the caller's mode, such as bypass.
        began: when the call began.
        asked: when the last lookup began.
        places: for each row of the table, the place of its values among the distinct ones.
        distinct: the distinct rows.
        firsts: for each of these, where it is in the table.
        found: for each of these, its payload, once there is one.
        sources: for each of these, where its payload came from.
        odd: by place, the entries that need a closer look.
        form: the form of the payloads that were found.
        entry_bytes: the size of their entries.
        store_seconds: the time of the lookups.
        model_seconds: the time of the function.
        failure: why the store failed.
    """

    def __init__(self, call: TableCall, table: Table, binding: RowsBound, began: float) -> None:
        self.call = call
        self.binding = binding
        self.mode: Mode | None = requested_mode()
        self.began = self.asked = began
        rows = table.rows()
        index: dict[bytes, int] = {}
        self.places = [index.setdefault(row, len(index)) for row in rows]
        self.distinct = list(index)
        first = dict(zip(reversed(rows), range(len(rows) - 1, -1, -1), strict=True))
        self.firsts = [first[row] for row in self.distinct]
        self.store_seconds = self.model_seconds = 0.0
        self.failure: StoreUnavailableError | None = None
        self.forget()

    def forget(self) -> None:
        """Forget what was found, so that all rows are computed."""
        self.found: list[bytes | None] = [None] * len(self.distinct)
        self.sources = bytearray(len(self.distinct))
        self.odd: dict[int, bytes] = {}
        self.form: bytes | None = None
        self.entry_bytes = 0

    @cached_property
    def near_keys(self) -> list[bytes]:
        """The keys of the distinct rows in the near cache."""
        prefix = self.binding.near_prefix + self.call.head
        return [prefix + row for row in self.distinct]

    def canonical(self, place: int) -> bytes:
        """Return the canonical bytes of a distinct row."""
        return self.call.head + self.distinct[place]

    def keys(self, places: Iterable[int]) -> list[bytes]:
        """Return the keys of distinct rows."""
        key = self.binding.key
        return [key(self.canonical(place)) for place in places]

    def missing(self) -> list[int]:
        """Return the places of the distinct rows that are not found."""
        return [place for place, payload in enumerate(self.found) if payload is None]

    def take_in(
        self, places: Sequence[int], entries: Sequence[bytes | None], source: int
    ) -> list[int]:
        """Take the payloads of plain entries, and set others aside.

        Args:
            places: the places of distinct rows.
            entries: for each its entry, if there is one.
            source: where they come from.

        Returns:
            The numbers, in `entries`, of those whose payloads were taken.
        """
        self.form, payloads = self.binding.payloads(entries, self.form)
        taken: list[int] = []
        for number, payload in enumerate(payloads):
            if payload is not None:
                self.found[places[number]] = payload
                self.sources[places[number]] = source
                taken.append(number)
            elif (entry := entries[number]) is not None:
                self.odd[places[number]] = entry
        self.entry_bytes += sum(len(entries[number] or b"") for number in taken)
        return taken

    def joined(self, computed: Mapping[int, RowResult]) -> Any:
        """Return the result for the whole table from found and computed rows.

        Raises:
            MixedRowsError: they can't be put together.
        """
        forms = {result.form for result in computed.values()}
        if self.form is not None and any(self.sources):
            forms.add(self.form)
        whole = self.found.copy()
        for place, result in computed.items():
            whole[place] = result.payload
        payloads = [whole[place] for place in self.places]
        if len(forms) != 1 or None in payloads:
            raise MixedRowsError
        try:
            return self.binding.joined(self.call, forms.pop(), cast(list[bytes], payloads))
        except Exception as error:
            reraise_interruption(error)
            raise MixedRowsError from error


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
        self._timeout = timeout
        self._raises = on_error == "raise"
        self._hook = hook
        self._tell = tell
        self._clock = barrier.clock

    def answer(self, call: TableCall) -> Steps[Any]:
        """Return what the function would return for all rows of a call."""
        began, epoch = self._clock(), self._barrier.epoch  # before the binding is read
        binding, table = cast(RowsBound, self._current.get()), call.table
        if table is None:
            self._hook(InputNotCacheable(binding.qualified_name, call.reason))
            return (yield from self._whole(call, binding, "uncacheable"))
        mode = self._flow.mode(binding, call.size, lambda: call.head + table.rows()[0])
        if mode == "direct":
            return (yield from self._whole(call, binding, mode))
        rows = _Rows(call, table, binding, began)
        if rows.mode == "bypass" or not rows.distinct:
            return (yield from self._whole(call, binding, "bypass"))
        try:
            return (yield from self._answer(rows, epoch))
        except RowsNotApartError as error:
            self._hook(PredictionNotStored(binding.qualified_name, str(error)))
            if error.is_whole:
                return error.result
        except MixedRowsError:
            reason = "the types of its rows' results depend on the other rows of a call"
            self._hook(PredictionNotStored(binding.qualified_name, reason))
        return (yield from self._whole(call, binding, "uncacheable"))

    def _answer(self, rows: _Rows, epoch: int) -> Steps[Any]:
        """Answer from found and computed rows.

        Raises:
            RowsNotApartError: the function's result can't be taken apart.
            MixedRowsError: rows can't be put together, even if all are computed anew.
        """
        if rows.mode != "refresh":
            yield from self._find(rows)
        computed = yield from self._compute(rows, epoch)
        try:
            result = rows.joined(computed)
        except MixedRowsError:
            rows.forget()
            computed = yield from self._compute(rows, epoch)
            result = rows.joined(computed)
        self._tell_of_others(rows)
        return result

    def _find(self, rows: _Rows) -> Steps[None]:
        """Find rows in the near cache and in the store."""
        look_ups, generation = self._look_ups, self._look_ups.generation(rows.binding.namespace)
        if look_ups.has_near and not self._barrier.distrusted:
            yield from look_ups.look_again(generation, Budget(self._timeout))
            near = look_ups.near_many(generation, rows.near_keys)
            rows.take_in(range(len(near)), near, _NEAR)
        missing = rows.missing()
        for start in range(0, len(missing), CHUNK):
            if start:
                yield Pause(0)  # lets an event loop go on
            yield from self._find_in_store(rows, generation, missing[start : start + CHUNK])
            if rows.failure is not None:
                if self._raises:
                    raise rows.failure
                return

    def _find_in_store(
        self, rows: _Rows, generation: Generation, places: Sequence[int]
    ) -> Steps[None]:
        look_ups, keys = self._look_ups, rows.keys(places)
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
        entries = [entry for entry, _ in found]
        if self._barrier.distrusted:
            distrusts = self._barrier.distrusts
            entries = [
                None if distrusts(key) else entry for key, entry in zip(keys, entries, strict=True)
            ]
        taken = rows.take_in(places, entries, _STORE)
        if look_ups.has_near:
            near_keys = rows.near_keys
            read = [(near_keys[places[number]], found[number]) for number in taken]
            look_ups.keep_many(read, value if seen is UNKNOWN else seen, rows.asked, changes)

    def _compute(self, rows: _Rows, epoch: int) -> Steps[dict[int, RowResult]]:
        """Compute the rows that are not found, by one call of the function, and store them."""
        calls = {place: self._call(rows, place, epoch) for place in rows.missing()}
        results: dict[int, RowResult] = {}
        if not calls:
            return results
        began = self._clock()
        try:
            for place, entry in rows.odd.items():
                call = calls[place]
                found = self._flow.read(call, entry)
                if found is None and call.revalidates:
                    found = yield from self._flow.revalidate(call)
                if found is not None:
                    results[place] = cast(RowResult, found)
            waiting = {place: call for place, call in calls.items() if place not in results}
            made = yield from self._made(list(waiting.values()))
        finally:
            rows.model_seconds += sum(call.model_seconds for call in calls.values())
            self._many.tell(list(calls.values()), self._clock() - began, self._tell)
        return {**results, **{place: made[call] for place, call in waiting.items()}}

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

    def _call(self, rows: _Rows, place: int, epoch: int) -> Call:
        """Return a call for a distinct row that was not found."""
        call = Call(rows.binding, TableRow(rows.call, rows.firsts[place]), rows.began)
        call.mode, call.epoch, call.asked = rows.mode, epoch, rows.asked
        canonical = rows.canonical(place)
        self._look_ups.begin_missing(call, canonical)
        if rows.failure is not None:
            call.kind, call.store_error = "unavailable", rows.failure.kind
            return call
        call.key = rows.binding.key(canonical)
        if self._barrier.distrusts(call.key):
            call.mode = "refresh"
        return call

    def _whole(self, call: TableCall, binding: Bound, kind: Kind) -> Steps[Any]:
        """Call the function for the whole table, without the cache."""
        told = Call(binding, call, self._clock())
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

    def _tell_of_others(self, rows: _Rows) -> None:
        """Report the rows that were not computed: hits, and rows equal to a computed one."""
        by_source = bytes(map(rows.sources.__getitem__, rows.places))
        seconds = (self._clock() - rows.began - rows.model_seconds) / len(rows.places)
        hits = max(1, len(rows.distinct) - rows.sources.count(_ABSENT))
        kinds: list[tuple[int, Kind]] = [(_NEAR, "hit"), (_STORE, "hit"), (_ABSENT, "shared")]
        for source, kind in kinds:
            count = by_source.count(source)
            if source == _ABSENT:  # the computed ones have outcomes of their own
                count -= rows.sources.count(_ABSENT)
            call = Call(rows.binding, rows.call, rows.began)
            call.kind, call.near = kind, source == _NEAR
            call.entry_bytes = rows.entry_bytes // hits if source else 0
            call.batch_size = len(rows.places)
            call.store_seconds = rows.store_seconds / count if source == _STORE and count else 0.0
            self._tell_of(call, seconds, count)

    def _tell_of(self, call: Call, seconds: float, count: int) -> None:
        if call.kind is not None and count:
            self._tell(call.outcome(seconds)._replace(rows=count))

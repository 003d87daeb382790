"""The steps of a batch of predictions: one lookup, one model call, one write.

Equal inputs are computed once. A batch waits for other callers' computations only after its own
have landed, so that two batches can't deadlock. Decisions about a single prediction are in `flow`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from model_cache.binding import Bound
from model_cache.errors import StoreUnavailableError
from model_cache.interruptions import reraise_interruption
from model_cache.observing.outcome import Outcome
from model_cache.prediction.barrier import Barrier
from model_cache.prediction.batch_row import Row
from model_cache.prediction.call import Call
from model_cache.prediction.effects import Budget, Pause, PredictMany, Steps
from model_cache.prediction.equality import BatchEquality
from model_cache.prediction.flow import Flow
from model_cache.prediction.generation_steps import Records
from model_cache.prediction.look_up import LookUps
from model_cache.prediction.serving import WRONG_ENTRIES
from model_cache.prediction.single_flight import Flight, Landed, Landing
from model_cache.prediction.veto import ModelCall, model_calls
from model_cache.prediction.writing import Write, Writing
from model_cache.steps import unwrapped

# How many entries to write in one round trip.
_CHUNK = 1000


class ManyFlow:
    """The steps of the batches of one decorator.

    Args:
        flow: the steps of single predictions.
        look_ups: finds entries in the near cache and in the store.
        barrier: tracks which computations a purge or a refresh has overtaken.
        writing: encodes and writes predictions.
        equality: checks that the model answers batches like single inputs.
        on_error: "predict" without the cache when the store fails, or "raise".
        clock: seconds, as `time.perf_counter`.
        timeout: the most seconds that writing a thousand entries may take.
        isolates: whether to predict one by one after an exception, to find the input that raised.
    """

    def __init__(
        self,
        *,
        flow: Flow,
        look_ups: LookUps,
        barrier: Barrier,
        writing: Writing,
        equality: BatchEquality,
        on_error: str,
        clock: Callable[[], float],
        timeout: float,
        isolates: bool = True,
    ) -> None:
        self._flow = flow
        self._look_ups = look_ups
        self._barrier = barrier
        self._writing = writing
        self._equality = equality
        self._raises = on_error == "raise"
        self._clock = clock
        self._timeout = timeout
        self._isolates = isolates

    def answer(
        self, calls: Sequence[Call], budget: Budget, *, return_exceptions: bool
    ) -> Steps[list[Any]]:
        """Return the predictions for calls, in their order.

        Args:
            calls: the calls, all of one binding.
            budget: the time that all of them may spend on the store.
            return_exceptions: whether to return the model's exceptions in place of predictions;
                otherwise the first is raised after storing what was computed before it.
        """
        answers: dict[Call, Any] = {}
        rows: list[Row] = []
        if any(call.store_error == WRONG_ENTRIES for call in calls):
            yield from self._flow.verifying.serving.look_for_purge(calls[0].binding)
        try:
            yield from self._look_up(calls, answers, rows, budget)
            yield from self._complete(rows, budget, stops=not return_exceptions)
        finally:
            for row in rows:
                self._end(row)
        for row in rows:
            if row.error is not None and not return_exceptions:
                raise row.error
            answers[row.call] = row.answer if row.error is None else row.error
            for call in row.others:
                answers[call] = yield from self._again(call, row, stops=not return_exceptions)
        if self._flow.verifying.is_on:
            yield from self._flow.verifying.later(calls)
        return [answers[call] for call in calls]

    def complete(self, calls: Sequence[Call]) -> Steps[dict[Call, Any]]:
        """Compute and store the predictions for calls with different inputs that were looked up.

        Args:
            calls: the calls, all of one binding; without a key if the store failed.

        Returns:
            The prediction for each.
        """
        yield from self._learn_generation(calls, Budget(self._timeout))
        rows: list[Row] = []
        try:
            yield from self._begin_all(calls, rows)
            yield from self._complete(rows, Budget(self._timeout), stops=True)
        finally:
            for row in rows:
                self._end(row)
        for row in rows:
            if row.error is not None:
                raise row.error
        return {row.call: row.answer for row in rows}

    def _complete(self, rows: Sequence[Row], budget: Budget, *, stops: bool) -> Steps[None]:
        """Compute and store rows, and then wait for those that other callers compute."""
        yield from self._compute_and_store(rows, budget, stops=stops)
        if not stops or not any(row.error for row in rows):
            late = yield from self._wait_for_others(rows, budget, stops=stops)
            yield from self._compute_and_store(late, budget, stops=stops)

    def tell(self, calls: Sequence[Call], seconds: float, tell: Callable[[Outcome], None]) -> None:
        """Report the outcome of each call: its own time of the model, and its share of the rest."""
        rest = max(0.0, seconds - sum(call.model_seconds for call in calls))
        for call in calls:
            if call.kind is not None:
                call.batch_size = call.batch_size or len(calls)
                tell(call.outcome(call.model_seconds + rest / len(calls)))

    def _look_up(
        self, calls: Sequence[Call], answers: dict[Call, Any], rows: list[Row], budget: Budget
    ) -> Steps[None]:
        """Answer the hits; append the rows that have to be computed.

        A row is appended before others can wait for it, in case the lookup is interrupted.
        """
        asked, before = self._clock(), budget.left
        entries, failure = yield from self._entries(calls, budget, asked)
        seconds = (before - budget.left) / max(1, len(calls))
        by_key: dict[bytes, Row] = {}
        for call in calls:
            key = call.key
            call.asked, call.store_seconds = asked, seconds
            if call.answer is not None:
                answers[call] = call.answer
            elif key is None:
                rows.append(Row(call))
            elif failure is not None and key not in failure.answers and not call.renews:
                call.key, call.kind, call.store_error = None, "unavailable", failure.kind
                rows.append(Row(call))
            elif (found := self._flow.read(call, entries.get(key))) is not None:
                answers[call] = found
            elif call.revalidates:
                answers[call] = yield from self._flow.revalidate(call)
            elif key in by_key:
                by_key[key].others.append(call)
            else:
                by_key[key] = row = Row(call)
                rows.append(row)
                self._begin(row, key)
        if failure is not None and self._raises:
            raise failure

    def _entries(
        self, calls: Sequence[Call], budget: Budget, asked: float
    ) -> Steps[tuple[dict[bytes, bytes | None], StoreUnavailableError | None]]:
        """Return the entries found, by key, and the store's error."""
        found, failure = dict[bytes, bytes | None](), None
        asking = {key: call for call in calls if (key := call.key) and not call.renews}
        if keys := list(asking):
            generation = asking[keys[0]].generation
            assert generation is not None
            try:
                replies = yield from budget.ask(self._look_ups.request_many(keys, generation))
            except StoreUnavailableError as error:
                if not error.answers:
                    return found, error
                failure, replies = error, self._look_ups.answered(keys, generation, error)
            found = self._look_ups.take_in_many(calls, keys, generation, replies, asked)
        yield from self._learn_generation(calls, budget)
        return found, failure

    def _learn_generation(self, calls: Sequence[Call], budget: Budget) -> Steps[None]:
        if refreshing := [call for call in calls if call.key and call.mode == "refresh"]:
            yield from self._look_ups.before_refresh(refreshing, budget)
            # All at once: each call looks at all computations in progress, such as a table's rows.
            self._barrier.overtake([call.key for call in refreshing if call.key])
        if unaware := [call for call in calls if call.key and type(call.seen) is not bytes]:
            yield from self._look_ups.create_generation(unaware, budget)

    def _begin_all(self, calls: Sequence[Call], rows: list[Row]) -> Steps[None]:
        for number, call in enumerate(calls):
            if number and number % _CHUNK == 0:
                yield Pause(0)  # lets an event loop go on
            rows.append(row := Row(call))
            if call.key is not None:
                self._begin(row, call.key)

    def _begin(self, row: Row, key: bytes) -> None:
        call = row.call
        if call.mode == "read_only":
            return
        row.computation = self._barrier.begin(key, call.epoch)
        if call.mode == "refresh":
            self._look_ups.drop(call)
        else:
            row.joined = self._flow.join(call, row.computation)

    def _wait_for_others(
        self, rows: Sequence[Row], budget: Budget, *, stops: bool
    ) -> Steps[list[Row]]:
        """Answer rows with other callers' results; return those without a result."""
        late, waited = [], 0.0
        for row in [row for row in rows if row.waits]:
            started = self._clock()
            row.answer = yield from self._by_another(row, waited)
            waited += self._clock() - started
            if isinstance(row.joined, Flight):  # others wait for it now
                yield from self._compute_and_store([row], budget, stops=stops)
                if row.error is not None and stops:
                    return []
            elif row.answer is None:
                late.append(row)
        return late

    def _by_another(self, row: Row, waited: float) -> Steps[Any | None]:
        """Wait for another caller's computation; return its answer, if any.

        Args:
            row: the row.
            waited: how many seconds the batch has already waited for others.
        """
        joined, row.joined = row.joined, None
        if isinstance(joined, Landing) and row.computation is not None:
            joined = yield from self._flow.wait(row.call, joined, row.computation, waited)
        if isinstance(joined, Flight):  # the caller that computed it was interrupted
            row.joined = joined
        return self._flow.shared(row.call, joined) if isinstance(joined, Landed) else None

    def _again(self, call: Call, row: Row, *, stops: bool) -> Steps[Any]:
        """Answer another call of a row with a separate object."""
        if row.error is not None:
            call.kind = "error"
            return row.error
        if row.entry is not None:
            copy = self._flow.shared(call, Landed(row.entry))
            if copy is not None:
                return copy
        again = Row(call)  # the model's answer can't be copied
        yield from self._compute([again], stops=stops)
        if again.error is not None and stops:
            raise again.error
        return again.answer if again.error is None else again.error

    def _compute_and_store(
        self, rows: Sequence[Row], budget: Budget, *, stops: bool
    ) -> Steps[None]:
        own = [row for row in rows if not row.waits]
        if own:
            yield from self._compute(own, stops=stops)
            keys = [row.call.key for row in own if row.call.mode == "refresh" and row.call.key]
            records = Records(keys) if keys else None
            for start in range(0, len(own), _CHUNK):
                if records is not None:
                    records.may_begin_anew = start + _CHUNK >= len(own)
                yield from self._store(own[start : start + _CHUNK], budget, records)
                budget = Budget(self._timeout)

    def _compute(self, rows: Sequence[Row], *, stops: bool) -> Steps[None]:
        binding = rows[0].call.binding
        # Others may wait for any row, so no model call of the batch may wait for others.
        leads = any(isinstance(row.joined, Flight) for row in rows)
        batches = self._equality.allows(binding)
        at_once = batches and (len(rows) > 1 or not self._isolates)
        if at_once and (yield from self._compute_at_once(binding, rows, ModelCall(leads=leads))):
            return
        for row in rows:
            row.call.batch_size = int(batches)  # else each row of a batch takes as long
            try:
                row.model_call = model_call = ModelCall(leads=leads)
                row.answer = yield from self._flow.predict(row.call, model_call)
                row.call.kind = row.call.kind or "miss"
            except Exception as error:
                reraise_interruption(error)
                row.error = unwrapped(error)
                if stops:
                    return

    def _compute_at_once(
        self, binding: Bound, rows: Sequence[Row], model_call: ModelCall
    ) -> Steps[bool]:
        """Call the model once for all rows; return whether its answers can be used."""
        started = self._clock()
        try:
            with model_calls.raised(model_call):
                made = yield PredictMany(binding, [row.data for row in rows])
        except Exception as error:
            reraise_interruption(error)
            if not self._isolates:
                for row in rows:
                    row.error = unwrapped(error)
                return True
            return False  # predict one by one to find the row that fails
        if len(made) != len(rows):
            reason = f"returned {len(made)} predictions for {len(rows)} inputs"
            self._equality.refuse(binding, reason)
            return False
        seconds = (self._clock() - started) / len(rows)
        for row, prediction in zip(rows, made, strict=True):
            row.answer, row.model_call = prediction, model_call
        if not (yield from self._equality.check(binding, rows)):
            for row in rows:
                row.answer = None
            return False
        for row in rows:
            row.call.model_seconds, row.call.batch_size = seconds, len(rows)
            row.call.kind = row.call.kind or "miss"
        return True

    def _store(self, rows: Sequence[Row], budget: Budget, records: Records | None) -> Steps[None]:
        """Encode the new predictions, wake waiting callers, and write all entries at once."""
        writes: list[Write] = []
        written: list[Call] = []
        for row in rows:
            if row.computation is not None and row.call.kind == "miss" and row.answer is not None:
                computation, call = row.computation, row.call
                row.entry = self._writing.encode(call, computation.key, row.answer, row.model_call)
                if row.entry is not None:
                    writes.append(Write(computation, row.entry, call.redis_ttl, call.seen))
                    written.append(call)
            row.land()
        if writes:
            yield from self._write(written, writes, budget, records)
        # Last, since the generation may begin anew.
        yield from self._discard(rows, budget, records)

    def _write(
        self,
        written: Sequence[Call],
        writes: Sequence[Write],
        budget: Budget,
        records: Records | None,
    ) -> Steps[None]:
        before, since = budget.left, self._clock()
        renews = any(call.renews for call in written)
        binding, generation = written[0].binding, written[0].generation
        assert generation is not None
        outcomes = yield from self._writing.store(
            binding, generation, writes, budget, renews=renews, records=records
        )
        seconds = (before - budget.left) / len(writes)
        for call, write, (fate, error) in zip(written, writes, outcomes, strict=True):
            call.fate, call.store_error, call.write_seconds = fate, error, seconds
            if fate == "stored":
                self._look_ups.stored(call, write.entry, since)
            elif call.mode == "refresh":
                self._look_ups.refresh_failed(call)

    def _discard(self, rows: Sequence[Row], budget: Budget, records: Records | None) -> Steps[None]:
        """Erase outdated entries that a refresh has nothing to replace with."""
        outdated = [
            (row.call, row.computation)
            for row in rows
            if row.computation is not None
            and row.call.renews
            and row.call.kind == "miss"
            and row.entry is None
        ]
        if not outdated:
            return
        generation = outdated[0][0].generation
        assert generation is not None
        computations = [computation for _, computation in outdated]
        yield from self._writing.discard(generation, computations, budget, records)
        for call, _ in outdated:
            self._look_ups.refreshed(call)

    def _end(self, row: Row) -> None:
        row.land()
        computation = row.computation
        if computation is not None and computation.ended_at is None and row.call.fate != "queued":
            self._barrier.end(computation)

"""The steps of a prediction and all its decisions, without I/O.

A call starts with `begin`. The driver looks up its key and passes the entry to `read`, which
returns a prediction on a hit. Otherwise the driver runs one of the step generators: `compute`
without the cache, `do_without` a store that failed, or `answer` a miss.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from model_cache.errors import StoreUnavailableError
from model_cache.interruptions import is_interruption, reraise_interruption
from model_cache.observing.events import Hook, RevalidationFailed, StaleServed
from model_cache.options.config import Config
from model_cache.prediction.barrier import Barrier, Computation
from model_cache.prediction.call import Call
from model_cache.prediction.calls import Calls
from model_cache.prediction.effects import Budget, Later, Predict, Steps, Wait
from model_cache.prediction.generation_steps import Records
from model_cache.prediction.lease import Lease, LeaseKeeper
from model_cache.prediction.look_up import LookUps
from model_cache.prediction.serving import WRONG_ENTRIES
from model_cache.prediction.single_flight import (
    ABANDONED,
    FAILED,
    Flight,
    Landed,
    Landing,
    SingleFlight,
)
from model_cache.prediction.verifying import Verifying
from model_cache.prediction.veto import ModelCall, do_not_store, is_inside_a_flight, model_calls
from model_cache.prediction.writing import Write, Writing


class Flow:
    """The steps of the predictions of one decorator.

    Args:
        config: the decorator's options.
        calls: begins calls.
        barrier: the process's barrier for the store.
        flights: computations that other callers may wait for.
        leases: renews the leases that this process holds.
        writing: encodes and writes predictions.
        look_ups: finds entries in the near cache and in the store.
        verifying: what verifies hits.
        hook: receives rare events.

    Attributes:
        calls: begins calls.
        verifying: verifies hits.
    """

    def __init__(
        self,
        *,
        config: Config,
        calls: Calls,
        barrier: Barrier,
        flights: SingleFlight,
        leases: LeaseKeeper,
        writing: Writing,
        look_ups: LookUps,
        verifying: Verifying,
        hook: Hook,
    ) -> None:
        self._config = config
        self.calls = calls
        self._barrier = barrier
        self._flights = flights
        self._leases = leases
        self._writing = writing
        self._look_ups = look_ups
        self.verifying = verifying
        self._hook = hook
        self._clock = barrier.clock

    def read(self, call: Call, entry: bytes | None) -> Any | None:
        """Return the entry's prediction if it is a hit, else None."""
        if entry is None or call.key is None:
            return None
        found, is_fresh, left = call.binding.codec.read(call.key, entry)
        if found is not None and is_fresh:
            call.kind = "hit"
            call.read(entry, left)
            if call.near_key is not None:
                self._look_ups.found(call, entry)
            return found
        call.stale = found
        call.undecodable = found is None
        call.ttl = left
        may_revalidate = found is not None and call.mode != "read_only"
        if may_revalidate and self._config.stale_while_revalidate is not None:
            stale_for = -(call.ttl or 0.0)
            call.revalidates = 1000 * stale_for <= self._config.stale_while_revalidate
        return None

    def revalidate(self, call: Call) -> Steps[Any]:
        """Answer with a stale entry at once, and have it computed anew in the background."""
        assert call.key is not None
        assert call.stale is not None
        computation = self._barrier.begin(call.key, call.epoch)
        joined = self.join(call, computation)
        accepted = False
        if joined is None or isinstance(joined, Flight):  # nobody else is computing it
            steps = self._recompute(call, computation, joined)
            accepted = yield Later("revalidate", steps, 0)
        if not accepted:
            if isinstance(joined, Flight):
                joined.land(FAILED)
            self._barrier.end(computation)
        call.kind = "stale"
        do_not_store()
        return call.stale

    def _recompute(
        self, asked: Call, computation: Computation, flight: Flight | None
    ) -> Steps[None]:
        """Compute an entry anew; if that fails, the stale one stays until its time is over."""
        call = Call(asked.binding, asked.data, self._clock())
        call.key, call.near_key, call.epoch = asked.key, asked.near_key, asked.epoch
        call.generation, call.seen = asked.generation, asked.seen
        call.changes, call.is_late = self._barrier.changes, True
        budget = Budget(self._config.timeout)
        try:
            if flight is not None and self._config.single_flight == "fleet":
                yield from self._lead_the_fleet(call, computation, budget, flight)
            else:
                yield from self._compute_and_store(call, computation, budget, flight)
        except Exception as error:
            reraise_interruption(error)
            self._hook(RevalidationFailed(call.binding.qualified_name, type(error).__name__))
        finally:
            self._end(call, computation, flight)
        self._writing.revalidated(call.binding, call.fate)

    def compute(self, call: Call) -> Steps[Any]:
        """Compute without the cache; the call's kind says why."""
        if call.store_error == WRONG_ENTRIES:
            yield from self.verifying.serving.look_for_purge(call.binding)
        return (yield from self.predict(call, ModelCall(leads=False)))

    def do_without(self, call: Call, error: StoreUnavailableError) -> Steps[Any]:
        """Answer without the store, which failed.

        Raises:
            StoreUnavailableError: if `on_error` is "raise".
        """
        call.kind = "unavailable"
        call.store_error = error.kind
        self._look_ups.missed(call, error)
        if self._config.on_error == "raise":
            try:
                raise error
            finally:
                del error  # its traceback refers to this frame
        return self.compute(call)

    def answer(self, call: Call) -> Steps[Any]:
        """Answer a miss with another caller's result, or by calling the model."""
        assert call.key is not None
        if call.mode == "read_only":
            prediction = yield from self.compute(call)
            call.kind = call.kind or "miss"
            return prediction
        refreshes = call.mode == "refresh"
        computation = self._barrier.begin(call.key, call.epoch, refreshes=refreshes)
        if refreshes:
            self._look_ups.drop(call)
        budget = Budget(self._config.timeout - call.store_seconds)
        joined: Flight | Landing | Landed | None = None
        try:
            if not refreshes:
                joined = self.join(call, computation)
            if isinstance(joined, Landing):
                joined = yield from self.wait(call, joined, computation)
            if isinstance(joined, Landed):
                answer = self.shared(call, joined)
                if answer is not None:
                    return answer
            flight = joined if isinstance(joined, Flight) else None
            asks_the_fleet = self._config.single_flight == "fleet" and not call.renews
            if flight is not None and asks_the_fleet:
                return (yield from self._lead_the_fleet(call, computation, budget, flight))
            return (yield from self._compute_and_store(call, computation, budget, flight))
        finally:
            self._end(call, computation, joined)
            call.store_seconds = self._config.timeout - budget.left

    def _end(
        self, call: Call, computation: Computation, joined: Flight | Landing | Landed | None
    ) -> None:
        if isinstance(joined, Flight) and not joined.has_landed:
            joined.land(_landed(call))
        if computation.ended_at is None and call.fate != "queued":
            self._barrier.end(computation)

    def join(self, call: Call, computation: Computation) -> Flight | Landing | Landed | None:
        """Join the flight for a call's key, unless others wait for this caller."""
        # Never wait while others wait for this caller: models that call cached models could
        # deadlock.
        if is_inside_a_flight():
            return None
        return self._flights.join(computation, call.asked, call.is_running)

    def wait(
        self, call: Call, landing: Landing, computation: Computation, waited: float = 0.0
    ) -> Steps[Flight | Landed | None]:
        """Wait for another caller's flight; return how it ended, or None on a timeout.

        If its leader was interrupted, one of the waiting callers leads, and gets a flight.

        Args:
            call: the caller's call.
            landing: the flight.
            computation: the caller's own computation.
            waited: how many seconds the caller has already waited for other flights.
        """
        patience = self._flights.patience(self._config.single_flight_wait) - waited
        deadline = self._clock() + patience
        while True:
            landed: Landed | None = landing.landed
            if landed is None:
                landed = yield Wait(landing, deadline - self._clock())
            if landed is None:
                self._flights.leave(landing)
            if landed is None or not landed.abandoned:
                return landed
            joined = self.join(call, computation)
            if not isinstance(joined, Landing):
                return joined
            landing = joined

    def shared(self, call: Call, landed: Landed | None) -> Any | None:
        """Return an answer from another caller's result; None if the model must be called."""
        if landed is None or call.key is None:
            return None
        if landed.failed and call.stale is not None:
            return self.serve_stale(call, "an exception for another caller")
        # A leader found an entry in the store, which may be too old for this caller.
        is_found = landed.asked < math.inf
        if landed.entry is None or (is_found and (call.renews or call.asked > landed.asked)):
            return None
        found, is_fresh, left = call.binding.codec.read(call.key, landed.entry)
        if found is None or not is_fresh:
            return None
        call.kind = "shared"
        call.seconds_left = math.inf  # of an entry that was found before, if any
        call.read(landed.entry, left)
        return found

    def _lead_the_fleet(
        self, call: Call, computation: Computation, budget: Budget, flight: Flight
    ) -> Steps[Any]:
        """Compute, unless another process of the fleet already does."""
        lease = Lease(computation.key, budget, self._clock)
        patience = self._flights.patience(self._config.single_flight_wait)
        landed = yield from lease.acquire(patience, self._usable(call))
        answer = self.shared(call, landed)
        if landed is None or answer is None:
            if lease.is_held:
                self._leases.hold(lease)
            try:
                answer = yield from self._compute_and_store(call, computation, budget, flight)
            except BaseException:
                self._give_back(lease, FAILED)
                raise
            landed = _landed(call)
        elif landed.entry is not None:
            flight.land(landed)
        yield from self._release(lease, budget, landed)
        return answer

    def _usable(self, call: Call) -> Callable[[bytes], bool]:
        key, binding = call.key, call.binding

        def is_usable(entry: bytes) -> bool:
            return key is not None and binding.codec.read(key, entry).fresh

        return is_usable

    def _compute_and_store(
        self, call: Call, computation: Computation, budget: Budget, flight: Flight | None
    ) -> Steps[Any]:
        model_call = ModelCall(leads=flight is not None)
        prediction = yield from self.predict(call, model_call)
        if call.kind is not None:  # a stale prediction was returned
            return prediction
        call.kind = "miss"
        entry = self._writing.encode(call, computation.key, prediction, model_call)
        if flight is None:
            self._flights.shared(entry)
        elif entry is not None:  # waiting callers do not have to wait for the write
            flight.land(Landed(entry))
        yield from self._store(call, computation, budget, entry)
        return prediction

    def _store(
        self, call: Call, computation: Computation, budget: Budget, entry: bytes | None
    ) -> Steps[None]:
        """Write a prediction's entry; if there is none, a refresh erases the older one."""
        binding, generation = call.binding, call.generation
        assert generation is not None
        records = Records([computation.key]) if call.mode == "refresh" else None
        if entry is not None:
            write = Write(computation, entry, call.redis_ttl, call.seen)
            before, since = budget.left, self._clock()
            ((call.fate, call.store_error),) = yield from self._writing.store(
                binding, generation, [write], budget, renews=call.renews, records=records
            )
            call.write_seconds = before - budget.left
            if call.fate == "stored":
                self._look_ups.stored(call, entry, since)
            elif call.mode == "refresh":  # failed, or overtaken by a purge or a refresh
                self._look_ups.refresh_failed(call)
        elif call.renews:
            yield from self._writing.discard(generation, [computation], budget, records)
            self._look_ups.refreshed(call)

    def _release(self, lease: Lease, budget: Budget, landed: Landed) -> Steps[None]:
        """Release a lease; in the background if the first attempt fails."""
        if not lease.is_held:
            return
        if not self._leases.drop(lease):
            try:
                yield from budget.ask(lease.release(landed))
                return
            except StoreUnavailableError:
                pass
        self._give_back(lease, landed)

    def _give_back(self, lease: Lease, landed: Landed) -> None:
        """Release a lease in the background."""
        if lease.is_held:
            self._leases.drop(lease)
            self._leases.give_back(lease.release(landed))

    def predict(self, call: Call, model_call: ModelCall) -> Steps[Any]:
        """Call the model; if it raises, return a stale prediction if there is one."""
        started = self._clock()
        try:
            with model_calls.raised(model_call):
                prediction: Any = yield Predict(call.binding, call.data)
        except BaseException as error:
            call.model_seconds = self._clock() - started
            if not isinstance(error, Exception) or is_interruption(error):
                call.kind = None  # neither an answer nor the model's error
                raise
            if call.stale is None:
                call.kind = "error"
                raise
            return self.serve_stale(call, type(error).__name__)
        call.model_seconds = self._clock() - started
        self._flights.model_took(call.model_seconds)
        return prediction

    def serve_stale(self, call: Call, error: str) -> Any:
        """Answer with an entry past its ttl, which outer caches must not store."""
        assert call.stale is not None
        call.kind = "stale"
        do_not_store()
        self._hook(StaleServed(call.binding.qualified_name, error))
        return call.stale


def _landed(call: Call) -> Landed:
    """Return how the computation of a call has ended."""
    if call.kind is None:
        return ABANDONED
    entry = call.entry if call.fate == "stored" else None
    return Landed(entry, failed=call.kind in ("error", "stale"))

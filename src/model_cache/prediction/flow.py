"""The steps of a prediction, and every decision on the way; without any I/O.

A call begins with `begin`. The driver looks its key up and hands what it found to `read`: a
prediction, if that is a hit. Everything else is left to steps that the driver takes one by one:
`compute` without the cache, `do_without` a store that failed, or `answer` a miss.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

from pydantic import BaseModel

from model_cache.binding import CurrentBinding
from model_cache.errors import NotCacheableError, StoreUnavailableError
from model_cache.interruptions import is_interruption
from model_cache.observing.events import Hook, InputNotCacheable, StaleServed
from model_cache.observing.scope import requested_mode
from model_cache.options.config import Config
from model_cache.prediction.barrier import Barrier, Computation
from model_cache.prediction.call import Call
from model_cache.prediction.effects import Budget, Predict, Steps, Wait
from model_cache.prediction.lease import Lease, LeaseKeeper
from model_cache.prediction.single_flight import (
    ABANDONED,
    Flight,
    Landed,
    Landing,
    SingleFlight,
)
from model_cache.prediction.veto import ModelCall, do_not_store, is_inside_a_flight, model_calls
from model_cache.prediction.writing import Encoded, Writing

Clock: TypeAlias = Callable[[], float]


class Flow:
    """The steps of the predictions of one decorator.

    Args:
        config: the decorator's options.
        current: the binding that predictions begin with.
        barrier: the process's.
        flights: what is being computed for several callers.
        leases: keeps the leases that this process holds.
        writing: turns predictions into entries.
        hook: hears of rare events.
        clock: seconds, as `time.perf_counter`.
    """

    def __init__(
        self,
        *,
        config: Config,
        current: CurrentBinding,
        barrier: Barrier,
        flights: SingleFlight,
        leases: LeaseKeeper,
        writing: Writing,
        hook: Hook,
        clock: Clock = time.perf_counter,
    ) -> None:
        self._config = config
        self._current = current
        self._barrier = barrier
        self._flights = flights
        self._leases = leases
        self._writing = writing
        self._hook = hook
        self._clock = clock

    def begin(self, data: BaseModel) -> Call:
        """Return a call: with a key, unless the cache has no part in it."""
        began = self._clock()
        epoch = self._barrier.epoch  # before the binding is read
        binding = self._current.get()
        call = Call(binding, binding.rounded(data), began)
        call.mode = requested_mode()
        if call.mode == "bypass":
            call.kind = "bypass"
            return call
        try:
            call.key = binding.key(call.data)
        except NotCacheableError as error:
            call.kind = "uncacheable"
            self._hook(InputNotCacheable(binding.qualified_name, str(error)))
            return call
        call.epoch = epoch
        if self._barrier.distrusts(call.key):
            call.mode = "refresh"
        return call

    def read(self, call: Call, entry: bytes | None) -> BaseModel | None:
        """Return the prediction that an entry holds, if that is a hit."""
        now = self._clock()
        call.store_seconds = now - call.asked
        if entry is None or call.key is None:
            return None
        found, is_fresh = call.binding.read(call.key, entry)
        if found is not None and is_fresh:
            call.kind = "hit"
            call.entry_bytes = len(entry)
            return found
        call.stale = found
        call.undecodable = found is None
        return None

    def compute(self, call: Call) -> Steps[BaseModel]:
        """Answer by the model alone; the call's kind says why."""
        return self._predict(call, ModelCall(leads=False))

    def do_without(self, call: Call, error: StoreUnavailableError) -> Steps[BaseModel]:
        """Answer although the store failed.

        Raises:
            StoreUnavailableError: if `on_error` is "raise".
        """
        call.kind = "unavailable"
        call.store_seconds = self._clock() - call.asked
        call.store_error = error.kind
        if self._config.on_error == "raise":
            raise error
        return self.compute(call)

    def answer(self, call: Call) -> Steps[BaseModel]:
        """Answer a miss: by what another caller computes already, or by the model."""
        assert call.key is not None
        refreshes = call.mode == "refresh"
        computation = self._barrier.begin(call.key, call.epoch, refreshes=refreshes)
        budget = Budget(self._config.timeout - call.store_seconds)
        joined = None if refreshes else self._join(call, computation)
        flight = joined if isinstance(joined, Flight) else None
        try:
            if isinstance(joined, Landing):
                joined = yield from self._wait(call, joined, computation)
                flight = joined if isinstance(joined, Flight) else None
            if isinstance(joined, Landed):
                answer = self._shared(call, joined)
                if answer is not None:
                    return answer
            if flight is not None and self._config.single_flight == "fleet":
                return (yield from self._lead_the_fleet(call, computation, budget, flight))
            return (yield from self._compute_and_store(call, computation, budget, flight, None))
        finally:
            if flight is not None:  # it may have landed long since
                failed = Landed(failed=call.kind in ("error", "stale"))
                flight.land(ABANDONED if call.kind is None else failed)
            if computation.ended_at is None and call.fate != "queued":
                self._barrier.end(computation)
            call.store_seconds = self._config.timeout - budget.left

    def _join(self, call: Call, computation: Computation) -> Flight | Landing | Landed | None:
        # A caller that others wait for does not wait: models that call cached models would
        # deadlock.
        if is_inside_a_flight():
            return None
        return self._flights.join(computation, call.asked, call.is_lost)

    def _wait(
        self, call: Call, landing: Landing, computation: Computation
    ) -> Steps[Flight | Landed | None]:
        """Return how another caller's flight ended; None if that takes too long.

        If its leader was interrupted, one of those who waited leads: it gets a flight.
        """
        deadline = self._clock() + self._flights.patience(self._config.single_flight_wait)
        while True:
            landed: Landed | None = yield Wait(landing, deadline - self._clock())
            if landed is None:
                self._flights.leave(landing, computation)
            if landed is None or not landed.abandoned:
                return landed
            joined = self._join(call, computation)
            if not isinstance(joined, Landing):
                return joined
            landing = joined

    def _shared(self, call: Call, landed: Landed | None) -> BaseModel | None:
        """Return an answer by what another caller computed; None to compute."""
        if landed is None or call.key is None:
            return None
        if landed.failed and call.stale is not None:
            return self._serve_stale(call, call.stale, "an exception for another caller")
        if landed.entry is None:
            return None
        found, is_fresh = call.binding.read(call.key, landed.entry)
        if found is None or not is_fresh:
            return None
        call.kind = "shared"
        call.entry_bytes = len(landed.entry)
        return found

    def _lead_the_fleet(
        self, call: Call, computation: Computation, budget: Budget, flight: Flight
    ) -> Steps[BaseModel]:
        """Compute, unless another process of the fleet does."""
        lease = Lease(computation.key, budget, self._clock)
        patience = self._flights.patience(self._config.single_flight_wait)
        landed = yield from lease.acquire(patience, self._usable(call))
        answer = self._shared(call, landed)
        if answer is None:
            return (yield from self._compute_and_store(call, computation, budget, flight, lease))
        if landed is not None and landed.entry is not None:
            flight.land(landed)
            yield from self._release(lease, budget, landed)
        return answer

    def _usable(self, call: Call) -> Callable[[bytes], bool]:
        key, binding = call.key, call.binding

        def is_usable(entry: bytes) -> bool:
            found, is_fresh = binding.read(key, entry) if key is not None else (None, False)
            return found is not None and is_fresh

        return is_usable

    def _compute_and_store(
        self,
        call: Call,
        computation: Computation,
        budget: Budget,
        flight: Flight | None,
        lease: Lease | None,
    ) -> Steps[BaseModel]:
        if lease is not None and lease.is_held:
            self._leases.hold(lease)
        model_call = ModelCall(leads=flight is not None)
        try:
            prediction = yield from self._predict(call, model_call)
            landed = Landed(failed=True)  # a stale prediction answered
            if call.kind is None:
                call.kind = "miss"
                landed = yield from self._store(
                    call, computation, budget, flight, prediction, model_call
                )
        except BaseException:
            if lease is not None:
                self._give_back(lease, Landed(failed=True))
            raise
        if lease is not None:
            yield from self._release(lease, budget, landed)
        return prediction

    def _store(
        self,
        call: Call,
        computation: Computation,
        budget: Budget,
        flight: Flight | None,
        prediction: BaseModel,
        model_call: ModelCall,
    ) -> Steps[Landed]:
        """Store a prediction, and return what others get of it."""
        refreshes = call.mode == "refresh"
        call.fate = "skipped"
        if model_call.may_be_stored:
            made = self._writing.encode(call.binding, computation.key, call.data, prediction)
            if isinstance(made, Encoded):
                # Those who wait for it need not wait for the write as well.
                if flight is not None:
                    flight.land(Landed(made.entry))
                else:
                    self._flights.shared(made.entry)
                call.entry_bytes = len(made.entry)
                before = budget.left
                written = yield from self._writing.store(
                    call.binding, computation, made, budget, refreshes=refreshes
                )
                call.write_seconds = before - budget.left
                call.fate, call.store_error = written
                return Landed(made.entry if call.fate == "stored" else None)
            call.fate = made
        if flight is None:
            self._flights.shared(None)
        if refreshes:
            yield from self._writing.discard(computation.key, budget)
        return Landed()

    def _release(self, lease: Lease, budget: Budget, landed: Landed) -> Steps[None]:
        """Give a lease back, off the path if the store does not take it at once."""
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
        """Give a lease back off the path."""
        if lease.is_held:
            self._leases.drop(lease)
            self._leases.give_back(lease.release(landed))

    def _predict(self, call: Call, model_call: ModelCall) -> Steps[BaseModel]:
        """Call the model; if it raises, a stale prediction may answer."""
        started = self._clock()
        try:
            with model_calls.raised(model_call):
                prediction: BaseModel = yield Predict(call.binding, call.data)
        except BaseException as error:
            call.model_seconds = self._clock() - started
            if not isinstance(error, Exception) or is_interruption(error):
                call.kind = None  # neither an answer nor an error of the model
                raise
            if call.stale is None:
                call.kind = "error"
                raise
            return self._serve_stale(call, call.stale, type(error).__name__)
        call.model_seconds = self._clock() - started
        self._flights.model_took(call.model_seconds)
        return prediction

    def _serve_stale(self, call: Call, stale: BaseModel, error: str) -> BaseModel:
        """Answer by an entry past its ttl, which caches around this one must not keep."""
        call.kind = "stale"
        do_not_store()
        self._hook(StaleServed(call.binding.qualified_name, error))
        return stale

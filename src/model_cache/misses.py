"""What is done when the cache has no answer: compute once, encode, store.

Of many callers who miss the same entry at once, one computes and the rest get its answer. Who is
told of the outcome is unknown here.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from pydantic import BaseModel

from model_cache.binding import Binding, Request
from model_cache.budget import Budget
from model_cache.codec import is_fresh
from model_cache.config import Config
from model_cache.events import Hook, StaleServed
from model_cache.keeping import Encoded, Keeper
from model_cache.protocols import Store
from model_cache.single_flight import Lease, Seat, SingleFlight
from model_cache.storing import Prediction


class Lookup(NamedTuple):
    """What a look-up that was no hit leaves behind.

    Attributes:
        asked: when the store was asked, by `time.perf_counter`.
        budget: what is left of the time that this prediction may lose to the store.
        purges: how many purges had begun when it was asked.
        stale: a prediction past its time, should the model raise.
        undecodable: whether there was something that is no valid entry.
        refreshes: whether the caller wants no answer from the cache.
    """

    asked: float
    budget: Budget
    purges: int
    stale: BaseModel | None
    undecodable: bool
    refreshes: bool


class Misses:
    """Answers misses.

    Args:
        config: the decorator's options.
        store: where leases are kept, beside the entries.
        keeper: encodes and stores what is computed.
        hook: is told of stale answers.
    """

    def __init__(self, config: Config, store: Store, keeper: Keeper, hook: Hook) -> None:
        self._config = config
        self._store = store
        self._keeper = keeper
        self._hook = hook
        self._flights = SingleFlight()

    def forget(self) -> None:
        """Give nobody who comes later what is computed now, say, since the cache was purged."""
        self._flights.forget()

    def answer(
        self, binding: Binding, request: Request, lookup: Lookup, outcome: dict[str, Any]
    ) -> Any:
        """Return an answer: by what another caller is computing already, or by the model.

        Args:
            binding: of the model.
            request: what was looked up.
            lookup: what that left behind.
            outcome: takes what is to be told, as arguments of `Outcome`; nothing if the caller
                was interrupted before there was an answer.
        """
        try:
            with self._board(binding, request.key, lookup) as seat:
                return self._compute(binding, request, lookup, seat, outcome)
        finally:
            if outcome:
                outcome.update(
                    store_seconds=self._config.timeout - lookup.budget.left,
                    undecodable=lookup.undecodable,
                    refreshed=lookup.refreshes,
                )

    def _compute(
        self,
        binding: Binding,
        request: Request,
        lookup: Lookup,
        seat: Seat,
        outcome: dict[str, Any],
    ) -> Any:
        if seat.entry is not None and is_fresh(seat.entry):
            prediction = binding.decode(request.key, seat.entry)
            if prediction is not None:
                outcome.update(kind="shared", entry_bytes=len(seat.entry))
                return prediction
        started = time.perf_counter()
        try:
            with Prediction() as making:
                prediction = binding.predict(request.data)
        except Exception as error:
            seat.failed = True
            seconds = time.perf_counter() - started
            if lookup.stale is None:
                outcome.update(kind="error", model_seconds=seconds)
                raise
            self._hook(StaleServed(binding.qualified_name, type(error).__name__))
            outcome.update(kind="stale", model_seconds=seconds)
            return lookup.stale
        outcome.update(kind="miss", model_seconds=time.perf_counter() - started, fate="skipped")
        if making.may_be_stored:
            outcome.update(self._keep(binding, request, prediction, lookup, seat))
        return prediction

    def _keep(
        self,
        binding: Binding,
        request: Request,
        prediction: BaseModel,
        lookup: Lookup,
        seat: Seat,
    ) -> dict[str, Any]:
        """Store a prediction; return what is to be told of that."""
        encoded = self._keeper.encode(binding, request, prediction)
        if not isinstance(encoded, Encoded):
            return {"fate": encoded}
        # Who waits for it need not wait for the write as well.
        is_current = lookup.purges == self._keeper.purges
        before = lookup.budget.left
        seat.share(encoded.entry, before if is_current else 0.0)
        fate = self._keeper.store(binding, request.key, encoded, lookup.budget, lookup.purges)
        written = before - lookup.budget.left
        return {"fate": fate, "entry_bytes": len(encoded.entry), "write_seconds": written}

    def _board(self, binding: Binding, key: bytes, lookup: Lookup) -> Seat:
        mode, wait = self._config.single_flight, self._config.single_flight_wait
        if mode == "off" or lookup.refreshes:
            return Seat()
        seat: Seat = self._flights.board(key, wait, lookup.asked)
        if mode == "fleet" and seat.leads:

            def is_usable(entry: bytes) -> bool:
                return binding.decode(key, entry) is not None and is_fresh(entry)

            seat.hold(Lease(self._store, key, wait, lookup.budget, is_usable))
        return seat

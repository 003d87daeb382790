"""Begin calls: each has a binding, a mode and, if the cache is used, a key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from model_cache.binding import Bound, Current
from model_cache.errors import NotCacheableError
from model_cache.observing.events import Hook, InputNotCacheable
from model_cache.observing.scope import Mode, requested_mode
from model_cache.prediction.barrier import Barrier
from model_cache.prediction.call import Call
from model_cache.prediction.gates import Gates
from model_cache.prediction.look_up import LookUps
from model_cache.prediction.serving import WRONG_ENTRIES, Serving


class Calls:
    """Begins the calls of one decorator.

    Args:
        current: holds the binding for new predictions.
        barrier: the process's barrier for the store.
        look_ups: finds entries in the near cache and in the store.
        serving: whether entries are served.
        hook: receives rare events.
        gates: say when to predict batches without the cache; None for never.
    """

    def __init__(
        self,
        current: Current,
        barrier: Barrier,
        look_ups: LookUps,
        serving: Serving,
        hook: Hook,
        gates: Gates | None = None,
    ) -> None:
        self._current = current
        self._barrier = barrier
        self._look_ups = look_ups
        self._serving = serving
        self._hook = hook
        self._gates = gates
        self._clock = barrier.clock

    def begin(self, data: Any, mode: Mode | None = None) -> Call:
        """Return a call; its key is None if the cache is not used.

        Args:
            data: the input.
            mode: the call's mode; by default what the block around asks for.
        """
        began = self._clock()
        epoch = self._barrier.epoch  # before the binding is read
        return self._begin(data, began, epoch, self._current.get(), mode or requested_mode())

    def begin_many(self, inputs: Sequence[Any]) -> list[Call]:
        """Return a call for each input, all of one binding."""
        began = self._clock()
        epoch = self._barrier.epoch
        binding = self._current.get()
        mode = self.mode(
            binding, len(inputs), lambda: binding.canonical(binding.rounded(inputs[0]))
        )
        return [self._begin(data, began, epoch, binding, mode) for data in inputs]

    def mode(self, binding: Bound, size: int, encode: Callable[[], bytes]) -> Mode | None:
        """Return the mode of a batch or a table; `encode` is of one row, see `Gate.is_direct`."""
        mode = requested_mode()
        if mode is None and size and self._gates is not None:
            gate = self._gates.of(binding.qualified_name, binding.version, batches=size > 1)
            mode = "direct" if gate.is_direct(encode) else None
        return mode

    def _begin(
        self, data: Any, began: float, epoch: int, binding: Bound, mode: Mode | None
    ) -> Call:
        call = Call(binding, binding.rounded(data) if binding.rounds else data, began)
        call.mode = mode
        match mode:
            case "bypass" | "direct":
                call.kind = mode
                return call
        try:
            canonical = binding.canonical(call.data)
        except NotCacheableError as error:
            call.kind = "uncacheable"
            self._hook(InputNotCacheable(binding.qualified_name, str(error)))
            return call
        call.epoch = epoch
        if mode != "refresh" and self._serving.has_stopped(binding):
            call.kind, call.store_error = "unavailable", WRONG_ENTRIES
            return call
        self._look_ups.begin(call, canonical)
        if call.near_key is not None and self._look_ups.answers_nearby(call, canonical):
            return call
        key = binding.keys.key_of(canonical)
        if mode == "read_only" and self._barrier.distrusts(key):
            call.kind = "miss"  # no write follows that would replace the entry
            return call
        call.key = key
        call.renews = mode == "refresh" or self._barrier.distrusts(key)
        return call

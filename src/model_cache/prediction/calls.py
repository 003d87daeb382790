"""Begin calls: each has a binding, a mode and, if the cache is used, a key."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from model_cache.binding import Bound, Current
from model_cache.errors import NotCacheableError
from model_cache.observing.events import Hook, InputNotCacheable
from model_cache.observing.scope import Mode, requested_mode
from model_cache.prediction.barrier import Barrier
from model_cache.prediction.call import Call
from model_cache.prediction.look_up import LookUps


class Calls:
    """Begins the calls of one decorator.

    Args:
        current: holds the binding for new predictions.
        barrier: the process's barrier for the store.
        look_ups: finds entries in the near cache and in the store.
        hook: receives rare events.
    """

    def __init__(self, current: Current, barrier: Barrier, look_ups: LookUps, hook: Hook) -> None:
        self._current = current
        self._barrier = barrier
        self._look_ups = look_ups
        self._hook = hook
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

    def begin_many(self, inputs: Iterable[Any]) -> list[Call]:
        """Return a call for each input, all of one binding."""
        began = self._clock()
        epoch = self._barrier.epoch
        binding, mode = self._current.get(), requested_mode()
        return [self._begin(data, began, epoch, binding, mode) for data in inputs]

    def _begin(
        self, data: Any, began: float, epoch: int, binding: Bound, mode: Mode | None
    ) -> Call:
        call = Call(binding, binding.rounded(data), began)
        call.mode = mode
        if call.mode == "bypass":
            call.kind = "bypass"
            return call
        try:
            canonical = binding.canonical(call.data)
        except NotCacheableError as error:
            call.kind = "uncacheable"
            self._hook(InputNotCacheable(binding.qualified_name, str(error)))
            return call
        call.epoch = epoch
        if self._look_ups.begin(call, canonical):
            return call
        key = binding.key(canonical)
        if mode == "read_only" and key in self._barrier.distrusted:
            call.kind = "miss"  # no write follows that would replace the entry
            return call
        call.key = key
        if self._barrier.distrusts(key):
            call.mode = "refresh"
        return call

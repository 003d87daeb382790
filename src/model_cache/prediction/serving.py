"""Whether the entries of a model are served.

If too many hits turn out to be wrong, they are not, until a purge or a new version.
"""

from __future__ import annotations

from typing import Final

from model_cache.binding import Bound, Current
from model_cache.errors import NotCacheableError
from model_cache.observing.counters import Counters
from model_cache.prediction.barrier import Barrier
from model_cache.prediction.effects import Budget, Steps
from model_cache.prediction.generation import Value, is_purge
from model_cache.prediction.look_up import LookUps

WRONG_ENTRIES: Final = "wrong_entries"
"""The state of a store whose entries are not served, and why predictions did without it."""


class Serving:
    """Knows whose entries are not served by one decorator.

    Args:
        current: holds the binding for new predictions.
        barrier: the process's barrier for the store.
        look_ups: finds entries in the near cache and in the store.
        counters: say so in their snapshots.
        timeout: the most seconds to look for a purge.
    """

    def __init__(
        self,
        current: Current,
        barrier: Barrier,
        look_ups: LookUps,
        counters: Counters,
        timeout: float,
    ) -> None:
        self._current = current
        self._barrier = barrier
        self._look_ups = look_ups
        self._timeout = timeout
        # By what a binding's keys have in common, the generation's value at that time.
        self._stopped: dict[bytes, Value] = {}
        counters.report_state(self._state)

    def stop(self, binding: Bound) -> None:
        """Serve a binding's entries no longer."""
        self._stopped[_entries_of(binding)] = self._look_ups.generations.of(binding.namespace).value
        self._barrier.changed()  # nothing that is being read now enters the near cache
        self._look_ups.forget()

    def has_stopped(self, binding: Bound) -> bool:
        """Return whether a binding's entries are not served."""
        if not self._stopped:
            return False
        try:
            entries = _entries_of(binding)
        except NotCacheableError:  # it has no entries
            return False
        if entries not in self._stopped:
            return False
        now = self._look_ups.generations.of(binding.namespace).value
        if not is_purge(self._stopped[entries], now):
            return True
        self._stopped.pop(entries, None)
        return False

    def look_for_purge(self, binding: Bound) -> Steps[None]:
        """Look, at most once a second, whether another process has purged the entries."""
        generation = self._look_ups.generations.of(binding.namespace)
        yield from self._look_ups.look_again(generation, Budget(self._timeout))

    def _state(self) -> str | None:
        binding = self._current.binding
        stopped = binding is not None and self.has_stopped(binding)
        return WRONG_ENTRIES if stopped else None


def _entries_of(binding: Bound) -> bytes:
    """Return what the keys of a binding have in common: namespace, revision, schema, ..."""
    return binding.keys.key_of(b"")

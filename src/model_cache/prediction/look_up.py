"""Look up entries in the near cache and in the store.

A lookup also reads the generation of the namespace, which shows whether another process has purged
it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from pydantic import BaseModel

from model_cache.entries.envelope import MARK
from model_cache.errors import StoreUnavailableError
from model_cache.keys.key import Namespace
from model_cache.prediction.barrier import Barrier
from model_cache.prediction.call import Call
from model_cache.prediction.effects import Budget, Steps
from model_cache.prediction.generation import UNKNOWN, Generation, Generations
from model_cache.prediction.near import NearCache
from model_cache.protocols import Clock, Store

Found: TypeAlias = tuple[bytes | None, int | None]
"""An entry and its remaining ttl in milliseconds."""

Replies: TypeAlias = Sequence[Found] | Sequence[bytes | None]
"""For each requested key, its entry: with its ttl if there is a near cache."""

Request: TypeAlias = Callable[[Store, float], Replies]


class LookUps:
    """The lookups of one decorator.

    Args:
        near: the near cache; None for none.
        barrier: tracks purges and refreshes in this process.
        timeout: the most seconds that a prediction may spend on the store.
        clock: seconds, as `time.perf_counter`.
    """

    def __init__(
        self,
        near: NearCache | None,
        barrier: Barrier,
        timeout: float,
        clock: Clock = time.perf_counter,
    ) -> None:
        self._near = near
        self._barrier = barrier
        self._timeout = timeout
        self._clock = clock
        self._generations = Generations()

    def begin(self, call: Call, canonical: bytes) -> bool:
        """Check the near cache; return whether it has answered the call."""
        binding, near = call.binding, self._near
        call.generation = generation = self._generations.of(binding.namespace)
        call.seen, call.changes = generation.value, self._barrier.changes
        if near is None:
            return False
        call.near_key = binding.near_prefix + canonical
        if call.mode is not None or self._barrier.distrusted:
            return False
        entry = near.get(call.near_key, generation, call.began)
        return entry is not None and self._read_near(call, entry, canonical)

    def _read_near(self, call: Call, entry: bytes, canonical: bytes) -> bool:
        """Answer with an entry from the near cache; return whether it needs no further check."""
        if call.generation is None or not call.generation.is_recent(call.began):
            call.unchecked = entry
            return False
        key = b"" if entry[0] != MARK else call.binding.key(canonical)
        found, is_fresh = call.binding.read(key, entry)
        if found is None or not is_fresh:
            return False
        call.answer = found
        call.kind, call.near, call.entry_bytes = "hit", True, len(entry)
        return True

    def check(self, call: Call) -> Steps[BaseModel | None]:
        """Check the generation; return the near cache's answer if it may be served."""
        entry, generation = call.unchecked, call.generation
        if entry is None or generation is None or call.key is None or self._near is None:
            return None
        budget = Budget(self._timeout)
        try:
            value = yield from budget.ask(lambda store, left: store.get(generation.key, left))
        except StoreUnavailableError as error:
            generation.missed(error)
            if not generation.is_out_of_reach:
                return None
        else:
            generation.saw(value, self._clock())
            if (
                call.near_key is None
                or self._near.get(call.near_key, generation, call.began) is None
            ):
                return None
        finally:
            call.store_seconds = self._timeout - budget.left
        found, is_fresh = call.binding.read(call.key, entry)
        if found is None or not is_fresh:
            return None
        call.kind, call.near, call.entry_bytes = "hit", True, len(entry)
        return found

    def request(self, call: Call) -> Request | None:
        """Return the request that looks up a call's key; None for a plain `get`."""
        assert call.generation is not None
        assert call.key is not None
        if self._near is None and call.generation.value is not UNKNOWN:
            return None
        return self.request_many([call.key], call.generation)

    def take_in(self, call: Call, replies: Replies) -> bytes | None:
        """Process the reply to `request`; return the entry."""
        (entry, left), *looked = map(_found, replies)
        if left is not None:
            call.seconds_left = left / 1000
        if looked and call.generation is not None:
            call.generation.saw(looked[0][0], self._clock())
            call.seen = call.generation.value
        return entry

    def request_many(self, keys: list[bytes], generation: Generation) -> Request:
        """Return the request that looks up the keys of a batch."""
        is_recent = generation.is_recent(self._clock()) or self._near is None
        if is_recent and generation.value is not UNKNOWN:
            watched: list[bytes] = []
        else:
            watched = [generation.key]
        if self._near is None:
            return lambda store, left: store.get_many([*keys, *watched], left)
        return lambda store, left: store.get_with_ttl([*keys, *watched], left)

    def take_in_many(
        self, calls: Iterable[Call], keys: list[bytes], generation: Generation, replies: Replies
    ) -> dict[bytes, bytes | None]:
        """Process the reply to `request_many`; return the entries by key."""
        if len(replies) > len(keys):
            generation.saw(_found(replies[-1])[0], self._clock())
        found = dict(zip(keys, map(_found, replies), strict=False))
        for call in calls:
            call.seen = generation.value
            left = found.get(call.key or b"", (None, None))[1]
            if left is not None:
                call.seconds_left = left / 1000
        return {key: entry for key, (entry, _) in found.items()}

    def found(self, call: Call, entry: bytes) -> None:
        """Put a hit's entry into the near cache."""
        if self._near is not None:
            self._keep(call, entry, call.seconds_left, call.changes)

    def stored(self, call: Call, entry: bytes, ttl: int | None) -> None:
        """Put an entry that was stored into the near cache as well."""
        if self._near is None:
            return
        if call.mode == "refresh":
            self._barrier.changed()
            call.changes = self._barrier.changes
        seconds = math.inf if ttl is None else ttl / 1000
        self._keep(call, entry, seconds, call.changes)

    def _keep(self, call: Call, entry: bytes, seconds: float, changes: int) -> None:
        """Put an entry into the near cache, unless a purge or a refresh has intervened."""
        near, near_key = self._near, call.near_key
        if near is None or near_key is None or call.seen is UNKNOWN:
            return
        left = call.binding.fresh_for(entry)
        seconds = seconds if left is None else min(seconds, left)
        read = call.binding.reader(call.key or b"", entry)
        near.put(near_key, entry, seconds, call.seen, self._clock(), read)
        if changes != self._barrier.changes:
            near.drop(near_key)

    def drop(self, call: Call) -> None:
        """Remove an entry from the near cache before it is refreshed."""
        if self._near is not None and call.near_key is not None:
            self._near.drop(call.near_key)

    def forget(self) -> None:
        """Empty the near cache."""
        if self._near is not None:
            self._near.clear()

    def generation(self, namespace: Namespace) -> Generation:
        """Return the generation of a namespace."""
        return self._generations.of(namespace)


def _found(reply: Found | bytes | None) -> Found:
    return reply if isinstance(reply, tuple) else (reply, None)

"""Look up entries in the near cache and in the store.

A lookup also reads the generation of the namespace, which shows whether another process has purged
it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from model_cache.binding import Bound
from model_cache.entries.envelope import MARK
from model_cache.errors import StoreUnavailableError, WriteRefusedError
from model_cache.prediction.barrier import Barrier
from model_cache.prediction.call import Call
from model_cache.prediction.effects import Budget, Steps
from model_cache.prediction.generation import UNKNOWN, Generation, Value, mark_of, stamp_of
from model_cache.prediction.generation_steps import create, look
from model_cache.prediction.near import Near, NearCache
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
        reads_replicas: whether the store's `get` may read from a replica, which may lag behind.
        is_one_server: whether nobody reaches the store while it refuses connections.

    Attributes:
        generations: the generations of the store's namespaces.
    """

    def __init__(
        self,
        near: NearCache | None,
        barrier: Barrier,
        timeout: float,
        clock: Clock = time.perf_counter,
        *,
        reads_replicas: bool = False,
        is_one_server: bool = True,
    ) -> None:
        self._near = near
        self._barrier = barrier
        self._timeout = timeout
        self._clock = clock
        self._reads_replicas = reads_replicas
        self._is_one_server = is_one_server
        self.generations = barrier.generations
        if near is not None:
            barrier.has_near_cache(near)

    def begin(self, call: Call, canonical: bytes) -> None:
        """Note the generation of a call's namespace, and its key in the near cache."""
        call.generation = generation = self.generation_of(call.binding)
        call.seen, call.changes = generation.value, self._barrier.changes
        if self._near is not None:
            call.near_key = call.binding.near_prefix + canonical

    def answers_nearby(self, call: Call, canonical: bytes) -> bool:
        """Check the near cache; return whether it has answered the call."""
        near, generation = self._near, call.generation
        if near is None or call.near_key is None or generation is None or call.mode == "refresh":
            return False
        is_recent = generation.is_recent(call.began)  # before a look that may change the value
        found = near.get(call.near_key, generation, call.began)
        if found is None:
            return False
        if not is_recent:
            call.must_check = True
            return False
        self._renew(call, found)
        return self._read_near(call, found, canonical)

    def _renew(self, call: Call, found: Near) -> None:
        """Bring an entry to the generation of the call, if others were forgotten since."""
        near, near_key, generation = self._near, call.near_key, call.generation
        if near is None or near_key is None or generation is None:
            return
        stamp = generation.stamp_of(call.seen)
        if found.stamp != stamp:
            self._barrier.unless_changed(call.changes, lambda: near.renew(near_key, found, stamp))

    def _read_near(self, call: Call, near: Near, canonical: bytes) -> bool:
        """Answer with an entry from the near cache; return whether it is a hit."""
        entry = near.entry
        key = b"" if entry[0] != MARK else call.binding.keys.key_of(canonical)
        found, is_fresh, _ = call.binding.codec.read(key, entry)
        if found is None or not is_fresh:
            return False
        call.answer = found
        call.read_near(near)
        return True

    def check(self, call: Call) -> Steps[Any | None]:
        """Check the generation; return the near cache's answer if it may be served."""
        near, generation = self._near, call.generation
        if not call.must_check or near is None or generation is None:
            return None
        assert call.near_key is not None
        budget = Budget(self._timeout)
        try:
            yield from self.look_again(generation, budget)
        finally:
            call.store_seconds = self._timeout - budget.left
        if not generation.is_recent(call.began):
            return None
        # Not the entry that `begin` found, which another caller may have replaced meanwhile.
        checked = near.get(call.near_key, generation, call.began)
        if checked is None:
            return None
        found, is_fresh, _ = call.binding.codec.read(call.key or b"", checked.entry)
        if found is None or not is_fresh:
            return None
        call.read_near(checked)
        return found

    def look_again(self, generation: Generation, budget: Budget) -> Steps[None]:
        """Read a generation, unless that was done a moment ago."""
        asked = self._clock()
        if generation.is_recent(asked):
            return
        try:
            yield from look(generation, budget, self._clock)
        except StoreUnavailableError as error:
            if self._is_one_server:
                generation.missed(error, asked)

    @property
    def has_near(self) -> bool:
        """Whether there is a near cache."""
        return self._near is not None

    def near_many(self, generation: Generation, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the entries in the near cache that may be served, in the order of the keys."""
        near, now = self._near, self._clock()
        if near is None or not generation.is_recent(now):
            return [None] * len(keys)
        return near.get_many(keys, generation, now)

    def request(self, call: Call) -> Request | None:
        """Return the request that looks up a call's key; None for a plain `get`."""
        assert call.generation is not None
        assert call.key is not None
        # Not the value of the generation, which another caller may have read since.
        knows = type(call.seen) is bytes and call.asked >= call.generation.watched_until
        may_lag = self._reads_replicas and self._barrier.replica_may_lag(call.key)
        if self._near is None and knows and not may_lag:
            return None
        return self.request_many([call.key], call.generation)

    def take_in(self, call: Call, replies: Replies) -> bytes | None:
        """Process the reply to `request`; return the entry."""
        *looked, (entry, left) = _pairs(replies)
        if left is not None:
            call.seconds_left = left / 1000
        if looked and call.generation is not None:
            call.seen = looked[0][0]
            call.generation.saw(looked[0][0], call.asked)
        return entry

    def request_many(self, keys: list[bytes], generation: Generation) -> Request:
        """Return the request that looks up the keys of a batch.

        For the near cache, it reads the generation before the entries. If a purge comes in between,
        the entries count as read before the purge.
        """
        now, near = self._clock(), self._near
        is_recent = now >= generation.watched_until if near is None else generation.is_recent(now)
        watched = [] if is_recent and type(generation.value) is bytes else [generation.key]
        if near is None:
            return lambda store, left: store.get_many([*watched, *keys], left)
        return lambda store, left: store.get_with_ttl([*watched, *keys], left)

    def answered(
        self, keys: Iterable[bytes], generation: Generation, error: StoreUnavailableError
    ) -> Replies:
        """Return the reply to `request_many` if only some nodes of a cluster have answered."""
        answers = error.answers
        watched = [answers[generation.key]] if generation.key in answers else []
        return [*watched, *map(answers.get, keys)]

    def take_in_part(
        self, call: Call, error: StoreUnavailableError
    ) -> tuple[bytes | None, StoreUnavailableError | None]:
        """Process the failure of `request`; return the entry if the key's node has answered."""
        key, generation = call.key, call.generation
        assert key is not None
        assert generation is not None
        if key in error.answers:
            return self.take_in(call, self.answered([key], generation, error)), None
        if self._is_one_server:
            generation.missed(error, call.asked)
        return None, error

    def take_in_many(
        self,
        calls: Iterable[Call],
        keys: list[bytes],
        generation: Generation,
        replies: Replies,
        asked: float,
    ) -> dict[bytes, bytes | None]:
        """Process the reply to `request_many`; return the entries by key.

        Args:
            calls: the calls of the batch.
            keys: the keys that were looked up.
            generation: the generation of the namespace.
            replies: the reply.
            asked: when the request began.
        """
        seen, pairs = self.seen_and_found(keys, generation, replies, asked)
        found = dict(zip(keys, pairs, strict=True))
        for call in calls:
            if seen is not UNKNOWN:
                call.seen = seen
            left = found.get(call.key or b"", (None, None))[1]
            if left is not None:
                call.seconds_left = left / 1000
        return {key: entry for key, (entry, _) in found.items()}

    def seen_and_found(
        self, keys: list[bytes], generation: Generation, replies: Replies, asked: float
    ) -> tuple[Value, list[Found]]:
        """Process the reply to `request_many`.

        Returns:
            The generation's value if it was read, before the entries were; and the entries.
        """
        pairs = _pairs(replies)
        *looked, _ = pairs[: len(pairs) - len(keys) + 1]
        if not looked:
            return UNKNOWN, pairs
        generation.saw(looked[0][0], asked)
        return looked[0][0], pairs[1:]

    def before_refresh(self, calls: Sequence[Call], budget: Budget) -> Steps[None]:
        """Read the generation for calls that refresh entries; what was done before is no purge.

        The value that is known may be from long ago, and the generation may have begun anew since.

        Args:
            calls: the calls, all of one namespace.
            budget: the time that they may spend on it.
        """
        generation = calls[0].generation
        if generation is None or type(generation.value) is not bytes:  # it is read and created
            return
        with suppress(StoreUnavailableError):  # the write notices it
            value = yield from look(generation, budget, self._clock)
            for call in calls:
                call.seen = value

    def create_generation(self, calls: Sequence[Call], budget: Budget) -> Steps[None]:
        """Create the generation of calls that have found none, so that they notice a purge.

        Args:
            calls: the calls, all of one namespace.
            budget: the time that they may spend on it.
        """
        generation, asked = calls[0].generation, self._clock()
        if generation is None or asked < generation.refused_until:
            return
        value = generation.value
        if type(value) is not bytes:  # no other thread has created it meanwhile
            try:
                value = yield from create(generation, budget, self._clock)
            except StoreUnavailableError as error:
                if isinstance(error, WriteRefusedError):
                    generation.refused(asked)
                return
        for call in calls:
            call.seen = value
            call.seconds_left = 0.0  # its entry was read before

    def found(self, call: Call, entry: bytes) -> None:
        """Put a hit's entry into the near cache, if there is one."""
        self._keep(call, entry, call.asked)

    def stored(self, call: Call, entry: bytes, since: float) -> None:
        """Put an entry that was stored into the near cache as well, unless it was refreshed.

        Args:
            call: the call.
            entry: the entry.
            since: when it was sent to Redis.
        """
        if call.mode == "refresh":  # by records, which outdate all that was read before them
            self.refreshed(call)
            return
        self._keep(call, entry, since, since)

    def _keep(self, call: Call, entry: bytes, since: float, written: float | None = None) -> None:
        """Put an entry into the near cache, unless a purge or a refresh has intervened."""
        near, near_key, seen, generation = self._near, call.near_key, call.seen, call.generation
        if near is None or near_key is None or generation is None or type(seen) is not bytes:
            return
        stamp = generation.stamp_of(seen)
        left = call.binding.codec.fresh_for(entry)
        seconds = call.seconds_left if left is None else min(call.seconds_left, left)
        read = call.binding.codec.reader(call.key or b"", entry)
        mark = mark_of(call.key or b"")
        self._barrier.unless_changed(
            call.changes,
            lambda: near.put(near_key, entry, seconds, stamp, since, read, mark, written),
        )

    def keep_many(
        self, read: Iterable[tuple[bytes, Found]], seen: Value, asked: float, changes: int
    ) -> None:
        """Put entries into the near cache, unless a purge or a refresh has intervened.

        Args:
            read: for each its key in the near cache, the entry, and its remaining ttl.
            seen: the generation's value from before they were read.
            asked: when they were asked for.
            changes: the barrier's `changes` from before that.
        """
        near, stamp = self._near, stamp_of(seen)
        if near is None or not stamp:
            return

        def put() -> None:
            for key, (entry, left) in read:
                seconds = math.inf if left is None else left / 1000
                near.put(key, entry or b"", seconds, stamp, asked, _unread)

        self._barrier.unless_changed(changes, put)

    def refreshed(self, call: Call) -> None:
        """Remove an entry from the near caches after a refresh."""
        self._barrier.changed()
        self.drop(call)

    def refresh_failed(self, call: Call) -> None:
        """Ignore the older entry that a refresh could not replace, near and far."""
        assert call.key is not None
        self._barrier.refresh_failed(call.key)
        self.refreshed(call)

    def drop(self, call: Call) -> None:
        """Remove an entry from the near caches before it is refreshed."""
        assert call.key is not None
        self._barrier.replaces(call.key)
        if call.generation is not None:  # other models may share the entry
            prefix, near_key = call.binding.near_prefix, call.near_key
            call.generation.drop_near(None if near_key is None else near_key.removeprefix(prefix))

    def forgotten(self, call: Call) -> None:
        """Remove an entry from the near cache; others learn of it by the generation."""
        assert call.key is not None
        self._barrier.changed()
        self._barrier.replaces(call.key)
        if self._near is not None and call.near_key is not None:
            self._near.drop(call.near_key)

    def forget(self) -> None:
        """Empty the near cache."""
        if self._near is not None:
            self._near.clear()

    def generation_of(self, binding: Bound) -> Generation:
        """Return the generation of a binding that may use the near cache."""
        generation, prefix = self.generations.of(binding.namespace), binding.near_prefix
        if self._near is not None and prefix not in generation.near:
            generation.has_near(prefix, binding, self._near)
        return generation


def _unread() -> Any:
    raise AssertionError("the entries of tables are read in bulk")


def _pairs(replies: Replies) -> list[Found]:
    return [reply if isinstance(reply, tuple) else (reply, None) for reply in replies]

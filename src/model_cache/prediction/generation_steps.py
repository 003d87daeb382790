"""The steps that read and change a generation in the store.

A refresh or a forget appends a record of its entry before the entry changes: what another process
began to compute before it is not stored. And one afterwards: what another process has read in
between is not served from its near cache.
"""

from __future__ import annotations

from collections.abc import Sequence

from model_cache.errors import WriteRefusedError
from model_cache.prediction.effects import Budget, Steps
from model_cache.prediction.generation import LONGEST, Generation, Value, new_value, records_of
from model_cache.protocols import Clock


class Records:
    """The records of a refresh, which it appends to the generation again and again.

    They are made once, so that what a refresh of many entries writes later is not outdated by the
    records of what it has written before.

    Args:
        keys: the keys of its entries.

    Attributes:
        raw: the records as they are in the generation.
        may_begin_anew: whether the generation may begin anew after the next change. What the
            refresh writes later would count as begun before a purge.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self.raw = records_of(keys)
        self.may_begin_anew = True


def look(generation: Generation, budget: Budget, clock: Clock) -> Steps[Value]:
    """Read a generation.

    Raises:
        StoreUnavailableError: the store failed.
    """
    asked = clock()
    # Not by `get`, which may ask a replica that lags behind.
    (value,) = yield from budget.ask(lambda store, left: store.get_many([generation.key], left))
    generation.saw(value, asked)
    return value


def create(generation: Generation, budget: Budget, clock: Clock) -> Steps[Value]:
    """Create a generation unless it exists; return its value.

    Raises:
        StoreUnavailableError: the store failed.
    """
    asked, key, value = clock(), generation.key, new_value()
    if not (yield from budget.ask(lambda store, left: store.set_if_absent(key, value, None, left))):
        found = yield from look(generation, budget, clock)
        if found is not None:
            return found
        # It is of another type, which would stay forever, or was evicted since.
        yield from budget.ask(lambda store, left: store.set(key, value, None, left))
    generation.saw(value, asked)
    return value


def record(
    records: bytes,
    generation: Generation,
    budget: Budget,
    clock: Clock,
    *,
    may_begin_anew: bool = True,
) -> Steps[None]:
    """Append records of entries.

    Args:
        records: the records.
        generation: the generation of their namespace.
        budget: the time for it.
        clock: seconds, as the barrier's.
        may_begin_anew: whether the generation begins anew if it is too long.

    Raises:
        StoreUnavailableError: the store failed.
    """
    try:
        length = yield from budget.ask(
            lambda store, left: store.append(generation.key, records, left)
        )
    except WriteRefusedError as error:
        if error.kind != "WRONGTYPE":
            raise
        length, may_begin_anew = LONGEST + 1, True  # somebody else's key
    generation.appended(clock())
    if length > LONGEST and may_begin_anew:
        value = new_value()
        yield from budget.ask(lambda store, left: store.set(generation.key, value, None, left))
        generation.changed(value, clock())

"""The distinct rows of one call: where they are, what was found of them, and the whole result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from model_cache.entries.row_entries import RowResult
from model_cache.errors import StoreUnavailableError
from model_cache.interruptions import reraise_interruption
from model_cache.keys.tables import Table
from model_cache.lazy import lazy
from model_cache.observing.scope import Mode, requested_mode
from model_cache.prediction.generation import Value
from model_cache.prediction.table_call import MixedRowsError, RowsBound, TableCall

ABSENT, STORE, NEAR = range(3)


class LookedUp(NamedTuple):
    """How an entry was read from the store.

    Attributes:
        asked: when it was asked for.
        seen: the generation's value from before that.
        changes: the barrier's `changes` from before that.
        seconds_left: how many seconds it may still be a hit.
    """

    asked: float
    seen: Value
    changes: int
    seconds_left: float


class Rows:
    """The distinct rows of one call while they are looked up and computed.

    Attributes:
        call: the call.
        binding: the binding of the function.
        mode: the caller's mode, such as bypass.
        began: when the call began.
        asked: when the last lookup began.
        places: for each row of the table, the place of its values among the distinct ones.
        distinct: the distinct rows.
        firsts: for each of these, where it is in the table.
        found: for each of these, its payload, once there is one.
        sources: for each of these, where its payload came from.
        odd: by place, the entries that need a closer look.
        looked_up: by place, how those of them were read that are not from the near cache.
        form: the form of the payloads that were found.
        entry_bytes: the size of their entries.
        store_seconds: the time of the lookups.
        model_seconds: the time of the function.
        failure: why the store failed.
        lost: the places of the rows for which it failed.
    """

    def __init__(self, call: TableCall, table: Table, binding: RowsBound, began: float) -> None:
        self.call = call
        self.binding = binding
        self.mode: Mode | None = requested_mode()
        self.began = self.asked = began
        rows = table.rows()
        # Without a line of Python for each row.
        self.distinct = list(dict.fromkeys(rows))
        index = dict(zip(self.distinct, range(len(self.distinct)), strict=True))
        self.places = list(map(index.__getitem__, rows))
        first = dict(zip(reversed(rows), range(len(rows) - 1, -1, -1), strict=True))
        self.firsts = list(map(first.__getitem__, self.distinct))
        self.store_seconds = self.model_seconds = 0.0
        self.failure: StoreUnavailableError | None = None
        self.lost: set[int] = set()
        self.forget()

    def forget(self) -> None:
        """Forget what was found, so that all rows are computed."""
        self.found: list[bytes | None] = [None] * len(self.distinct)
        self.sources = bytearray(len(self.distinct))
        self.odd: dict[int, bytes] = {}
        self.looked_up: dict[int, LookedUp] = {}
        self.form: bytes | None = None
        self.entry_bytes = 0

    @lazy
    def near_keys(self) -> list[bytes]:
        """The keys of the distinct rows in the near cache."""
        prefix = self.binding.near_prefix + self.call.head
        return [prefix + row for row in self.distinct]

    def canonical(self, place: int) -> bytes:
        """Return the canonical bytes of a distinct row."""
        return self.call.head + self.distinct[place]

    def keys(self, places: Iterable[int]) -> list[bytes]:
        """Return the keys of distinct rows."""
        return self.binding.keys.keys_of(self.call.head, [self.distinct[place] for place in places])

    def entry(self, place: int, key: bytes) -> bytes:
        """Return the entry of a distinct row that was found."""
        payload = self.found[place]
        assert self.form is not None
        assert payload is not None
        return self.binding.codec.encode(key, RowResult(self.form, payload))

    @property
    def is_unknown(self) -> bool:
        """Whether nothing was found of any row."""
        return not self.odd and not any(self.sources)

    @property
    def has_equal_rows(self) -> bool:
        """Whether some rows of the table are equal."""
        return len(self.distinct) < len(self.places)

    def missing(self) -> list[int]:
        """Return the places of the distinct rows that are not found."""
        return [place for place, payload in enumerate(self.found) if payload is None]

    def take_in(
        self, places: Sequence[int], entries: Sequence[bytes | None], source: int
    ) -> list[int]:
        """Take the payloads of plain entries, and set others aside.

        Args:
            places: the places of distinct rows.
            entries: for each its entry, if there is one.
            source: where they come from.

        Returns:
            The numbers, in `entries`, of those whose payloads were taken.
        """
        self.form, payloads = self.binding.payloads(entries, self.form)
        found, sources, size = self.found, self.sources, 0
        for place, entry, payload in zip(places, entries, payloads, strict=True):
            if payload is not None and entry is not None:
                found[place], sources[place] = payload, source
                size += len(entry)
            elif entry is not None:
                self.odd[place] = entry
        self.entry_bytes += size
        return [number for number, payload in enumerate(payloads) if payload is not None]

    def joined(self, computed: Mapping[int, RowResult]) -> Any:
        """Return the result for the whole table from found and computed rows.

        Raises:
            MixedRowsError: they can't be put together.
        """
        forms = {result.form for result in computed.values()}
        if self.form is not None and any(self.sources):
            forms.add(self.form)
        whole = self.found.copy()
        for place, result in computed.items():
            whole[place] = result.payload
        payloads = [whole[place] for place in self.places]
        if len(forms) != 1 or None in payloads:
            raise MixedRowsError
        try:
            return self.binding.joined(self.call, forms.pop(), cast(list[bytes], payloads))
        except Exception as error:
            reraise_interruption(error)
            raise MixedRowsError from error

"""The binding of a function of many rows: a key and an entry for each row."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from model_cache.binding import new_near_prefix
from model_cache.entries.codec import Codec, Read
from model_cache.entries.differences import largest_difference
from model_cache.entries.row_entries import ROWS, RowResult, common_prefix, form_of
from model_cache.entries.rows import RowsRefusedError, join, split
from model_cache.entries.values import Classes
from model_cache.keys.key import KeyMaker, Namespace, tag_key
from model_cache.keys.tables import Table, table_of
from model_cache.options.config import Config
from model_cache.prediction.table_call import RowsNotApartError, TableCall, TableRow


class RowsBinding:
    """A function of many rows under one name and version; implements `RowsBound`.

    Args:
        name: its name in keys.
        version: its version.
        config: the validated options.
        revision: distinguishes functions of the same version.
        identity: canonical bytes of what else its results depend on.
        classes: the classes that its results may contain.
        is_async: whether it is a coroutine function.
        outputs: whether it returns a list with an array for each of several outputs.
        is_current: returns whether the binding still describes the function.
    """

    rounds = False
    output_schema = RowResult
    many_and_one = ("a call with many rows", "calls with one row")

    def __init__(
        self,
        *,
        name: str,
        version: str,
        config: Config,
        revision: str,
        identity: bytes,
        classes: Classes,
        is_async: bool = False,
        outputs: bool = False,
        is_current: Callable[[], bool] = lambda: True,
    ) -> None:
        self.qualified_name = name
        self.version = version
        self.namespace = Namespace(config.prefix, name, version)
        self.near_prefix = new_near_prefix()
        self.known_inputs: Mapping[type, bool] = {}
        self.input_encoders: Mapping[type, Callable[[Any], bytes]] = {}
        self._classes = classes
        self._is_async = is_async
        self._is_current = is_current
        self._outputs = outputs
        self._keys = KeyMaker(
            self.namespace,
            revision=revision,
            schema=b"rows",
            decorators=identity,
            secret=config.key_secret,
        )
        self._codec = Codec(
            RowResult,
            serder=ROWS,
            compressor=config.compressor,
            max_entry_bytes=config.max_entry_bytes,
            integrity=config.integrity,
            tag_key=tag_key(config.key_secret),
            ttl=config.longest_ttl,
        )
        self._reads_plain = not config.integrity

    def is_current(self) -> bool:
        """Return whether it still describes the function: an estimator may have been refitted."""
        return self._is_current()

    def rounded(self, data: Any) -> Any:
        """Return the rows as they are."""
        return data

    def canonical(self, data: TableRow) -> bytes:
        """Return the canonical bytes of a row as it is now.

        Raises:
            NotCacheableError: it has none any more.
        """
        _, part = _part([data])
        return data.call.head + table_of(part.whole).rows()[0]

    def key(self, canonical: bytes) -> bytes:
        """Return the key of a row, from its canonical bytes."""
        return self._keys.key_of(canonical)

    def read(self, key: bytes, entry: bytes) -> Read:
        """Return an entry's result, if it can be decoded, and whether it is fresh."""
        return self._codec.read(key, entry)

    def reader(self, key: bytes, entry: bytes) -> Callable[[], Any]:
        """Return a function that decodes an entry."""
        return self._codec.reader(key, entry)

    def fresh_for(self, entry: bytes) -> float | None:
        """Return how many seconds a fresh entry stays fresh; None for ever."""
        return self._codec.fresh_for(entry)

    def encode(self, key: bytes, prediction: RowResult, fresh_until: int | None = None) -> bytes:
        """Return a row's result as an entry.

        Raises:
            EntryRefusedError: it is too large.
        """
        return self._codec.encode(key, prediction, fresh_until)

    def payloads(
        self, entries: Sequence[bytes | None], form: bytes | None
    ) -> tuple[bytes | None, list[bytes | None]]:
        """Return the form of plain entries, and the payload of each that has this form."""
        prefix = common_prefix(entries, form) if self._reads_plain else None
        if prefix is None:
            return form, [None] * len(entries)
        size = len(prefix)
        return form_of(prefix), [
            entry[size:] if entry is not None and entry.startswith(prefix) else None
            for entry in entries
        ]

    def joined(self, call: TableCall, form: bytes, payloads: Sequence[bytes]) -> Any:
        """Return the result for all rows of a call.

        Raises:
            Exception: a payload is damaged.
        """
        assert call.table is not None
        return join(form, payloads, call.table, classes=self._classes)

    def predict(self, data: TableCall | TableRow) -> Any:
        """Call the function for a whole table, or for one row of it."""
        if isinstance(data, TableCall):
            return data.compute(data.whole)
        return self.predict_many([data])[0]

    def predict_many(self, inputs: list[TableRow]) -> list[RowResult]:
        """Call the function for some rows of a table.

        Raises:
            RowsNotApartError: its result can't be taken apart into rows.
        """
        call, part = _part(inputs)
        return self._apart(call, part, call.compute(part.whole))

    @property
    def apredict(self) -> Callable[[Any], Awaitable[Any]] | None:
        """Calls the function, if it is a coroutine function."""
        return self._apredict if self._is_async else None

    async def _apredict(self, data: TableCall | TableRow) -> Any:
        if isinstance(data, TableCall):
            return await data.compute(data.whole)
        return (await self._apredict_many([data]))[0]

    @property
    def apredict_many(self) -> Callable[[list[Any]], Awaitable[list[Any]]] | None:
        """Calls the function for some rows, if it is a coroutine function."""
        return self._apredict_many if self._is_async else None

    async def _apredict_many(self, inputs: list[TableRow]) -> list[RowResult]:
        call, part = _part(inputs)
        return self._apart(call, part, await call.compute(part.whole))

    def _apart(self, call: TableCall, part: Table, result: Any) -> list[RowResult]:
        try:
            form, payloads = split(result, part, outputs=self._outputs, classes=self._classes)
        except RowsRefusedError as error:
            is_whole = call.table is not None and part.rows() == call.table.rows()
            raise RowsNotApartError(str(error), result, is_whole=is_whole) from None
        return [RowResult(form, payload) for payload in payloads]

    def difference(self, one: RowResult, other: RowResult) -> float:
        """Return the largest difference between the numbers of two rows' results."""
        return largest_difference(*(self._values(result) for result in (one, other)))

    def _values(self, result: RowResult) -> Any:
        return join(result.form, [result.payload], _ONE_ROW, classes=self._classes)

    def shown(self, data: TableRow, prediction: RowResult) -> tuple[Any, Any]:
        """Return a row and its result, as a table of one row and the result for it."""
        _, row = _part([data])
        whole = join(prediction.form, [prediction.payload], row, classes=self._classes)
        return row.whole, whole

    def answers_many_by(self, methods: Collection[str]) -> bool:  # noqa: ARG002 - as Bound's
        """Return True."""
        return True


def _part(inputs: Sequence[TableRow]) -> tuple[TableCall, Table]:
    call = inputs[0].call
    assert call.table is not None
    return call, call.table.part([row.place for row in inputs])


_ONE_ROW = Table(whole=[None], kind=b"", _rows=[b""], _select=lambda whole, _: whole)

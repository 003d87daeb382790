"""The binding of a function of many rows: a key and an entry for each row."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Literal, cast

from model_cache.binding.recorded import rows_of
from model_cache.entries.row_entries import ROWS, RowResult, common_prefix, form_of
from model_cache.entries.rows import LengthError, RowsRefusedError, join, split
from model_cache.entries.values import Classes
from model_cache.keys.tables import Table, table_of
from model_cache.options.config import Config
from model_cache.prediction.table_call import (
    RowsNotApartError,
    TableCall,
    TableRow,
    length_of,
)
from model_cache.wrappers.binding import WrappedBinding
from model_cache.wrappers.identity import Identity


class RowsBinding(WrappedBinding):
    """A function of many rows under one name and version; implements `RowsBound`.

    Args:
        identity: what tells it from all else that is cached.
        config: the validated options.
        classes: the classes that its results may contain.
        is_async: whether it is a coroutine function.
        returns: an item for each row; an array for each of several outputs ("outputs"); or
            "either", as its result shows.
        is_current: returns whether the binding still describes the function.
    """

    output_schema = RowResult
    many_and_one = ("a call with many rows", "calls with one row")

    def __init__(
        self,
        identity: Identity,
        config: Config,
        classes: Classes,
        *,
        is_async: bool = False,
        returns: Literal["rows", "outputs", "either"] = "rows",
        is_current: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__(identity, config, b"rows", ROWS)
        self.known_inputs: Mapping[type, bool] = {}
        self.input_encoders: Mapping[type, Callable[[Any], bytes]] = {}
        self._classes = classes
        self._is_async = is_async
        self._returns = returns
        self._is_current = is_current
        self._reads_plain = not (config.integrity or config.encryption_key)

    def is_current(self) -> bool:
        """Return whether it still describes the function: an estimator may have been refitted."""
        return self._is_current()

    def recorded(self, data: TableRow) -> Any:
        """Return a row as values for the log of requests."""
        return rows_of(_part([data])[1].whole)()[0]

    def canonical(self, data: TableRow) -> bytes:
        """Return the canonical bytes of a row as it is now.

        Raises:
            NotCacheableError: it has none any more.
        """
        _, part = _part([data])
        return data.call.head + table_of(part.whole).rows()[0]

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
            outputs = self._returns == "outputs"
            if self._returns == "either":
                outputs = _has_outputs(result, len(part))
            form, payloads = split(result, part, outputs=outputs, classes=self._classes)
        except (LengthError, RowsRefusedError) as error:
            if isinstance(error, LengthError) and self._returns == "rows":
                raise  # the function breaks its promise; an estimator has made none
            is_whole = call.table is not None and part.rows() == call.table.rows()
            raise RowsNotApartError(str(error), result, is_whole=is_whole) from None
        return [RowResult(form, payload) for payload in payloads]

    def value_of(self, data: TableRow, prediction: RowResult) -> Any:
        """Return what the function returns for a table of this row."""
        return self.shown(data, prediction)[1]

    def shown(self, data: TableRow, prediction: RowResult) -> tuple[Any, Any]:
        """Return a row and its result, as a table of one row and the result for it."""
        _, row = _part([data])
        whole = join(prediction.form, [prediction.payload], row, classes=self._classes)
        return row.whole, whole

    def answers_many_by(self, methods: Collection[str]) -> bool:  # noqa: ARG002 - as Bound's
        """Return True."""
        return True


def _has_outputs(result: object, count: int) -> bool:
    """Return whether a result has an array for each output instead of an item for each row.

    scikit-learn returns several arrays for `return_std=True`, and from `predict_proba` of several
    targets.

    Raises:
        RowsRefusedError: it may have either.
    """
    if type(result) not in (list, tuple):
        return False
    items = cast(Sequence[Any], result)
    if not items or any(length_of(item) != count for item in items):
        return False
    if len(items) == count:
        raise RowsRefusedError("there may be an array for each row, or one for each output")
    return True


def _part(inputs: Sequence[TableRow]) -> tuple[TableCall, Table]:
    call = inputs[0].call
    assert call.table is not None
    return call, call.table.part([row.place for row in inputs])

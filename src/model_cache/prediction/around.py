"""What a predictor that stands around another one leaves to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model_cache.prediction.asynchronous import AsyncPredictor
from model_cache.prediction.sync import Predictor
from model_cache.prediction.table_call import TableCall


class Around:
    """Leaves everything but `predict` to another predictor.

    Args:
        inner: the other predictor.
    """

    def __init__(self, inner: Predictor) -> None:
        self._inner = inner

    def predict_many(self, inputs: Sequence[Any], *, return_exceptions: bool = False) -> list[Any]:
        return self._inner.predict_many(inputs, return_exceptions=return_exceptions)

    def predict_table(self, call: TableCall) -> Any:
        return self._inner.predict_table(call)

    def lookup(self, data: Any) -> Any:
        return self._inner.lookup(data)

    def store(self, data: Any, prediction: Any) -> bool:
        return self._inner.store(data, prediction)

    def forget(self, inputs: Sequence[Any]) -> int:
        return self._inner.forget(inputs)


class AsyncAround:
    """Does the same in event loops.

    Args:
        inner: the other predictor.
    """

    def __init__(self, inner: AsyncPredictor) -> None:
        self._inner = inner

    async def predict_many(
        self, inputs: Sequence[Any], *, return_exceptions: bool = False
    ) -> list[Any]:
        return await self._inner.predict_many(inputs, return_exceptions=return_exceptions)

    async def predict_table(self, call: TableCall) -> Any:
        return await self._inner.predict_table(call)

    async def lookup(self, data: Any) -> Any:
        return await self._inner.lookup(data)

    async def store(self, data: Any, prediction: Any) -> bool:
        return await self._inner.store(data, prediction)

    async def forget(self, inputs: Sequence[Any]) -> int:
        return await self._inner.forget(inputs)

    async def drain(self) -> None:
        await self._inner.drain()

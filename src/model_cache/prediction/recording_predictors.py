"""Predictors that record each request and pass it on to another predictor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model_cache.prediction.asynchronous import AsyncPredictor
from model_cache.prediction.recording import Recorder
from model_cache.prediction.sync import Predictor
from model_cache.prediction.table_call import TableCall


class RecordingPredictor:
    """Records requests of synchronous callers.

    Args:
        inner: the predictor that answers them.
        recorder: records them, before a model can change its input.
    """

    def __init__(self, inner: Predictor, recorder: Recorder) -> None:
        self._inner = inner
        self._recorder = recorder

    def predict(self, data: Any) -> Any:
        self._recorder.saw(data)
        return self._inner.predict(data)

    def predict_many(self, inputs: Sequence[Any], *, return_exceptions: bool = False) -> list[Any]:
        for data in inputs:
            self._recorder.saw(data)
        return self._inner.predict_many(inputs, return_exceptions=return_exceptions)

    def predict_table(self, call: TableCall) -> Any:
        self._recorder.saw_table(call)
        return self._inner.predict_table(call)

    def lookup(self, data: Any) -> Any:
        return self._inner.lookup(data)

    def store(self, data: Any, prediction: Any) -> bool:
        return self._inner.store(data, prediction)

    def forget(self, data: Any) -> bool:
        return self._inner.forget(data)


class AsyncRecordingPredictor:
    """Records requests in event loops.

    Args:
        inner: the predictor that answers them.
        recorder: records them, before a model can change its input.
    """

    def __init__(self, inner: AsyncPredictor, recorder: Recorder) -> None:
        self._inner = inner
        self._recorder = recorder

    async def predict(self, data: Any) -> Any:
        self._recorder.saw(data)
        return await self._inner.predict(data)

    async def predict_many(
        self, inputs: Sequence[Any], *, return_exceptions: bool = False
    ) -> list[Any]:
        for data in inputs:
            self._recorder.saw(data)
        return await self._inner.predict_many(inputs, return_exceptions=return_exceptions)

    async def predict_table(self, call: TableCall) -> Any:
        self._recorder.saw_table(call)
        return await self._inner.predict_table(call)

    async def lookup(self, data: Any) -> Any:
        return await self._inner.lookup(data)

    async def store(self, data: Any, prediction: Any) -> bool:
        return await self._inner.store(data, prediction)

    async def forget(self, data: Any) -> bool:
        return await self._inner.forget(data)

    async def drain(self) -> None:
        await self._inner.drain()

"""Predictors that record each request and pass it on to another predictor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model_cache.prediction.around import Around, AsyncAround
from model_cache.prediction.asynchronous import AsyncPredictor
from model_cache.prediction.recording import Recorder
from model_cache.prediction.sync import Predictor
from model_cache.prediction.table_call import TableCall


class RecordingPredictor(Around):
    """Records requests of synchronous callers.

    Args:
        inner: the predictor that answers them.
        recorder: records them, before a model can change its input.
    """

    def __init__(self, inner: Predictor, recorder: Recorder) -> None:
        super().__init__(inner)
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


class AsyncRecordingPredictor(AsyncAround):
    """Records requests in event loops.

    Args:
        inner: the predictor that answers them.
        recorder: records them, before a model can change its input.
    """

    def __init__(self, inner: AsyncPredictor, recorder: Recorder) -> None:
        super().__init__(inner)
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

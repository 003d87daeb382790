"""The binding of a function: keys from its arguments, entries from what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from model_cache.binding.recorded import recorded
from model_cache.entries.values import Classes, PythonValues, Result
from model_cache.errors import NotCacheableError
from model_cache.keys.canonical import INPUTS
from model_cache.options.config import Config
from model_cache.wrappers.binding import WrappedBinding
from model_cache.wrappers.identity import Identity
from model_cache.wrappers.signatures import (
    Arguments,
    Omitted,
    annotations_of,
    arguments_of,
    keyed_parameters,
    signature_of,
    with_name,
)


class FunctionBinding(WrappedBinding):
    """A function under one name and version; implements `Bound`.

    Args:
        function: the function.
        identity: what tells it from all else that is cached.
        config: the validated options.
        ignored: the parameters that are not part of the key.
    """

    output_schema = Result
    many_and_one = ("a batch", "a call")

    def __init__(
        self,
        function: Callable[..., Any],
        identity: Identity,
        config: Config,
        ignored: Sequence[str],
    ) -> None:
        classes = Classes(annotations_of(function).get("return"))
        super().__init__(identity, config, b"function", PythonValues(classes))
        self._function = function
        self._names = keyed_parameters(function, ignored)
        self._is_async = inspect.iscoroutinefunction(function)
        encode = INPUTS.encoders(None)[tuple]
        self.input_encoders: Mapping[type, Callable[[Any], bytes]] = {
            Arguments: lambda data: encode(data.key)
        }
        self.known_inputs: Mapping[type, bool] = {Arguments: True}

    def is_current(self) -> bool:
        """Return True: a function does not change."""
        return True

    def recorded(self, data: Arguments) -> dict[str, Any]:
        """Return the arguments by name, as values for the log of requests."""
        parameters = signature_of(self._function).parameters
        return {
            name: recorded(parameters[name].default if value is Omitted.DEFAULT else value)
            for name, value in zip(self._names, data.key, strict=True)
        }

    def canonical(self, data: Arguments) -> bytes:
        """Return the canonical bytes of the arguments of a call.

        Raises:
            NotCacheableError: an argument has no canonical form; the message says why.
        """
        try:
            return INPUTS.encode(data.key)
        except NotCacheableError as error:
            raise with_name(error, self._names) from error.__cause__

    def predict(self, data: Arguments) -> Result:
        """Call the function."""
        return Result(self._function(*data.args, **data.kwargs))

    def predict_many(self, inputs: list[Arguments]) -> list[Result]:
        """Call the function for each."""
        return [self.predict(data) for data in inputs]

    @property
    def apredict(self) -> Callable[[Arguments], Awaitable[Result]] | None:
        """Calls the function, if it is a coroutine function."""
        return self._apredict if self._is_async else None

    async def _apredict(self, data: Arguments) -> Result:
        return Result(await self._function(*data.args, **data.kwargs))

    @property
    def apredict_many(self) -> None:
        """A function takes the arguments of one call."""
        return None

    def value_of(self, data: Arguments, prediction: Result) -> Any:  # noqa: ARG002 - as Bound's
        """Return what the function returned."""
        return prediction.value

    def shown(self, data: Arguments, prediction: Result) -> tuple[dict[str, Any], Any]:
        """Return the arguments by name, with defaults, and what the function returned."""
        return arguments_of(self._function, data.args, data.kwargs), prediction.value

    def answers_many_by(self, methods: Collection[str]) -> bool:  # noqa: ARG002 - as Bound's
        """Return False: a function takes the arguments of one call."""
        return False

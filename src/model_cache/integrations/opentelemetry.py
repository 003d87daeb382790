"""OpenTelemetry tracing: a span for each prediction, created when the prediction is done.

It needs only the OpenTelemetry API; the application's SDK samples and exports the spans.
"""

from __future__ import annotations

import sys
import time
from typing import Any

try:
    from opentelemetry import trace
except ImportError as error:
    raise ImportError(
        'opentelemetry is missing; install it with: pip install "ml-model-cache[opentelemetry]"'
    ) from error

from model_cache.observing.events import Event
from model_cache.observing.outcome import Outcome

SPAN = "model_cache.predict"


class OpenTelemetryHook:
    """Creates a span for each prediction, as a child of the current span.

    Pass it to the decorator by name, `hooks=["opentelemetry"]`, or as an object. Spans that the
    model creates are siblings of it, since it is created after the fact.

    Args:
        tracer_provider: the provider of the tracer; by default the global one.
    """

    def __init__(self, tracer_provider: trace.TracerProvider | None = None) -> None:
        self._tracer_provider = tracer_provider
        self._tracer = trace.get_tracer("model_cache", tracer_provider=tracer_provider)

    def __call__(self, event: Event) -> None:
        """Create a span for an outcome; ignore other events."""
        if not isinstance(event, Outcome):
            return
        end = time.time_ns()
        # INTERNAL: a call inside the process. The conventions for databases apply only to spans
        # of the Redis commands themselves.
        span = self._tracer.start_span(SPAN, start_time=end - round(1e9 * event.seconds))
        if not span.is_recording():
            return
        span.set_attributes(_attributes(event))
        if event.kind == "error":
            raised = sys.exception()  # the model's exception, which is being handled
            if raised is not None:
                span.set_attribute("error.type", type(raised).__qualname__)
            span.set_status(trace.StatusCode.ERROR)
        span.end(end)

    def __deepcopy__(self, memo: dict[int, Any]) -> OpenTelemetryHook:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        provider = self._tracer_provider
        return OpenTelemetryHook, () if provider is None else (provider,)


def _attributes(outcome: Outcome) -> dict[str, str | float | bool]:
    """Return the fields of an outcome that are set."""
    attributes: dict[str, str | float | bool] = {
        "model_cache.model": outcome.model,
        "model_cache.version": outcome.version,
        "model_cache.outcome": outcome.kind,
    }
    for name in (
        *("store_seconds", "write_seconds", "model_seconds"),
        *("entry_bytes", "fate", "store_error", "age", "ttl", "undecodable", "refreshed", "near"),
    ):
        if value := getattr(outcome, name):
            attributes[f"model_cache.{name}"] = value
    if outcome.rows != 1:
        attributes["model_cache.rows"] = outcome.rows
    return attributes

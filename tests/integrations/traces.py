"""Collected spans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from model_cache import RedisCachingDecorator
from model_cache.integrations.opentelemetry import OpenTelemetryHook
from tests.models import FunctionModel


class Traces:
    """A provider of tracers, and the spans that came out of it."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.hook = OpenTelemetryHook(self.provider)

    def made(self, url: str, model: FunctionModel, **options: Any) -> RedisCachingDecorator:
        return RedisCachingDecorator(url=url, hooks=[self.hook], **options).set_model(model)

    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    assert span.attributes is not None
    return span.attributes

"""The OpenTelemetry hook creates a span for each prediction, in its place and time."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import time

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from model_cache import Outcome
from model_cache.integrations.opentelemetry import OpenTelemetryHook
from tests.integrations.traces import Traces, attributes
from tests.models import FunctionModel, person
from tests.observing.failing import failing
from tests.observing.heard import outcome
from tests.servers import Server, free_port


@pytest.fixture
def traces() -> Traces:
    return Traces()


def test_a_span_for_each_prediction_under_the_current_one(server: Server, traces: Traces) -> None:
    model = traces.made(server.url, FunctionModel(), timeout=1.0)
    outcomes = []
    tracer = traces.provider.get_tracer("service")
    with tracer.start_as_current_span("request"):
        for _ in range(2):
            model.predict(person())
            outcomes.append(outcome())
    miss, hit, request = traces.spans()
    assert request.name == "request"
    assert request.start_time is not None
    assert request.end_time is not None
    for span, made in zip((miss, hit), outcomes, strict=True):
        assert span.name == "model_cache.predict"
        assert span.kind is SpanKind.INTERNAL
        assert span.status.status_code is StatusCode.UNSET
        assert span.parent == request.get_span_context()
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.end_time - span.start_time == round(1e9 * made.seconds)
        assert request.start_time <= span.start_time < span.end_time <= request.end_time
    assert miss.end_time is not None
    assert hit.start_time is not None
    assert attributes(miss) == {
        "model_cache.model": "test_model",
        "model_cache.version": "1.0.0",
        "model_cache.outcome": "miss",
        "model_cache.store_seconds": outcomes[0].store_seconds,
        "model_cache.write_seconds": outcomes[0].write_seconds,
        "model_cache.model_seconds": outcomes[0].model_seconds,
        "model_cache.entry_bytes": outcomes[0].entry_bytes,
        "model_cache.fate": "stored",
    }
    assert attributes(hit)["model_cache.outcome"] == "hit"
    assert "model_cache.fate" not in attributes(hit)


def test_the_span_of_a_model_that_raises_is_an_error(server: Server, traces: Traces) -> None:
    model = traces.made(server.url, FunctionModel(function=failing))
    with pytest.raises(RuntimeError):
        model.predict(person())
    [span] = traces.spans()
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["model_cache.outcome"] == "error"
    assert attributes(span)["error.type"] == "RuntimeError"


def test_the_span_of_a_store_that_failed_says_so(traces: Traces) -> None:
    model = traces.made(f"redis://127.0.0.1:{free_port()}", FunctionModel())
    try:
        raise KeyError  # no exception of the model: the caller is busy with another
    except KeyError:
        model.predict(person())
    [span] = traces.spans()
    assert span.status.status_code is StatusCode.UNSET
    assert attributes(span)["model_cache.store_error"] == "connection"
    assert "error.type" not in attributes(span)


def test_rare_fields_are_attributes_only_if_set(traces: Traces) -> None:
    traces.hook(Outcome("miss", "m", "1", 0.1, undecodable=True, refreshed=True))
    [span] = traces.spans()
    assert attributes(span)["model_cache.undecodable"] is True
    assert attributes(span)["model_cache.refreshed"] is True


GLOBAL = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from model_cache import RedisCachingDecorator
from tests.models import FunctionModel, person

model = RedisCachingDecorator(url={url!r}, timeout=5.0, hooks=["opentelemetry"])
model.set_model(FunctionModel())
model.predict(person())  # nobody traces yet
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
model.predict(person())
for span in exporter.get_finished_spans():
    print(span.attributes["model_cache.outcome"])
"""


def test_an_sdk_that_is_set_up_later_is_used(server: Server) -> None:
    code = GLOBAL.format(url=server.url)
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert finished.stdout == "hit\n"


def test_the_hook_survives_copies(server: Server, traces: Traces) -> None:
    copy.deepcopy(traces.made(server.url, FunctionModel())).predict(person())
    assert len(traces.spans()) == 1
    assert isinstance(pickle.loads(pickle.dumps(OpenTelemetryHook())), OpenTelemetryHook)


def test_a_span_that_is_not_sampled_is_left_alone(server: Server) -> None:
    traces = Traces(sampler=ALWAYS_OFF)
    traces.made(server.url, FunctionModel()).predict(person())
    assert traces.spans() == []


def test_times_are_those_of_the_clock(traces: Traces) -> None:
    before = time.time_ns()
    traces.hook(Outcome("hit", "m", "1", 0.0))
    [span] = traces.spans()
    assert span.end_time is not None
    assert before <= span.end_time <= time.time_ns()

"""The Prometheus hook counts the outcomes of predictions, in one process."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis
from prometheus_client import CollectorRegistry, generate_latest

from model_cache import ConfigurationError, Outcome, RedisCachingDecorator, bypass, refresh
from model_cache.integrations import prometheus_metrics
from model_cache.integrations.prometheus import PrometheusHook, exposition, forget_worker
from model_cache.observing.outcome import Fate
from tests.integrations.scraping import counts
from tests.models import FunctionModel, person
from tests.observing.failing import NO_KEY, failing
from tests.servers import Server
from tests.signals import signals_every
from tests.stored import full
from tests.waiting import poll


class Metrics:
    """A registry with the hook in it, and what it shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.hook = PrometheusHook(self.registry)

    def __call__(self, name: str, **labels: str) -> float | None:
        labels = {"model": "test_model", "version": "1.0.0", **labels}
        return self.registry.get_sample_value(f"model_cache_{name}", labels)

    def made(self, server: Server, model: FunctionModel, **options: Any) -> RedisCachingDecorator:
        options = {"url": server.url, "timeout": 1.0, **options}
        return RedisCachingDecorator(hooks=[self.hook], **options).set_model(model)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def test_a_miss_then_two_hits(server: Server, metrics: Metrics) -> None:
    model = metrics.made(server, FunctionModel())
    for _ in range(3):
        model.predict(person())
    assert metrics("predictions_total", outcome="miss") == 1
    assert metrics("predictions_total", outcome="hit") == 2
    stats = model.stats()
    size = stats.bytes_stored
    assert metrics("entry_bytes_total", operation="write") == size
    assert metrics("entry_bytes_total", operation="read") == 2 * size
    assert metrics("store_seconds_count", operation="read") == 3
    assert metrics("store_seconds_count", operation="write") == 1
    assert metrics("hit_seconds_count") == 2
    assert metrics("hit_seconds_sum") == pytest.approx(stats.hit_seconds)
    assert metrics("model_seconds_count") == 1
    assert metrics("model_seconds_sum") == pytest.approx(stats.model_seconds)
    assert metrics("store_open") == 0


def test_all_that_is_known_is_at_zero_from_the_beginning(server: Server, metrics: Metrics) -> None:
    metrics.made(server, FunctionModel()).predict(person())
    for outcome in ("shared", "stale", "uncacheable", "unavailable", "bypass", "error", "off"):
        assert metrics("predictions_total", outcome=outcome) == 0
    for reason in ("skipped", "lossy", "too_large", "dropped"):
        assert metrics("unstored_total", reason=reason) == 0
    assert metrics("undecodable_total") == metrics("lost_seconds_total") == 0


def test_time_saved_and_lost(metrics: Metrics) -> None:
    def predicted(kind: Any, **more: float) -> None:
        metrics.hook(Outcome(kind, "test_model", "1.0.0", **more))  # type: ignore[arg-type]

    def saved() -> tuple[float | None, float | None]:
        return metrics("saved_seconds_sum"), metrics("lost_seconds_total")

    predicted("hit", seconds=0.5)
    assert saved() == (0, 0)  # nobody knows yet what the model would have taken
    predicted("miss", seconds=4.0, model_seconds=1.0)
    predicted("miss", seconds=4.0, model_seconds=3.0)
    predicted("bypass", seconds=100.0, model_seconds=100.0)
    predicted("hit", seconds=0.5)
    assert saved() == (1.5, 0)
    predicted("hit", seconds=2.25)
    predicted("hit", seconds=0.5)
    assert saved() == (3.0, 0.25)
    assert metrics("saved_seconds_count") == 3
    assert metrics("saved_seconds_bucket", le="1.0") == 1
    assert metrics("hit_seconds_bucket", le="0.5") == 3
    assert metrics("hit_seconds_bucket", le="+Inf") == metrics("hit_seconds_count") == 4


def test_the_read_and_the_write_of_a_miss_are_counted_separately(metrics: Metrics) -> None:
    fates: list[tuple[Fate, float]] = [("stored", 0.25), ("queued", 0.0), ("write_failed", 0.5)]
    for fate, written in fates:
        metrics.hook(Outcome("miss", "test_model", "1.0.0", 2.0, 0.75, written, 1.0, 10, fate))
    assert metrics("store_seconds_count", operation="read") == 3
    assert metrics("store_seconds_sum", operation="read") == 0.5 + 0.75 + 0.25


def test_the_outcome_of_an_unstored_prediction_says_why(
    server: Server, client: redis.Redis, metrics: Metrics
) -> None:
    for options, reason in (
        ({"cache_if": lambda *_: False}, "skipped"),
        ({"max_entry_bytes": 3}, "too_large"),
    ):
        metrics.made(server, FunctionModel(), prefix=reason, **options).predict(person())
        assert metrics("unstored_total", reason=reason) == 1
    model = metrics.made(server, FunctionModel())
    with full(client):
        model.predict(person())
    assert metrics("store_errors_total", operation="write", kind="OOM") == 1
    client.set(model.cache_key(person()), b"\xc1nonsense")
    model.predict(person())
    assert metrics("undecodable_total") == 1


def test_predictions_that_bypass_the_cache(server: Server, metrics: Metrics) -> None:
    model = metrics.made(server, FunctionModel())
    model.predict(NO_KEY)
    with bypass():
        model.predict(person())
    with refresh():
        model.predict(person())
    metrics.made(server, FunctionModel(), enabled=False).predict(person())
    with pytest.raises(RuntimeError):
        metrics.made(server, FunctionModel(function=failing), prefix="x").predict(person())
    for outcome in ("uncacheable", "bypass", "miss", "off", "error"):
        assert metrics("predictions_total", outcome=outcome) == 1
    assert metrics("model_seconds_count") == 4  # a model that raises gave no answer
    assert metrics("store_seconds_count", operation="read") == 1  # to refresh reads nothing


def test_a_store_that_is_lost_and_found(metrics: Metrics) -> None:
    server = Server()
    try:
        model = metrics.made(server, FunctionModel(), timeout=5.0)
        model.predict(person())
        server.kill()
        for _ in range(5):
            model.predict(person())
        assert metrics("store_open") == 1
        refused = metrics("store_errors_total", operation="read", kind="connection")
        spared = metrics("store_errors_total", operation="read", kind="circuit_open")
        assert refused
        assert spared
        assert refused + spared == metrics("predictions_total", outcome="unavailable") == 5
        server.start()
        poll(lambda: bool(model.predict(person())) and model.stats().store == "closed", seconds=20)
        assert metrics("store_open") == 0
    finally:
        server.stop()


def test_hits_are_counted_without_a_scrape(metrics: Metrics) -> None:
    hit = Outcome("hit", "test_model", "1.0.0", 0.001, entry_bytes=10)
    for _ in range(1000):
        metrics.hook(hit)
    # The sample is read past the collector, which would count the rest.
    predictions = metrics.hook._queue.metrics.predictions
    counted = predictions.labels("test_model", "1.0.0", "hit")._value.get()
    assert 0 < 1000 - counted < 300
    assert metrics("predictions_total", outcome="hit") == 1000


def test_threads_lose_nothing(metrics: Metrics) -> None:
    hit = Outcome("hit", "test_model", "1.0.0", 0.001, entry_bytes=10)

    def predict() -> None:
        for _ in range(3000):
            metrics.hook(hit)

    threads = [threading.Thread(target=predict) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics("predictions_total", outcome="hit") == 24_000
    assert metrics("entry_bytes_total", operation="read") == 240_000


def test_models_and_versions_are_listed_separately(server: Server, metrics: Metrics) -> None:
    for version in ("1.0.0", "2.0.0"):
        metrics.made(server, FunctionModel(version=version)).predict(person())
    for version in ("1.0.0", "2.0.0"):
        assert metrics("predictions_total", version=version, outcome="miss") == 1


def test_hooks_share_the_metrics_of_a_registry_and_survive_copies(
    server: Server, metrics: Metrics
) -> None:
    again = PrometheusHook(metrics.registry)
    model = RedisCachingDecorator(url=server.url, hooks=[again]).set_model(FunctionModel())
    for one in (metrics.made(server, FunctionModel()), model, copy.deepcopy(model)):
        one.predict(person())
    assert metrics("predictions_total", outcome="hit") == 2
    named = RedisCachingDecorator(url=server.url, hooks=["prometheus"])
    given = RedisCachingDecorator(url=server.url, hooks=[PrometheusHook()])
    for decorator in (named, given):
        pickle.loads(pickle.dumps(decorator))


def test_the_default_registry_is_what_is_exposed(server: Server) -> None:
    model = FunctionModel(qualified_name="exposed_model")
    RedisCachingDecorator(url=server.url, hooks=["prometheus"]).set_model(model).predict(person())
    text, content_type = exposition()
    assert content_type.startswith("text/plain")
    assert counts(text, "exposed_model") == {"miss": 1}
    assert b"python_info" in text  # what else is in the registry is there, too
    forget_worker(os.getpid())  # there is nothing to forget, and it says nothing


def test_interrupted_hooks_count_on(metrics: Metrics) -> None:
    class SoftTimeLimit(Exception):
        pass

    armed, interrupted = False, 0
    hit = Outcome("hit", "test_model", "1.0.0", 0.001)

    def handler(signum: int, frame: object) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise SoftTimeLimit

    with signals_every(0.0002, handler):
        for _ in range(300):
            try:
                armed = True
                for _ in range(300):
                    metrics.hook(hit)
                armed = False
            except SoftTimeLimit:
                interrupted += 1
    assert interrupted
    before = metrics("predictions_total", outcome="hit") or 0.0
    metrics.hook(hit)
    assert metrics("predictions_total", outcome="hit") == before + 1


@pytest.mark.parametrize("private", [prometheus_metrics._PRIVATE, ("_of_another_version",)])
def test_many_values_at_once_count_as_one_by_one(
    private: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prometheus_metrics, "_PRIVATE", private)
    values = [0.0, 0.1, 0.25, 0.3, 0.3, 1.0, 7.0]

    def shown(count: Callable[[prometheus_metrics._Histogram], None]) -> bytes:
        registry = CollectorRegistry()
        count(
            prometheus_metrics._Histogram(
                "seconds", "Text.", buckets=(0.1, 0.25), registry=registry
            )
        )
        lines = generate_latest(registry).splitlines()
        return b"\n".join(line for line in lines if b"_created" not in line)

    def one_by_one(histogram: prometheus_metrics._Histogram) -> None:
        for value in values:
            histogram.observe(value)

    pairs = [(0.0, 1), (0.1, 1), (0.25, 1), (0.3, 2), (1.0, 1), (7.0, 1)]
    assert shown(lambda histogram: histogram.add(pairs)) == shown(one_by_one)


MISSING = """
import sys
sys.modules[{package!r}] = None
from model_cache import RedisCachingDecorator
RedisCachingDecorator(hooks=[{hook!r}])
"""


@pytest.mark.parametrize(
    ("hook", "package"),
    [("prometheus", "prometheus_client"), ("opentelemetry", "opentelemetry")],
)
def test_a_missing_extra_says_how_to_install_it(hook: str, package: str) -> None:
    code = MISSING.format(hook=hook, package=package)
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    last = finished.stderr.strip().splitlines()[-1]
    assert ConfigurationError.__name__ in last
    assert "hooks: " in last
    assert f'pip install "ml-model-cache[{hook}]"' in last


def test_nothing_is_imported_before_it_is_used() -> None:
    code = "import sys, model_cache; print([n for n in sys.modules if 'prometheus' in n])"
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert finished.stdout == "[]\n"


def test_a_forked_child_counts_no_hit_of_its_parent(metrics: Metrics) -> None:
    hit = Outcome("hit", "test_model", "1.0.0", 0.001, entry_bytes=10)
    metrics.hook(hit)
    child = os.fork()
    if child == 0:
        os._exit(int(metrics("predictions_total", outcome="hit") or 0))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert metrics("predictions_total", outcome="hit") == 1

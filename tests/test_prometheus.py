"""The Prometheus hook: counts what came of predictions, in one process and in several."""

from __future__ import annotations

import contextlib
import copy
import http.client
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from model_cache import ConfigurationError, Outcome, RedisCachingDecorator, bypass, refresh
from model_cache.events import EntryStored
from model_cache.integrations.prometheus import PrometheusHook, exposition, forget_worker
from tests.models import FunctionModel, person
from tests.servers import Server, free_port
from tests.test_outcome import NO_KEY, failing

ROOT = Path(__file__).parents[1]


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


def test_the_read_of_a_miss_is_told_from_its_write(metrics: Metrics) -> None:
    metrics.hook(EntryStored("test_model", "1.0.0", 10, 0.25))
    for fate in ("stored", "queued", "write_failed"):
        outcome = Outcome("miss", "test_model", "1.0.0", 2.0, 0.75, 1.0, 10, fate)
        metrics.hook(outcome)
    assert metrics("store_seconds_sum", operation="write") == 0.25
    # What a failed write took of it, nobody knows.
    assert metrics("store_seconds_count", operation="read") == 2
    assert metrics("store_seconds_sum", operation="read") == 0.5 + 0.75


def test_what_is_not_stored_says_why(server: Server, client: redis.Redis, metrics: Metrics) -> None:
    for options, reason in (
        ({"cache_if": lambda *_: False}, "skipped"),
        ({"max_entry_bytes": 3}, "too_large"),
    ):
        metrics.made(server, FunctionModel(), prefix=reason, **options).predict(person())
        assert metrics("unstored_total", reason=reason) == 1
    model = metrics.made(server, FunctionModel())
    client.config_set("maxmemory", "1")
    client.config_set("maxmemory-policy", "noeviction")
    try:
        model.predict(person())
    finally:
        client.config_set("maxmemory", "0")
    assert metrics("store_errors_total", operation="write", kind="OOM") == 1
    client.set(model.cache_key(person()), b"\xc1nonsense")
    model.predict(person())
    assert metrics("undecodable_total") == 1


def test_what_goes_by_the_cache(server: Server, metrics: Metrics) -> None:
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
        deadline = time.monotonic() + 20
        while model.stats().store != "closed":
            model.predict(person())
            assert time.monotonic() < deadline
        assert metrics("store_open") == 0
    finally:
        server.stop()


def test_hits_are_counted_without_anybody_looking(metrics: Metrics) -> None:
    hit = Outcome("hit", "test_model", "1.0.0", 0.001, entry_bytes=10)
    for _ in range(1000):
        metrics.hook(hit)
    # The sample is read past the collector, which would count the rest.
    counted = metrics.hook._metrics.predictions.labels("test_model", "1.0.0", "hit")._value.get()
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


def test_models_and_versions_are_apart(server: Server, metrics: Metrics) -> None:
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


def counts(text: bytes, model: str = "test_model") -> dict[str, float]:
    """Return the predictions by outcome, but for those at zero."""
    return {
        sample.labels["outcome"]: sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == "model_cache_predictions_total"
        and sample.labels["model"] == model
        and sample.value
    }


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


WORKERS = 4
CONFIG = """
from model_cache.integrations.prometheus import forget_worker

def child_exit(server, worker):
    forget_worker(worker.pid)
"""


@contextlib.contextmanager
def running_gunicorn(url: str, folder: Path) -> Iterator[int]:
    port, config, files = free_port(), folder / "gunicorn.conf.py", folder / "metrics"
    config.write_text(CONFIG)
    files.mkdir()
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", str(WORKERS)]
    command += ["--config", str(config), "--bind", f"127.0.0.1:{port}", "--log-level", "error"]
    command += ["--worker-class", "gthread", "--threads", "2", "--graceful-timeout", "5"]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {"METRICS_REDIS_URL": url, "PROMETHEUS_MULTIPROC_DIR": str(files)}
    process = subprocess.Popen(
        [*command, "tests.metrics_service:application"],
        cwd=ROOT,
        env={**os.environ, **environment, "PYTHONPATH": path},
    )
    try:
        until(lambda: bool(scraped(port)))
        yield port
    finally:
        process.terminate()
        process.wait(20)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError):
            if condition():
                return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def get(port: int, path: str) -> bytes:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as one:
        one.request("GET", path)
        response = one.getresponse()
        body = response.read()
        assert response.status == 200, body
        return body


def scraped(port: int) -> dict[str, float]:
    return counts(get(port, "/metrics"))


def test_the_workers_of_gunicorn_are_added_up(server: Server, tmp_path: Path) -> None:
    truth: Counter[str] = Counter({"miss": 1, "hit": 1})  # before the fork
    answers: list[tuple[int, str, int]] = []

    def ask(port: int, number: int) -> None:
        paths = [f"/{(number * 7 + one) % 40}" for one in range(30)]
        answers.extend(tuple(json.loads(get(port, path))) for path in paths)

    def ask_all(port: int) -> None:
        threads = [threading.Thread(target=ask, args=(port, number)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with running_gunicorn(server.url, tmp_path) as port:
        ask_all(port)
        workers = {worker for worker, _, _ in answers}
        assert len(workers) > 1
        dead = min(workers)
        os.kill(dead, signal.SIGTERM)  # what it counted remains, and its heir counts on
        until(lambda: not is_running(dead))
        ask_all(port)
        assert {worker for worker, _, _ in answers} - workers
        truth.update(kind for _, kind, _ in answers)
        until(lambda: scraped(port) == truth)
        text = get(port, "/metrics").decode()
    gauges = [line for line in text.splitlines() if line.startswith("model_cache_store_open{")]
    assert [line.split()[-1] for line in gauges] == ["0.0"]
    assert not (tmp_path / "metrics" / f"gauge_livemax_{dead}.db").exists()


def test_a_forked_child_counts_no_hit_of_its_parent(metrics: Metrics) -> None:
    hit = Outcome("hit", "test_model", "1.0.0", 0.001, entry_bytes=10)
    metrics.hook(hit)
    child = os.fork()
    if child == 0:
        os._exit(int(metrics("predictions_total", outcome="hit") or 0))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert metrics("predictions_total", outcome="hit") == 1


FORKING = """
import os, signal, sys, threading, time
from model_cache import Outcome
from model_cache.integrations.prometheus import PrometheusHook

hook, ended = PrometheusHook(), threading.Event()
miss = Outcome("miss", "test_model", "1.0.0", 0.002, 0.001, 0.001)

def count():
    while not ended.is_set():
        hook(miss)

threads = [threading.Thread(target=count) for _ in range(2)]
for thread in threads:
    thread.start()
hanging = 0
for _ in range(60):
    child = os.fork()
    if child == 0:
        hook(miss)
        os._exit(0)
    deadline = time.monotonic() + 30
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            hanging += 1
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        time.sleep(0.001)
    if hanging:
        break
ended.set()
for thread in threads:
    thread.join()
print("hanging:", hanging)
"""


def test_a_child_that_is_forked_while_others_count_can_count(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert finished.stdout == "hanging: 0\n"

"""The Prometheus hook in several processes: gunicorn's workers, and forks."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.servers import Server, free_port
from tests.test_prometheus import counts

ROOT = Path(__file__).parents[1]
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

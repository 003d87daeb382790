"""The Prometheus hook in several processes: gunicorn's workers, and forks."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.checkout import IMPORTS, REPOSITORY
from tests.integrations.scraping import counts, get
from tests.servers import Server
from tests.services import Service
from tests.waiting import poll

WORKERS = 4
CONFIG = REPOSITORY / "examples" / "insurance_service" / "gunicorn.conf.py"
APP = "tests.integrations.metrics_service:application"


GUNICORN = ["gunicorn", "--config", str(CONFIG), "--worker-class", "gthread", "--threads", "2"]
GUNICORN += ["--graceful-timeout", "5", "--workers", str(WORKERS), APP]


def environment(url: str, folder: Path) -> dict[str, str]:
    return {"METRICS_REDIS_URL": url, "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics")}


def running_gunicorn(url: str, folder: Path) -> Service:
    return Service(GUNICORN, environment(url, folder), folder / "log", "/metrics")


def until(condition: Callable[[], bool]) -> None:
    def holds() -> bool:
        with contextlib.suppress(OSError):
            return condition()
        return False

    poll(holds, seconds=30)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def scraped(service: Service) -> dict[str, float]:
    return counts(get(service, "/metrics"))


def test_the_workers_of_gunicorn_are_added_up(server: Server, tmp_path: Path) -> None:
    truth: Counter[str] = Counter({"miss": 1, "hit": 1})  # before the fork
    answers: list[tuple[int, str, int]] = []

    def ask(number: int) -> None:
        paths = [f"/{(number * 7 + one) % 40}" for one in range(30)]
        answers.extend(tuple(json.loads(get(service, path))) for path in paths)

    def ask_all() -> None:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with running_gunicorn(server.url, tmp_path) as service:
        ask_all()
        workers = {worker for worker, _, _ in answers}
        assert len(workers) > 1
        dead = min(workers)
        os.kill(dead, signal.SIGTERM)  # what it counted remains, and its heir counts on
        until(lambda: not is_running(dead))
        ask_all()
        assert {worker for worker, _, _ in answers} - workers
        truth.update(kind for _, kind, _ in answers)
        until(lambda: scraped(service) == truth)
        text = get(service, "/metrics").decode()
    gauges = [line for line in text.splitlines() if line.startswith("model_cache_store_open{")]
    assert [line.split()[-1] for line in gauges] == ["0.0"]
    assert not (tmp_path / "metrics" / f"gauge_livemax_{dead}.db").exists()


def test_only_a_start_resets_the_metrics(server: Server, tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    left_over = tmp_path / "metrics" / "counter_1.db"
    left_over.touch()
    os.utime(left_over, (1, 1))
    with running_gunicorn(server.url, tmp_path) as service:
        assert not left_over.exists()
        pids = {json.loads(get(service, "/1"))[0] for _ in range(20)}
        until(lambda: scraped(service) == {"miss": 2, "hit": 20})
        command = [sys.executable, "-m", *GUNICORN, "--check-config"]
        files = {**os.environ, **environment(server.url, tmp_path), "PYTHONPATH": IMPORTS}
        subprocess.run(command, env=files, check=True, timeout=60)
        service.process.send_signal(signal.SIGHUP)
        until(lambda: not any(map(is_running, pids)))
        # Each loads the app anew, which then predicts.
        until(lambda: scraped(service).get("hit", 0) >= 22)


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


# Such a child may find prometheus_client's lock locked, which is all metrics': this one does.
LOCKED_AT_THE_FORK = """
import os, threading
from prometheus_client import Counter
from model_cache import Outcome
from model_cache.integrations.prometheus import PrometheusHook

hook, own = PrometheusHook(), Counter("own", "The app's own.")
[lock] = [
    cell.cell_contents
    for cell in type(own._value).inc.__closure__
    if isinstance(cell.cell_contents, type(threading.Lock()))
]
lock.acquire()
child = os.fork()
if child == 0:
    for _ in range(1000):
        hook(Outcome("miss", "test_model", "1.0.0", 0.002, model_seconds=0.001))
    raise SystemExit(3)
lock.release()
print("child:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

# A handler may run at any line of the main thread, those under prometheus_client's locks too.
AT_EACH_LINE = """
import signal, sys
from prometheus_client import Counter
from model_cache import Outcome
from model_cache.observing.events import EntryStored, WriteFailed
from model_cache.integrations.prometheus import PrometheusHook, exposition

hook, own, handled, lines = PrometheusHook(), Counter("own", "The app's own."), 0, set()

def predict(*_):
    global handled
    handled += 1
    hook(Outcome("miss", "test_model", "1", 0.002, model_seconds=0.001))
    hook(EntryStored("test_model", "1", 10, 0.001))
    hook(WriteFailed("test_model", "1", "OOM", "full"))
    for _ in range(100):
        hook(Outcome("hit", "test_model", "1", 0.001))

def trace(frame, event, _):
    if "prometheus" not in frame.f_code.co_filename:
        return None
    line = frame.f_code, frame.f_lineno
    if event == "line" and line not in lines:
        lines.add(line)
        signal.raise_signal(signal.SIGUSR1)
    return trace

signal.signal(signal.SIGUSR1, predict)
predict()
exposition()
sys.settrace(trace)
for _ in range(5):
    own.inc()
    exposition()
sys.settrace(None)
samples = [line.split() for line in exposition()[0].decode().splitlines()]
total = lambda start: sum(float(one[-1]) for one in samples if one[0].startswith(start))
found = [total("model_cache_" + name) for name in sys.argv[1:]]
print(handled > 50, *(value / handled for value in found))
"""

POOL = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from model_cache import Outcome
from model_cache.integrations.prometheus import PrometheusHook, exposition
from tests.integrations.scraping import (counts)

hook = PrometheusHook()

def predict(number):
    for _ in range(10):
        hook(Outcome("hit", "test_model", "1.0.0", 0.001))

fork = multiprocessing.get_context("fork")
child = fork.Process(target=predict, args=(0,))
child.start()
child.join()
with ProcessPoolExecutor(2, mp_context=fork) as pool:
    list(pool.map(predict, range(9)))
print(counts(exposition()[0]))
"""

# Its end falls into its first count, which makes the files and many series.
ENDS_WHILE_COUNTING = """
import sys, time
from model_cache import Outcome
from model_cache.integrations.prometheus import PrometheusHook, exposition

hook = PrometheusHook()
for number in range(250):
    hook(Outcome("hit", f"other_{number}" if number < 100 else "test_model", "1.0.0", 0.001))
if sys.argv[1] == "a scrape":
    import threading
    threading.Thread(target=exposition, daemon=True).start()
while len(hook._queue._events) == 250:
    time.sleep(0.0001)
"""

ENDS_BY_A_SIGNAL = """
import asyncio, os
from model_cache import Outcome
from model_cache.integrations.fastapi import closing
from model_cache.integrations.prometheus import PrometheusHook

async def serve():
    async with closing([])(None):
        hook = PrometheusHook()
        for _ in range(30):
            hook(Outcome("hit", "test_model", "1.0.0", 0.001))

asyncio.run(serve())
os._exit(0)  # as little happens as if a signal ended it
"""

TOTAL = """
from model_cache.integrations.prometheus import exposition
from tests.integrations.scraping import (counts)
print(counts(exposition()[0]))
"""

TWO_REGISTRIES = """
from prometheus_client import CollectorRegistry
from model_cache import Outcome
from model_cache.integrations.prometheus import PrometheusHook, exposition
from tests.integrations.scraping import (counts)

for hook in (PrometheusHook(), PrometheusHook(CollectorRegistry()), PrometheusHook()):
    for _ in range(10):
        hook(Outcome("hit", "test_model", "1.0.0", 0.001))
    exposition()
print(counts(exposition()[0]))
"""


def printed(code: str, folder: Path | None, *arguments: str) -> str:
    """Run code in a process that counts in files in a folder, or in memory."""
    files = {} if folder is None else {"PROMETHEUS_MULTIPROC_DIR": str(folder)}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        env={**os.environ, **files, "PYTHONPATH": IMPORTS},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=100,
    ).stdout


def test_a_child_that_is_forked_while_others_count_can_count(tmp_path: Path) -> None:
    assert printed(FORKING, tmp_path) == "hanging: 0\n"


def test_a_child_that_is_forked_while_the_app_counts_predicts_and_ends(tmp_path: Path) -> None:
    assert printed(LOCKED_AT_THE_FORK, tmp_path) == "child: 3\n"


@pytest.mark.parametrize("in_files", [True, False])
def test_a_signal_handler_may_predict_while_its_thread_counts(
    in_files: bool, tmp_path: Path
) -> None:
    names = ("entry_bytes_total", "hit_seconds_count", "model_seconds_count", "store_errors_total")
    found = printed(AT_EACH_LINE, tmp_path if in_files else None, *names)
    assert found.split() == ["True", "10.0", "100.0", "1.0", "1.0"]


def test_children_of_multiprocessing_lose_no_hits(tmp_path: Path) -> None:
    assert printed(POOL, tmp_path) == "{'hit': 100.0}\n"


@pytest.mark.parametrize("counter", ["its own thread", "a scrape"])
def test_a_process_that_ends_while_it_counts_loses_nothing(counter: str, tmp_path: Path) -> None:
    printed(ENDS_WHILE_COUNTING, tmp_path, counter)
    assert printed(TOTAL, tmp_path) == "{'hit': 150.0}\n"


def test_a_service_that_a_signal_ends_counts_in_its_lifespan(tmp_path: Path) -> None:
    printed(ENDS_BY_A_SIGNAL, tmp_path)
    assert printed(TOTAL, tmp_path) == "{'hit': 30.0}\n"


def test_files_that_cannot_be_read_are_skipped_and_logged_once(tmp_path: Path) -> None:
    printed(TWO_REGISTRIES, tmp_path)
    (whole,) = tmp_path.glob("counter_*.db")
    (tmp_path / "counter_1.db").touch()
    (tmp_path / "histogram_1.db").write_bytes(whole.read_bytes()[:8] + b"x" * 5000)
    (tmp_path / "gauge_livemax_1.db").write_bytes(whole.read_bytes()[:100])
    code = f"""
import logging, sys
logging.basicConfig(stream=sys.stdout, format="%(message)s")
{TOTAL}
{TOTAL}
"""
    *logged, first, second = printed(code, tmp_path).splitlines()
    assert first == second == "{'hit': 30.0}"
    assert sorted(line.split(" (")[0].rpartition("/")[2] for line in logged) == [
        *("counter_1.db", "gauge_livemax_1.db", "histogram_1.db")
    ]


def test_incomplete_files_of_a_killed_worker_are_removed_with_its_gauges(tmp_path: Path) -> None:
    printed(TWO_REGISTRIES, tmp_path)
    whole = set(tmp_path.iterdir())
    for name in ("counter_1.db", "histogram_1.db", "gauge_livemax_1.db"):
        (tmp_path / name).touch()
    code = "from model_cache.integrations.prometheus import forget_worker; forget_worker(1)"
    printed(code, tmp_path)
    assert set(tmp_path.iterdir()) == whole


def test_hooks_of_two_registries_count_in_one_set_of_files(tmp_path: Path) -> None:
    assert printed(TWO_REGISTRIES, tmp_path) == "{'hit': 30.0}\n"


def test_a_folder_that_is_gone_fails_no_prediction_and_is_logged_once(tmp_path: Path) -> None:
    code = """
import os, sys, time, logging
from model_cache import Outcome
from model_cache.integrations.prometheus import PrometheusHook

logging.basicConfig(stream=sys.stdout, format="%(name)s: %(message)s")
hook = PrometheusHook()
for _ in range(3):
    hook(Outcome("hit", "test_model", "1.0.0", 0.001))
    time.sleep(0.4)
"""
    (line,) = printed(code, tmp_path / "gone").splitlines()
    assert line.startswith("model_cache: Prometheus metrics not counted: ")


FULL = """
import logging, sys
from model_cache import Outcome
from model_cache.integrations import prometheus

logging.basicConfig(stream=sys.stdout, format="%(message)s")
hook = prometheus.PrometheusHook()
hits = 'model_cache_predictions_total{model="m",outcome="hit",version="1"} 3.0'
least, prometheus._LEAST_FREE = prometheus._LEAST_FREE, 1 << 62
for _ in range(3):
    hook(Outcome("hit", "m", "1", 0.001))
    print(hits in prometheus.exposition()[0].decode())
prometheus._LEAST_FREE = least
print(hits in prometheus.exposition()[0].decode())
"""


def test_a_full_disk_ends_no_process_and_what_happened_meanwhile_is_counted_later(
    tmp_path: Path,
) -> None:
    first, *found = printed(FULL, tmp_path).splitlines()
    assert first.startswith("Prometheus metrics not counted: [Errno 28]")
    assert found == ["False", "False", "False", "True"]

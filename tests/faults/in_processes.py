"""Stress on the process itself: forks, a thousand threads, gunicorn's workers."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict

from model_cache import RedisCachingDecorator
from tests.checkout import IMPORTS, REPOSITORY
from tests.faults.load import INPUTS, Load, LoadModel, Row, Run, Tally, wait_until
from tests.servers import free_port, running_server

THREADS = 1000


def a_thousand_threads(run: Run) -> None:
    with running_server() as server:
        model = LoadModel(seconds=0.05)
        decorator = RedisCachingDecorator(url=server.url, timeout=10.0)
        with run.load(decorator, threads=0, model=model, warm=False) as load:
            for number in range(1 + round(run.seconds)):
                all_at_once(load, number)
            # Whoever comes when the others have landed long ago finds the entry in the store.
            assert model.call_count <= 2 * (1 + round(run.seconds))
            run.recovery = 0.0


def all_at_once(load: Load, number: int) -> None:
    barrier = threading.Barrier(THREADS)

    def predict(tally: Tally) -> None:
        barrier.wait()
        load.predict(tally, number)

    threads = [threading.Thread(target=predict, args=(load.tally(),)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def forked(run: Run) -> None:
    """Children predict, too, by what they have from their parent, which goes on predicting."""
    with running_server() as server, run.load(RedisCachingDecorator(url=server.url)) as load:
        for _ in range(2):
            children = [fork(load, run.seconds / 4) for _ in range(2)]
            for child in children:
                load.tallies.append(reported(*child))
        run.recovers(load)


def fork(load: Load, seconds: float) -> tuple[int, int]:
    """Fork a child that predicts for a while; return its number and where it reports."""
    reads, writes = os.pipe()
    child = os.fork()
    if child:
        os.close(writes)
        return child, reads
    tally, end = Tally(), time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            load.predict(tally, tally.predictions % len(INPUTS))
        assert load.decorator.stats().store == "closed"
        os.write(writes, json.dumps(asdict(tally)).encode())
    finally:
        os._exit(0)


def reported(child: int, reads: int) -> Tally:
    with open(reads, "rb") as pipe:
        report = pipe.read()
    os.waitpid(child, 0)
    return Tally(**json.loads(report))


def has_gunicorn() -> bool:
    return importlib.util.find_spec("gunicorn") is not None


def gunicorn_preloaded(run: Run) -> None:
    """The decorator has predicted when gunicorn forks; workers die and are replaced meanwhile."""
    with running_server() as server, running_gunicorn(server.url) as (master, port):
        tallies = [Tally(), Tally()]
        end = time.monotonic() + run.seconds
        clients = [
            threading.Thread(target=request_until, args=(end, port, tally)) for tally in tallies
        ]
        for client in clients:
            client.start()
        time.sleep(run.seconds / 2)
        master.send_signal(signal.SIGTTIN)  # one more worker: it forks under load
        for client in clients:
            client.join()
        for tally in tallies:
            run.tally.add(tally)
        since = time.perf_counter()
        wait_until(lambda: all(hits(port) for _ in range(20)), "all workers hit")
        run.recovery = time.perf_counter() - since


@contextlib.contextmanager
def running_gunicorn(url: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "3"]
    command += ["--bind", f"127.0.0.1:{port}", "--keep-alive", "5", "--log-level", "error"]
    command += ["--worker-class", "gthread", "--threads", "2", "--graceful-timeout", "1"]
    process = subprocess.Popen(
        [*command, "tests.faults.gunicorn_service:application"],
        cwd=REPOSITORY,
        env={**os.environ, "FAULTS_REDIS_URL": url, "PYTHONPATH": IMPORTS},
    )
    try:
        wait_until(lambda: is_up(port), "gunicorn answers")
        yield process, port
    finally:
        process.terminate()
        process.wait(10)


def is_up(port: int) -> bool:
    try:
        return request(http.client.HTTPConnection("127.0.0.1", port, timeout=5), 0)[0] == 200
    except OSError:
        return False


def hits(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    return request(connection, 0)[1]["hit"] is True


def request(connection: http.client.HTTPConnection, number: int) -> tuple[int, dict[str, object]]:
    with contextlib.closing(connection):
        connection.request("GET", f"/{number}")
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def request_until(end: float, port: int, tally: Tally) -> None:
    while time.monotonic() < end:
        number = tally.predictions % len(INPUTS)
        tally.predictions += 1
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        status, answer = request(connection, number)
        tally.failed += status != 200 or answer["failed"] is True
        tally.wrong += answer["wrong"] is True
        tally.worst = max(tally.worst, float(str(answer["worst"])))


ONE = "one server"
ROWS: tuple[Row, ...] = (
    Row("a thousand threads on one key", ONE, a_thousand_threads, threads=THREADS, bounded=False),
    Row("os.fork under load", ONE, forked, bounded=False),
)
if has_gunicorn():
    ROWS += (Row("gunicorn --preload, forks under load", ONE, gunicorn_preloaded, bounded=False),)

"""Faults of a fleet that shares its computations: leaders that die, and a whole service."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from examples.insurance_charges import train
from examples.insurance_charges.model import InsuranceChargesModel
from examples.insurance_charges.schemas import InsuranceChargesModelInput
from model_cache import RedisCachingDecorator
from tests.examples.insurance_service import (
    GUNICORN,
    PREDICTION,
    REQUEST,
    InsuranceService,
    running,
)
from tests.faults.load import INPUTS, LoadModel, Row, Run, Tally
from tests.servers import Server, running_server

CLIENTS = 12


def leaders_killed(run: Run) -> None:
    """Processes are killed while they compute; others have come for the same predictions."""
    with running_server() as server:
        decorator = RedisCachingDecorator(url=server.url, single_flight="fleet")
        model = LoadModel(seconds=0.02)
        with run.load(decorator, threads=0, model=model, warm=False) as load:
            tally, end = load.tally(), time.monotonic() + run.seconds
            for number in range(len(INPUTS)):
                kill_a_leader(server.url, number)
                load.predict(tally, number)
                if number >= 3 and time.monotonic() > end:
                    break
            run.recovers(load, among=())


class HangingModel(LoadModel):
    """Says that it is computing, and does not end."""

    def __init__(self, pipe: int) -> None:
        super().__init__()
        self._pipe = pipe

    def predict(self, data: Any) -> Any:
        os.write(self._pipe, b".")
        time.sleep(60)


def kill_a_leader(url: str, number: int) -> None:
    """Fork a process that begins to compute a prediction, and kill it in the middle."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            warnings.simplefilter("ignore")  # its model stands in for another of the same name
            decorator = RedisCachingDecorator(url=url, single_flight="fleet", timeout=5.0)
            decorator.set_model(HangingModel(writes)).predict(INPUTS[number])
        finally:
            os._exit(1)
    os.close(writes)
    with open(reads, "rb") as pipe:
        assert pipe.read(1) == b"."
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def service_under_load(run: Run) -> None:
    """Twelve clients without pause, while Redis is frozen, killed and started again."""
    with tempfile.TemporaryDirectory() as folder, running_server() as server:
        model = Path(folder, "insurance_charges.joblib")
        assert train.main(["--output", str(model)]) == 0
        expected = answers(model)
        end = time.monotonic() + 30 * run.seconds
        with running(
            GUNICORN, Path(folder), model, server.url, timeout=0.1, WEB_CONCURRENCY="2"
        ) as service:
            tallies = [Tally() for _ in range(CLIENTS)]
            clients = [
                threading.Thread(target=request_until, args=(end, service, expected, tally))
                for tally in tallies
            ]
            for client in clients:
                client.start()
            torment(server, end)
            for client in clients:
                client.join()
            for tally in tallies:
                run.tally.add(tally)
        run.recovery = 0.0


def answers(model: Path) -> list[tuple[str, float]]:
    """Return requests, and what the model alone answers to them."""
    predictor, drawn = InsuranceChargesModel(model), random.Random(7)
    requests = [
        {**REQUEST, "age": drawn.randint(18, 65), "bmi": round(drawn.uniform(15, 50), 1)}
        for _ in range(300)
    ]
    return [
        (json.dumps(each), predictor.predict(InsuranceChargesModelInput(**each)).charges)
        for each in requests
    ]


def torment(server: Server, end: float) -> None:
    def restart() -> None:
        server.kill()
        time.sleep(0.3)
        server.start()

    def freeze() -> None:
        server.freeze()
        time.sleep(0.5)
        server.thaw()

    faults: Iterator[Callable[[], None]] = iter([restart, freeze] * 1000)
    while time.monotonic() < end:
        time.sleep(0.7)
        next(faults)()


def request_until(
    end: float, service: InsuranceService, expected: list[tuple[str, float]], tally: Tally
) -> None:
    drawn = random.Random(id(tally))
    address = ("127.0.0.1", service.port)
    with contextlib.closing(http.client.HTTPConnection(*address, timeout=30)) as connection:
        while time.monotonic() < end:
            body, charges = drawn.choice(expected)
            tally.predictions += 1
            started = time.perf_counter()
            status, answer = post(connection, body)
            tally.worst = max(tally.worst, time.perf_counter() - started)
            if status != 200:
                tally.failed += 1
                tally.first_error = tally.first_error or f"{status}: {answer}"
            elif answer["charges"] != charges:
                tally.wrong += 1
                tally.first_error = tally.first_error or f"{answer} for {body}"


def post(connection: http.client.HTTPConnection, body: str) -> tuple[int, Any]:
    connection.request("POST", PREDICTION, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, json.loads(response.read())


FLEET = "fleet"
ROWS: tuple[Row, ...] = (
    Row("processes killed while they compute", FLEET, leaders_killed, threads=1, extra=0.85),
    Row(
        "the insurance service, Redis frozen, killed and restarted",
        "gunicorn, 2 workers",
        service_under_load,
        threads=CLIENTS,
        extra=0.85,
        in_short=False,  # the service has tests of its own under gunicorn
    ),
)

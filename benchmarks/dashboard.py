"""The dashboard's panels for a real run, as a picture: python -m benchmarks.dashboard

It runs the insurance service, a Redis, `model-cache export` and a Prometheus, and sends requests.
Redis is down for a while, and later short of memory. Then Prometheus evaluates the query of each
panel of `deploy/grafana/model-cache.json`, and matplotlib draws the answers. Colours and axes are
not Grafana's. It needs `prometheus` on PATH.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from benchmarks.dashboard_picture import draw
from examples.insurance_charges import train
from examples.insurance_charges.generator import random_inputs
from examples.insurance_service.app import CONFIGURATION
from model_cache.embedded import find_server

DEPLOY = Path(__file__).parents[1] / "deploy"
SCRAPE_SECONDS = 2
PREDICTION = "/api/models/insurance_charges_model/prediction"
# When Redis is down, and from when on it is short of memory; shares of the run.
DOWN, FULL = (0.45, 0.55), 0.75


def main() -> None:
    """Run everything, and draw the picture."""
    parser = argparse.ArgumentParser(prog="benchmarks.dashboard", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--rate", type=float, default=60.0, help="requests per second")
    parser.add_argument("--output", type=Path, default=Path("dashboard.png"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        prometheus = _start(stack, Path(folder), given.seconds, given.rate)
        panels = json.loads((DEPLOY / "grafana" / "model-cache.json").read_text())["panels"]
        answers = {panel["id"]: answer(prometheus, panel, given.seconds) for panel in panels}
    draw(panels, answers, given.output, seconds=given.seconds)


def _start(stack: ExitStack, folder: Path, seconds: float, rate: float) -> str:
    """Start the processes, send the requests, and return Prometheus' url."""
    redis, service, exporter, prometheus = (free_port() for _ in range(4))
    url = f"redis://127.0.0.1:{redis}/0"
    environment = {**os.environ, "REDIS_URL": url, "REST_CONFIG": configured(folder)}
    python = [sys.executable, "-m"]
    app = ["uvicorn", "--factory", "examples.insurance_service.app:create_app", "--no-access-log"]
    export = ["model_cache.cli", "export", "--every", "2", "--port", str(exporter)]
    (folder / "prometheus.yml").write_text(scraping(service, exporter))
    scrape = [
        *("prometheus", f"--config.file={folder}/prometheus.yml"),
        *(f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{prometheus}"),
    ]
    server = Redis(redis, folder)
    stack.callback(server.stop)
    server.start()
    for command in ([*python, *app, "--port", str(service)], [*python, *export], scrape):
        stack.enter_context(running(command, environment))
    for port, path in ((service, "/api/health/ready"), (exporter, "/"), (prometheus, "/-/ready")):
        wait_until_ready(port, path)
    send(service, server, seconds, rate)
    return f"http://127.0.0.1:{prometheus}"


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def configured(folder: Path) -> str:
    """Train the model, and return the path of the service's configuration for it."""
    model = folder / "insurance_charges.joblib"
    train.main(["--output", str(model)])
    configuration = yaml.safe_load(CONFIGURATION.read_text())
    (served,) = configuration["models"]
    served["configuration"] = {"model_path": str(model)}
    options = {"revision": [str(model)], "verify": 0.05, "near_cache": 200, "near_ttl": 5}
    served["decorators"][0]["configuration"] |= options
    path = folder / "rest_configuration.yaml"
    path.write_text(yaml.safe_dump(configuration))
    return str(path)


def scraping(*ports: int) -> str:
    """Return Prometheus' configuration."""
    jobs = [
        {"job_name": str(port), "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        for port in ports
    ]
    interval = {"scrape_interval": f"{SCRAPE_SECONDS}s"}
    return yaml.safe_dump({"global": interval, "scrape_configs": jobs})


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[None]:
    """Run a process, and end it by a SIGTERM."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


class Redis:
    """A Redis that can be killed, and made short of memory."""

    def __init__(self, port: int, folder: Path) -> None:
        self._port, self._folder = port, folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, memory: str = "64mb") -> None:
        """Start it, empty."""
        words = ["--port", str(self._port), "--bind", "127.0.0.1", "--save", ""]
        words += ["--dir", str(self._folder), "--maxmemory-policy", "allkeys-lru"]
        command = [str(find_server()), *words, "--maxmemory", memory]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def limit(self, size: int) -> None:
        """Allow it this many bytes more than it uses now."""
        with socket.create_connection(("127.0.0.1", self._port)) as connection:
            connection.sendall(b"INFO memory\r\n")
            used = int(connection.recv(65_536).split(b"used_memory:")[1].split()[0])
            connection.sendall(f"CONFIG SET maxmemory {used + size}\r\n".encode())
            assert connection.recv(100) == b"+OK\r\n"

    def stop(self) -> None:
        """Kill it, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def wait_until_ready(port: int, path: str) -> None:
    """Wait until a service answers with 200."""
    deadline = time.monotonic() + 60
    while True:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}{path}"):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.1)


def send(port: int, redis: Redis, seconds: float, rate: float) -> None:
    """Send requests at a steady rate, from four threads, and disturb Redis meanwhile."""
    began = time.monotonic()
    threads = [
        threading.Thread(target=_send, args=(port, began + seconds, rate / 4, seed), daemon=True)
        for seed in range(4)
    ]
    for thread in threads:
        thread.start()
    for share, change in (
        (DOWN[0], redis.stop),
        (DOWN[1], redis.start),
        (FULL, lambda: redis.limit(50_000)),
    ):
        time.sleep(max(0.0, began + share * seconds - time.monotonic()))
        change()
    for thread in threads:
        thread.join()
    time.sleep(2 * SCRAPE_SECONDS)


def _send(port: int, until: float, rate: float, seed: int) -> None:
    inputs = [data.model_dump_json() for data in random_inputs(20_000, 1)]
    dice = random.Random(seed)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    while time.monotonic() < until:
        # Few inputs are frequent and most are rare, as in real traffic.
        body = inputs[min(int(dice.paretovariate(0.5)), len(inputs)) - 1]
        connection.request("POST", PREDICTION, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        assert response.status == 200
        time.sleep(dice.expovariate(rate))


def answer(prometheus: str, panel: Mapping[str, Any], seconds: float) -> list[dict[str, Any]]:
    """Return the series of a panel, each with its `legend` and `values`."""
    found = []
    now = time.time()
    for target in panel["targets"]:
        query = target["expr"]
        for variable, value in (
            ("$__rate_interval", f"{8 * SCRAPE_SECONDS}s"),
            ("$__range", f"{seconds:.0f}s"),
            ("$price_per_hour", "2.85"),
            ("$model", ".*"),
            ("$version", ".*"),
        ):
            query = query.replace(variable, value)
        period = {"start": now - seconds, "end": now, "step": SCRAPE_SECONDS}
        path, times = ("query", {}) if target.get("instant") else ("query_range", period)
        parameters = urllib.parse.urlencode({"query": query, **times})
        with urllib.request.urlopen(f"{prometheus}/api/v1/{path}?{parameters}") as response:
            series = json.load(response)["data"]["result"]
        for each in series:
            legend = target["legendFormat"]
            for name, value in each["metric"].items():
                legend = legend.replace(f"{{{{{name}}}}}", value)
            values = each.get("values") or [each["value"]]
            found.append({"legend": legend, "values": [(t - now + seconds, v) for t, v in values]})
    return found


if __name__ == "__main__":
    if shutil.which("prometheus") is None:
        sys.exit("benchmarks.dashboard: prometheus is not on PATH")
    main()

"""Requests per second of a service with one worker: the cached model against a constant.

It runs a real uvicorn with a FastAPI app, an embedded Redis that holds every answer, and a client.
The client is this process: it keeps a few connections busy with plain sockets, one request at a
time on each. The endpoints take turns, and ratios are computed per round. "bare" is a constant
model that waits for a GET on a bare socket, the upper limit for a cache in Redis; in an `async def`
that wait blocks the event loop, so its limit is low. "cached" calls `predict`. "near" has a near
cache that holds every answer. "awaited" is `apredict` without a near cache, where there is one.

The three processes share the machine. With fewer CPUs than three, the constant endpoint gets the
CPU time that the store takes from the cached one, which is unfair to the library. The CPU time is
the worker's for one request. The ratio of CPU times is that of a worker that has a CPU to itself
and always has a request.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median

from benchmarks.cheap_model import inputs
from benchmarks.environment import environment, options, show
from benchmarks.tables import Table, verdict
from model_cache import RedisCachingDecorator, embedded_redis

CONSTANT, BARE, CACHED, NEAR, AWAITED = "constant", "bare", "cached", "near", "awaited"
# The models by the endpoint that calls them.
MODELS = {
    "def": (CONSTANT, BARE, CACHED, NEAR),
    "async def": (CONSTANT, BARE, CACHED, NEAR)
    + ((AWAITED,) if hasattr(RedisCachingDecorator, "apredict") else ()),
}
AT_LEAST = {
    ("def", CACHED): 0.85,
    ("def", NEAR): 0.95,
    ("async def", NEAR): 0.90,
    ("async def", AWAITED): 0.80,
}
INPUTS = 200
_START_SECONDS = 60.0
_ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class Comparison:
    """An endpoint compared with the constant one of its kind.

    Attributes:
        endpoint: "def", which runs in the thread pool, or "async def", in the event loop.
        middleware: whether both are behind the middleware.
        model: which of `MODELS` it calls.
        constant: requests per second of the constant model, the median of the rounds.
        rate: the same for this endpoint.
        ratio: of the two, the median of the rounds' ratios.
        constant_cpu: the worker's mean CPU time per request in microseconds.
        cpu: the same for this endpoint.
        cpu_ratio: the constant's CPU time to this endpoint's. It is the ratio of a worker that has
            a CPU to itself and always has a request, and depends less on other load; 0.0 where CPU
            times can't be read.
    """

    endpoint: str
    middleware: bool
    model: str
    constant: float
    rate: float
    ratio: float
    constant_cpu: float
    cpu: float
    cpu_ratio: float

    @property
    def at_least(self) -> float | None:
        """The target, if it has one."""
        return AT_LEAST.get((self.endpoint, self.model))

    @property
    def verdict(self) -> str:
        return "" if self.at_least is None else verdict(self.ratio >= self.at_least)


class Worker:
    """A running service.

    Args:
        port: its port.
        pid: its process id.
    """

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self._pid = pid

    def cpu_seconds(self) -> float:
        """Return the CPU time used so far; 0.0 where it can't be read."""
        path = Path(f"/proc/{self._pid}/stat")
        if not path.exists():
            return 0.0
        user, system = path.read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running_service(url: str) -> Iterator[Worker]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "benchmarks.service_app:app", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--no-access-log", "--log-level", "warning"],
        env={**os.environ, "BENCHMARK_STORE": url, "BENCHMARK_INPUTS": str(INPUTS)},
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(ConnectionError):
                ask(port, [get("/observed/health")], connections=1)
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the service did not start")
            time.sleep(0.05)
        yield Worker(port, process.pid)
    finally:
        process.terminate()
        process.wait()


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: service\r\n\r\n".encode()


def post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: service\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Connection:
    """A keep-alive connection for one request at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, request: bytes) -> None:
        self._received = b""
        self._socket.sendall(request)

    def receive(self) -> bytes | None:
        """Read available data; return the response's body once it is complete.

        Raises:
            RuntimeError: the status is not 200.
            ConnectionError: the service closed the connection.
        """
        received = self._socket.recv(65_536)
        if not received:
            raise ConnectionError("the service closed the connection")
        self._received += received
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if not separator or len(body) < int(length):
            return None
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(self._received.decode())
        return body


def ask(port: int, requests: Sequence[bytes], *, connections: int) -> tuple[float, bytes]:
    """Send requests over several connections, one at a time on each.

    Returns:
        The duration in seconds, and the last response's body.

    Raises:
        RuntimeError: a response's status is not 200.
        TimeoutError: the service did not respond for some seconds.
    """
    waiting, answer, asked = iter(requests), b"", 0
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        opened = [stack.enter_context(closing(Connection(port))) for _ in range(connections)]
        for connection in opened:
            selector.register(connection, selectors.EVENT_READ, connection)
        started = time.perf_counter()
        for connection, request in zip(opened, waiting, strict=False):
            connection.send(request)
            asked += 1
        while asked:
            ready = selector.select(_ANSWER_SECONDS)
            if not ready:
                raise TimeoutError("the service does not answer")
            for key, _ in ready:
                body = key.data.receive()
                if body is None:
                    continue
                answer, another = body, next(waiting, None)
                if another is None:
                    asked -= 1
                else:
                    key.data.send(another)
        return time.perf_counter() - started, answer


class Bench:
    """The endpoints with their requests and the results of their rounds.

    Args:
        worker: the service.
        count: requests per round.
        connections: requests at a time.
    """

    def __init__(self, worker: Worker, count: int, connections: int) -> None:
        self._worker = worker
        self._count = count
        self._connections = connections
        bodies = [data.model_dump_json().encode() for data in inputs(INPUTS, random.Random(1))]
        self._bodies = [bodies[number % INPUTS] for number in range(count)]

    def round(self, path: str) -> tuple[float, float]:
        """Return requests per second, and the worker's CPU time per request in microseconds."""
        requests = [post(path, body) for body in self._bodies]
        before = self._worker.cpu_seconds()
        seconds, _ = ask(self._worker.port, requests, connections=self._connections)
        cpu = self._worker.cpu_seconds() - before
        return self._count / seconds, cpu * 1e6 / self._count

    def hits(self) -> int:
        _, answer = ask(self._worker.port, [get("/observed/health")], connections=1)
        return sum(cache["hits"] for cache in json.loads(answer)["caches"])

    def compare(self, rounds: int) -> list[Comparison]:
        kinds = [(app, kind) for app in ("plain", "observed") for kind in MODELS]
        paths = [_path(app, kind, name) for app, kind in kinds for name in MODELS[kind]]
        measured: dict[str, list[tuple[float, float]]] = {path: [] for path in paths}
        for path in paths:
            self.round(path)  # a warm-up: the first requests import and connect
        before = self.hits()
        for number in range(rounds):
            for path in paths if number % 2 else reversed(paths):
                measured[path].append(self.round(path))
        hits = self.hits() - before
        caches = sum(path.endswith((CACHED, NEAR, AWAITED)) for path in paths)
        if hits != rounds * self._count * caches:
            raise RuntimeError(f"expected only hits on the cached endpoints, got {hits}")
        return [
            _compared(app, kind, name, measured)
            for app, kind in kinds
            for name in MODELS[kind]
            if name != CONSTANT
        ]


def _path(app: str, kind: str, name: str) -> str:
    return f"/{app}/{kind.partition(' ')[0]}/{name}"


def _compared(
    app: str, kind: str, name: str, measured: dict[str, list[tuple[float, float]]]
) -> Comparison:
    constant, rounds = (measured[_path(app, kind, one)] for one in (CONSTANT, name))
    constant_cpu, cpu = (mean(cpu for _, cpu in of) for of in (constant, rounds))
    return Comparison(
        endpoint=kind,
        middleware=app == "observed",
        model=name,
        constant=median(rate for rate, _ in constant),
        rate=median(rate for rate, _ in rounds),
        ratio=median(one[0] / other[0] for one, other in zip(rounds, constant, strict=True)),
        constant_cpu=constant_cpu,
        cpu=cpu,
        cpu_ratio=constant_cpu / cpu if cpu else 0.0,
    )


def main() -> None:
    chosen = options("service", __doc__, rounds=40, count=250, connections=8)
    with embedded_redis() as url, running_service(url) as worker:
        found = environment(url, "fastapi", "starlette", "uvicorn")
        compared = Bench(worker, chosen.count, chosen.connections).compare(chosen.rounds)
    table = _table(compared, chosen.connections)
    results = [{**asdict(one), "at_least": one.at_least} for one in compared]
    show(chosen, __doc__, found, [table], charts=_charts(compared), comparisons=results)


def _charts(compared: Sequence[Comparison]) -> dict[str, dict[str, float]]:
    names = {CACHED: "model_cache", NEAR: "model_cache, near", AWAITED: "model_cache, awaited"}
    charts: dict[str, dict[str, float]] = {}
    for one in compared:
        title = f"Requests a second: {one.endpoint}{', middleware' * one.middleware}"
        bars = charts.setdefault(title, {"constant": one.constant})
        bars[names.get(one.model, "bare GET")] = one.rate
    return charts


def _table(compared: Sequence[Comparison], connections: int) -> Table:
    rates = {"this": ",.0f", "constant": ",.0f", "ratio": ".2f", "at least": ".2f", "": ""}
    cpus = {"CPU, µs": ".0f", "constant's": ".0f", "constant's / this": ".2f"}
    columns = {"model": "", **rates, **cpus}
    made = Table(f"Requests a second, {connections} connections", "endpoint", columns)
    for one in compared:
        made.add(
            one.endpoint + ", middleware" * one.middleware,
            one.model,
            *(one.rate, one.constant, one.ratio, one.at_least, one.verdict),
            *(one.cpu, one.constant_cpu, one.cpu_ratio),
        )
    return made


if __name__ == "__main__":
    main()

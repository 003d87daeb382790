"""Whether the process grows: its memory after a tenth of the predictions, and after all of them.

The inputs repeat, and entries expire after a second, so hits and misses mix and the server stays
small. There are two measures: the resident set size (RSS), and what Python has allocated and not
freed (tracemalloc). RSS may grow a little, since the allocator does not return all memory at once.
"""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import redis

from benchmarks.cheap_model import CheapModel, inputs
from benchmarks.environment import (
    count_options,
    environment,
    make_console,
    print_environment,
    save,
    table,
)
from model_cache import RedisCachingDecorator, embedded_redis

MOST_RSS, MOST_ALLOCATED = 2 * 2**20, 64 * 2**10
"""The most bytes of growth to accept."""

_DISTINCT = 5_000
_STEPS = 10


@dataclass(frozen=True)
class Memory:
    """Memory in bytes, and the predictions made by then."""

    predictions: int
    hits: int
    misses: int
    rss: int
    allocated: int


def measure(cache: RedisCachingDecorator, count: int) -> Iterator[Memory]:
    """Predict, and yield the memory after each tenth."""
    rng = random.Random(1)
    known = inputs(min(_DISTINCT, count), rng)
    step = max(1, count // _STEPS)
    for _ in range(_STEPS):
        for _ in range(step):
            cache.predict(rng.choice(known))
        gc.collect()
        stats = cache.stats()
        allocated, _ = tracemalloc.get_traced_memory()
        yield Memory(stats.predictions, stats.hits, stats.misses, _rss(), allocated)


def _rss() -> int:
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    ps = ["ps", "-o", "rss=", "-p", str(os.getpid())]
    return 1024 * int(subprocess.run(ps, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    chosen = count_options("memory", __doc__, count=100_000)
    console = make_console()
    tracemalloc.start()
    with embedded_redis(tcp=True) as url:
        with redis.Redis.from_url(url) as client:
            found = environment(client)
        print_environment(console, found)
        with RedisCachingDecorator(url=url, ttl=1.0, timeout=5.0) as cache:
            cache.set_model(CheapModel())
            steps = list(measure(cache, chosen.count))
    made = table("Memory", "predictions", "hits", "misses", "RSS, MiB", "allocated, KiB")
    for step in steps:
        sizes = (f"{step.rss / 2**20:.2f}", f"{step.allocated / 2**10:,.1f}")
        made.add_row(f"{step.predictions:,}", f"{step.hits:,}", f"{step.misses:,}", *sizes)
    console.print(made)
    first, last = steps[0], steps[-1]
    growth = {"rss": last.rss - first.rss, "allocated": last.allocated - first.allocated}
    for name, most in (("rss", MOST_RSS), ("allocated", MOST_ALLOCATED)):
        verdict = "reached" if growth[name] <= most else "not reached"
        console.print(
            f"{name}: {growth[name] / 1024:+,.1f} KiB from {first.predictions:,} to "
            f"{last.predictions:,} predictions; at most {most / 1024:,.0f}: {verdict}"
        )
    save(
        chosen.json,
        {"environment": found, "steps": [asdict(step) for step in steps], "growth": growth},
    )


if __name__ == "__main__":
    main()

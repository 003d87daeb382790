"""Whether the process grows: its memory after a tenth of the predictions, and after all of them.

The inputs repeat, and entries expire after a second, so hits and misses mix and the server stays
small. There are two measures: the resident set size (RSS), and what Python has allocated and not
freed (tracemalloc). RSS may grow a little, since the allocator does not return all memory at once.
The comparison is with the process itself a while ago. It is unfair in one way: tracemalloc's own
tables count in the RSS.
"""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cheap_model import CheapModel, inputs
from benchmarks.environment import environment, options, show
from benchmarks.tables import Table, Target
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
    chosen = options("memory", __doc__, count=100_000)
    tracemalloc.start()
    with embedded_redis(tcp=True) as url:
        found = environment(url)
        with RedisCachingDecorator(url=url, ttl=1.0, timeout=5.0) as cache:
            cache.set_model(CheapModel())
            steps = list(measure(cache, chosen.count))
    columns = {"hits": ",d", "misses": ",d", "RSS, MiB": ".2f", "allocated, KiB": ",.1f"}
    table = Table("Memory", "predictions", columns)
    for step in steps:
        sizes = (step.rss / 2**20, step.allocated / 2**10)
        table.add(f"{step.predictions:,}", step.hits, step.misses, *sizes)
    first, last = steps[0], steps[-1]
    targets = [
        Target("RSS: KiB of growth", (last.rss - first.rss) / 1024, MOST_RSS / 1024),
        Target(
            "allocated: KiB of growth",
            (last.allocated - first.allocated) / 1024,
            MOST_ALLOCATED / 1024,
        ),
    ]
    show(chosen, __doc__, found, [table], targets=targets, steps=steps)


if __name__ == "__main__":
    main()

"""The hit ratio of a cache that is too small for its inputs, by eviction policy.

Requests follow Zipf's law: the second most popular input is requested half as often as the first,
the third a third as often. The server has memory for about a fifth of the inputs. Each policy gets
the same requests: a warm-up, which does not count; the same number that counts; and, after other
inputs have become the popular ones, the same number again. The bound is the ratio before the shift
of a cache that always holds the same number of the most popular inputs.

Unfair to allkeys-lfu: its counters decrease by one per minute (`lfu-decay-time`), and its part of
the run is shorter than that, so earlier popularity counts in full to the end. The ttl is longer
than the run, so nothing expires, and volatile-ttl depends only on the spread of the ttls.

Finally, the memory per entry: of one float with each serder, and of values of several sizes under
the same keys; each with and without a ttl.
"""

from __future__ import annotations

import argparse
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import redis

from benchmarks.cheap_model import CheapModel, inputs
from benchmarks.environment import environment, make_console, print_environment, save, table
from examples.insurance_charges.schemas import (
    InsuranceChargesModelInput,
    InsuranceChargesModelOutput,
)
from model_cache import RedisCachingDecorator, embedded_redis
from model_cache.entries.codec import Codec
from model_cache.entries.serders import JSON, MESSAGE_PACK

HELD = 0.2
"""The fraction of the inputs that the server has memory for."""

_DISTINCT, _ENTRIES = 50_000, 100_000
_VALUE_SIZES = (100, 400, 1000)
_TTL = 3600.0
_EXPONENT = 1.0
_AT_ONCE = 500


@dataclass(frozen=True)
class Policy:
    """An eviction policy, and whether entries have a time to live."""

    name: str
    ttl: float | None = None


POLICIES = (
    Policy("allkeys-lru"),
    Policy("allkeys-lfu"),
    Policy("allkeys-lru", _TTL),
    Policy("volatile-ttl", _TTL),
    Policy("noeviction"),
)


@dataclass(frozen=True)
class Ratios:
    """The results of a policy.

    Attributes:
        policy: its name.
        ttl: seconds that an entry lives; None: until evicted.
        before: the hit ratio before the shift.
        after: the hit ratio in the first half of the requests after the shift.
        later: the hit ratio in the second half.
        bound: the upper bound of `before` with this number of entries.
        held: entries in the server at the end.
        evicted: evicted entries, including the warm-up.
        refused: refused writes, including the warm-up.
    """

    policy: str
    ttl: float | None
    before: float
    after: float
    later: float
    bound: float
    held: int
    evicted: int
    refused: int


@dataclass(frozen=True)
class Size:
    """Bytes per entry: the key, the value, and the server's memory for both.

    Attributes:
        value: the name of the serder, or the size of the value.
        ttl: whether it has a time to live.
        key_size: the mean size of the keys.
        value_size: the mean size of the values.
        memory: the mean by `used_memory`.
    """

    value: str
    ttl: bool
    key_size: int
    value_size: int
    memory: float


class Load:
    """Requests that follow Zipf's law, the same for each policy; popularity can shift."""

    def __init__(self, asked: Sequence[InsuranceChargesModelInput], seed: int = 1) -> None:
        self._asked = list(asked)
        self._rng = random.Random(seed)
        self._weights = list(accumulate(rank**-_EXPONENT for rank in range(1, len(asked) + 1)))

    def requests(self, count: int) -> list[InsuranceChargesModelInput]:
        return self._rng.choices(self._asked, cum_weights=self._weights, k=count)

    def shift(self) -> None:
        self._rng.shuffle(self._asked)

    def share_of_most_popular(self, count: int) -> float:
        return self._weights[count - 1] / self._weights[-1] if count else 0.0


def hit_ratios(
    client: Any, url: str, policy: Policy, load: Load, requests: int, memory: int
) -> Ratios:
    """Send requests through the library: a warm-up, then as many before and after a shift."""
    empty(client)
    client.config_set("maxmemory-policy", policy.name)
    client.config_set("maxmemory", memory)
    client.config_resetstat()
    with RedisCachingDecorator(url=url, ttl=policy.ttl, timeout=5.0) as cache:
        cache.set_model(CheapModel())

        def ratio(count: int) -> float:
            before = cache.stats()
            for data in load.requests(count):
                cache.predict(data)
            after = cache.stats()
            return (after.hits - before.hits) / (after.predictions - before.predictions)

        ratio(requests)
        before = ratio(requests)
        load.shift()
        after, later = ratio(requests - requests // 2), ratio(requests // 2)
        refused = cache.stats().write_failures
    held, evicted = client.dbsize(), client.info("stats")["evicted_keys"]
    bound = load.share_of_most_popular(held)
    client.config_set("maxmemory", 0)
    return Ratios(policy.name, policy.ttl, before, after, later, bound, held, evicted, refused)


def entries_of(
    asked: Sequence[InsuranceChargesModelInput], serder: str
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the key and the value of each input's entry."""
    cache = RedisCachingDecorator(enabled=False, serder=serder).set_model(CheapModel())
    codec = Codec(InsuranceChargesModelOutput, serder=JSON if serder == "JSON" else MESSAGE_PACK)
    for data in asked:
        key = cache.cache_key(data).encode()
        yield key, codec.encode(key, cache.predict(data))


def memory_of(
    client: Any, name: str, entries: Sequence[tuple[bytes, bytes]], ttl: float | None
) -> Size:
    """Store entries, and return the server's memory per entry."""
    empty(client)
    used, count = used_memory(client), len(entries)
    for first in range(0, count, _AT_ONCE):
        pipeline = client.pipeline(transaction=False)
        for key, value in entries[first : first + _AT_ONCE]:
            pipeline.set(key, value, px=None if ttl is None else round(1000 * ttl))
        pipeline.execute()
    memory = (used_memory(client) - used) / count
    key_size = round(sum(len(key) for key, _ in entries) / count)
    value_size = round(sum(len(value) for _, value in entries) / count)
    return Size(name, ttl is not None, key_size, value_size, memory)


def sizes_of(client: Any, asked: Sequence[InsuranceChargesModelInput]) -> list[Size]:
    written = {serder: list(entries_of(asked, serder)) for serder in ("JSON", "MessagePack")}
    for size in _VALUE_SIZES:
        written[f"{size:,} bytes"] = [(key, bytes(size)) for key, _ in written["JSON"]]
    return [
        memory_of(client, name, entries, ttl)
        for name, entries in written.items()
        for ttl in (None, _TTL)
    ]


def empty(client: Any) -> None:
    client.execute_command("FLUSHALL", "SYNC")


def used_memory(client: Any) -> int:
    used: int = client.info("memory")["used_memory"]
    return used


def memory_for(client: Any, asked: Sequence[InsuranceChargesModelInput]) -> int:
    """Return the `maxmemory` for the entries of the given inputs, without a ttl."""
    memory_of(client, "JSON", list(entries_of(asked, "JSON")), None)
    return used_memory(client)


def show_ratios(console: Any, rows: Sequence[Ratios]) -> None:
    titles = ("ttl", "before", "(bound)", "after a shift", "later", "held", "evicted", "refused")
    made = table("Hit ratio, by maxmemory-policy", "policy", *titles)
    for row in rows:
        ratios = (f"{ratio:.1%}" for ratio in (row.before, row.bound, row.after, row.later))
        counts = (f"{count:,}" for count in (row.held, row.evicted, row.refused))
        made.add_row(row.policy, f"{row.ttl:g} s" if row.ttl else "none", *ratios, *counts)
    console.print(made)


def show_sizes(console: Any, sizes: Sequence[Size], count: int) -> None:
    titles = ("ttl", "key", "value", "memory", "beyond key and value")
    made = table(f"Bytes an entry, of {count:,}", "value", *titles)
    for size in sizes:
        beyond = size.memory - size.key_size - size.value_size
        numbers = (
            f"{size.key_size}",
            f"{size.value_size:,}",
            f"{size.memory:,.1f}",
            f"{beyond:.1f}",
        )
        made.add_row(size.value, "yes" if size.ttl else "no", *numbers)
    console.print(made)


def measure(client: Any, url: str, requests: int) -> tuple[list[Ratios], list[Size]]:
    rng = random.Random(1)
    asked = inputs(min(_DISTINCT, 2 * requests), rng)
    memory = memory_for(client, asked[: int(HELD * len(asked))])
    ratios = [hit_ratios(client, url, policy, Load(asked), requests, memory) for policy in POLICIES]
    stored = inputs(min(_ENTRIES, 2 * requests), rng)
    return ratios, sizes_of(client, stored)


def _at_least(least: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if not (text.isdecimal() and int(text) >= least):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least}")
        return int(text)

    return whole


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.eviction", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--requests", type=_at_least(10), default=40_000, metavar="N", help="before a shift"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    chosen = parser.parse_args()
    console = make_console()
    logging.getLogger("model_cache").setLevel(logging.ERROR)  # noeviction refuses writes
    with embedded_redis(tcp=True) as url, redis.Redis.from_url(url) as client:
        found = environment(client)
        print_environment(console, found)
        ratios, sizes = measure(client, url, chosen.requests)
    show_ratios(console, ratios)
    show_sizes(console, sizes, min(_ENTRIES, 2 * chosen.requests))
    save(
        chosen.json,
        {
            "environment": found,
            "ratios": [asdict(row) for row in ratios],
            "sizes": [asdict(size) for size in sizes],
        },
    )


if __name__ == "__main__":
    main()

"""The hit ratio of a cache that is too small for its inputs, by eviction policy.

Requests follow Zipf's law: the second most popular input is requested half as often as the first,
the third a third as often. The server has memory for about a fifth of the inputs. Each policy gets
the same requests: a warm-up, which does not count; the same number, which counts; and, after other
inputs have become popular, the same number again. The bound is the hit ratio, before the shift, of
a cache with the same number of entries that always holds the most popular inputs.

Unfair to allkeys-lfu: its counters decrease by one per minute (`lfu-decay-time`), and its part of
the run is shorter than that, so earlier popularity counts in full to the end. The ttl is longer
than the run, so nothing expires, and volatile-ttl depends only on the spread of the ttls.

Then the layouts: plain and packed entries at a quarter of the memory that all plain ones need,
after each input has been requested once.

Last, the memory that an entry takes: of one float, with each serder, packed, packed when there are
ten times as many as planned, and of values of several sizes, under the same keys; each with and
without a ttl.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import redis

from benchmarks.cheap_model import CheapModel, inputs
from benchmarks.environment import environment, options, show
from benchmarks.tables import Table
from examples.insurance_charges.schemas import (
    InsuranceChargesModelInput,
    InsuranceChargesModelOutput,
)
from model_cache import RedisCachingDecorator, embedded_redis
from model_cache.entries.codec import Codec
from model_cache.entries.serders import SERDERS
from model_cache.stores.opening import compose
from model_cache.stores.url import parse_url

HELD = 0.2
"""The fraction of the inputs that the server has memory for."""

QUARTER = 0.25
"""The share of the memory for all plain entries that both layouts get."""

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
    packed: bool = False


POLICIES = (
    Policy("allkeys-lru"),
    Policy("allkeys-lfu"),
    Policy("allkeys-lru", _TTL),
    Policy("volatile-ttl", _TTL),
    Policy("noeviction"),
)
LAYOUTS = tuple(
    Policy("allkeys-lru", ttl, packed) for ttl in (None, _TTL) for packed in (False, True)
)


@dataclass(frozen=True)
class Ratios:
    """The results of a policy.

    Attributes:
        policy: its name.
        ttl: seconds that an entry lives; None: until evicted.
        packed: whether the layout was packed.
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
    packed: bool
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
        layout: "plain", "packed", or "10 times" as many packed ones as planned.
        ttl: whether it has a time to live.
        key_size: the mean size of the keys.
        value_size: the mean size of the values.
        memory: the mean by `used_memory`.
    """

    value: str
    layout: str
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

    @property
    def distinct(self) -> int:
        return len(self._asked)

    def requests(self, count: int) -> list[InsuranceChargesModelInput]:
        return self._rng.choices(self._asked, cum_weights=self._weights, k=count)

    def each(self) -> list[InsuranceChargesModelInput]:
        return self._rng.sample(self._asked, self.distinct)

    def shift(self) -> None:
        self._rng.shuffle(self._asked)

    def share_of_most_popular(self, count: int) -> float:
        return self._weights[count - 1] / self._weights[-1] if count else 0.0


def hit_ratios(
    client: Any,
    url: str,
    policy: Policy,
    load: Load,
    requests: int,
    memory: int,
    *,
    all_first: bool = False,
) -> Ratios:
    """Send requests through the library: a warm-up, then as many before and after a shift.

    With `all_first`, the warm-up begins with each input once.
    """
    empty(client)
    client.config_set("maxmemory-policy", policy.name)
    client.config_set("maxmemory", memory)
    client.config_resetstat()
    layout: dict[str, Any] = {"fleet_stats": False}  # whose hash would count as an entry
    if policy.packed:
        layout |= {"layout": "packed", "expected_entries": load.distinct}
    with RedisCachingDecorator(url=url, ttl=policy.ttl, timeout=5.0, **layout) as cache:
        cache.set_model(CheapModel())

        def ratio(count: int) -> float:
            before = cache.stats()
            for data in load.requests(count):
                cache.predict(data)
            after = cache.stats()
            return (after.hits - before.hits) / (after.predictions - before.predictions)

        for data in load.each() if all_first else ():
            cache.predict(data)
        ratio(requests)
        before = ratio(requests)
        load.shift()
        after, later = ratio(requests - requests // 2), ratio(requests // 2)
        refused = cache.stats().write_failures
    held, evicted = entries_in(client), client.info("stats")["evicted_keys"]
    bound = load.share_of_most_popular(held)
    client.config_set("maxmemory", 0)
    return Ratios(
        policy.name,
        policy.ttl,
        policy.packed,
        before,
        after,
        later,
        bound,
        held,
        evicted,
        refused,
    )


def entries_in(client: Any) -> int:
    """Return how many entries there are, in buckets and outside of them."""
    pipeline, plain = client.pipeline(transaction=False), 0
    for key in client.scan_iter(count=1000):
        if b"/~" in key:
            pipeline.hlen(key)
        else:
            plain += 1
    packed: int = sum(pipeline.execute())
    return plain + packed


def entries_of(
    asked: Sequence[InsuranceChargesModelInput], serder: str
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the key and the value of each input's entry."""
    cache = RedisCachingDecorator(enabled=False, serder=serder).set_model(CheapModel())
    codec = Codec(InsuranceChargesModelOutput, serder=SERDERS.named(serder))
    for data in asked:
        key = cache.cache_key(data).encode()
        yield key, codec.encode(key, cache.predict(data))


def memory_of(
    client: Any,
    url: str,
    name: str,
    entries: Sequence[tuple[bytes, bytes]],
    ttl: float | None,
    layout: str = "plain",
) -> Size:
    """Store entries, and return the server's memory per entry."""
    count = len(entries)
    expected = {"plain": None, "packed": count, "10 times": max(1, count // 10)}[layout]
    lifetime = None if ttl is None else round(1000 * ttl)
    empty(client)
    used = used_memory(client)
    store = compose(parse_url("url", url), lambda _: None, timeout=5.0, expected_entries=expected)
    for first in range(0, count, _AT_ONCE):
        batch = entries[first : first + _AT_ONCE]
        store.set_many([(key, value, lifetime) for key, value in batch], 5.0)
    store.close()
    memory = (used_memory(client) - used) / count
    key_size = round(sum(len(key) for key, _ in entries) / count)
    value_size = round(sum(len(value) for _, value in entries) / count)
    return Size(name, layout, ttl is not None, key_size, value_size, memory)


def sizes_of(client: Any, url: str, asked: Sequence[InsuranceChargesModelInput]) -> list[Size]:
    serders = ("JSON", "MessagePack", "values")
    written = {serder: list(entries_of(asked, serder)) for serder in serders}
    for size in _VALUE_SIZES:
        written[f"{size:,} bytes"] = [(key, bytes([1]) * size) for key, _ in written["JSON"]]
    cases = [(name, "plain") for name in written if name != "values"]
    cases += [("values", "packed"), ("values", "10 times")]
    cases += [(f"{size:,} bytes", "packed") for size in _VALUE_SIZES]
    return [
        memory_of(client, url, name, written[name], ttl, layout)
        for name, layout in cases
        for ttl in (None, _TTL)
    ]


def empty(client: Any) -> None:
    client.execute_command("FLUSHALL", "SYNC")


def used_memory(client: Any) -> int:
    used: int = client.info("memory")["used_memory"]
    return used


def memory_for(
    client: Any,
    url: str,
    asked: Sequence[InsuranceChargesModelInput],
    share: float = 1.0,
    ttl: float | None = None,
) -> int:
    """Return the `maxmemory` for a share of what plain entries for so many inputs take."""
    empty(client)
    used = used_memory(client)
    size = memory_of(client, url, "JSON", list(entries_of(asked, "JSON")), ttl)
    return round(used + share * size.memory * len(asked))


def table_of_ratios(title: str, rows: Sequence[Ratios]) -> Table:
    ratios = dict.fromkeys(("before", "(bound)", "after a shift", "later"), ".1%")
    counts = dict.fromkeys(("held", "evicted", "refused"), ",d")
    made = Table(title, "policy", {"ttl": "", **ratios, **counts})
    for row in rows:
        name = f"{row.policy}, packed" if row.packed else row.policy
        made.add(
            name,
            f"{row.ttl:g} s" if row.ttl else "none",
            *(row.before, row.bound, row.after, row.later, row.held, row.evicted, row.refused),
        )
    return made


def table_of_sizes(sizes: Sequence[Size], count: int) -> Table:
    columns = {"layout": "", "ttl": "", "key": "d", "value": ",d", "memory": ",.1f"}
    made = Table(
        f"Bytes an entry, of {count:,}", "value", {**columns, "beyond key and value": ".1f"}
    )
    for size in sizes:
        beyond = size.memory - size.key_size - size.value_size
        kinds = (size.layout, "yes" if size.ttl else "no")
        made.add(size.value, *kinds, size.key_size, size.value_size, size.memory, beyond)
    return made


def measure(client: Any, url: str, requests: int) -> tuple[list[Ratios], list[Ratios], list[Size]]:
    rng = random.Random(1)
    asked = inputs(min(_DISTINCT, 2 * requests), rng)
    memory = memory_for(client, url, asked[: int(HELD * len(asked))])
    ratios = [hit_ratios(client, url, policy, Load(asked), requests, memory) for policy in POLICIES]
    layouts = [
        hit_ratios(
            client,
            url,
            policy,
            Load(asked),
            requests,
            memory_for(client, url, asked, QUARTER, policy.ttl),
            all_first=True,
        )
        for policy in LAYOUTS
    ]
    stored = inputs(min(_ENTRIES, 2 * requests), rng)
    return ratios, layouts, sizes_of(client, url, stored)


def main() -> None:
    chosen = options("eviction", __doc__, count=40_000)
    logging.getLogger("model_cache").setLevel(logging.ERROR)  # noeviction refuses writes
    with embedded_redis(tcp=True) as url, redis.Redis.from_url(url) as client:
        found = environment(url)
        ratios, layouts, sizes = measure(client, url, chosen.count)
    tables = [
        table_of_ratios("Hit ratio, by maxmemory-policy", ratios),
        table_of_ratios("Hit ratio at a quarter of the memory of all plain entries", layouts),
        table_of_sizes(sizes, min(_ENTRIES, 2 * chosen.count)),
    ]
    show(chosen, __doc__, found, tables, ratios=ratios, layouts=layouts, sizes=sizes)


if __name__ == "__main__":
    main()

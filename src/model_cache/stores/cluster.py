"""A Redis Cluster as a store for threads: routes each key to the node that serves its slot."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from model_cache.protocols import CountingStore, Timed, Write
from model_cache.steps import take
from model_cache.stores.guarded import State
from model_cache.stores.server import RedisStore
from model_cache.stores.slots import AskNode, Cluster, NodeSteps, WaitForTask
from model_cache.stores.url import Address

T = TypeVar("T")


class ClusterStore:
    """All nodes of a Redis Cluster.

    Args:
        cluster: finds the node of a key.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    @property
    def state(self) -> State:
        """The state of all nodes, or "partly_open" if only some are "open"."""
        return self.cluster.state

    def get(self, key: bytes, timeout: float) -> bytes | None:
        steps = self.cluster.at_owner(key, timeout, reads=True)
        entry: bytes | None = _take(steps, lambda store, _, left: store.get(key, left))
        return entry

    def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> None:
        steps = self.cluster.at_owner(key, timeout)
        _take(steps, lambda store, _, left: store.set(key, entry, ttl, left))

    def set_if_absent(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> bool:
        steps = self.cluster.at_owner(key, timeout)
        taken: bool = _take(
            steps, lambda store, _, left: store.set_if_absent(key, entry, ttl, left)
        )
        return taken

    def append(self, key: bytes, piece: bytes, timeout: float) -> int:
        steps = self.cluster.at_owner(key, timeout)
        length: int = _take(steps, lambda store, _, left: store.append(key, piece, left))
        return length

    def get_many(self, keys: Sequence[bytes], timeout: float) -> list[bytes | None]:
        steps = self.cluster.at_owners(keys, timeout)
        return in_order(keys, _take(steps, lambda store, batch, left: store.get_many(batch, left)))

    def get_with_ttl(self, keys: Sequence[bytes], timeout: float) -> list[Timed]:
        steps = self.cluster.at_owners(keys, timeout)
        answers = _take(steps, lambda store, batch, left: store.get_with_ttl(batch, left))
        return in_order(keys, answers)

    def set_watching(
        self, entries: Sequence[Write], watched: bytes, timeout: float
    ) -> bytes | None:
        deadline = time.monotonic() + timeout
        self.set_many(entries, timeout)
        # From the primary, since a replica may lag behind.
        steps = self.cluster.at_owner(watched, deadline - time.monotonic())
        value: bytes | None = _take(steps, lambda store, _, left: store.get(watched, left))
        return value

    def set_many(self, entries: Sequence[Write], timeout: float) -> None:
        by_key = {entry[0]: entry for entry in entries}
        _take(
            self.cluster.at_owners(list(by_key), timeout),
            lambda store, batch, left: store.set_many([by_key[key] for key in batch], left),
        )

    def delete(self, keys: Iterable[bytes], timeout: float) -> int:
        steps = self.cluster.at_owners(list(keys), timeout)
        answers = _take(steps, lambda store, batch, left: store.delete(batch, left))
        return sum(deleted for _, deleted in answers)

    def add_counts(
        self, key: bytes, amounts: Mapping[bytes, int], timeout: float
    ) -> Mapping[bytes, bytes]:
        steps = self.cluster.at_owner(key, timeout)
        counts: Mapping[bytes, bytes] = _take(
            steps, lambda store, _, left: store.add_counts(key, amounts, left)
        )
        return counts

    def scan(self, pattern: bytes, timeout: float) -> Iterator[bytes]:
        seen: set[bytes] = set()  # a migrating slot lists its keys on both nodes
        for _ in range(2):  # in the first pass, a key may move to a node that was scanned before
            self.cluster.refresh_now(timeout)
            for primary in self.cluster.primaries():
                for key in self.cluster.node(primary).guarded.scan(pattern, timeout):
                    if key not in seen:
                        seen.add(key)
                        yield key

    def primaries(self, timeout: float) -> dict[Address, RedisStore]:
        """Return the servers that currently serve slots, without circuit breakers."""
        self.cluster.refresh_now(timeout)
        return {each: self.cluster.node(each).server for each in self.cluster.primaries()}

    def close(self) -> None:
        self.cluster.close(lambda node: node.guarded.close())


def in_order(keys: Sequence[bytes], answers: list[tuple[list[bytes], list[T]]]) -> list[T]:
    """Return what the nodes answered for keys, in the order of the keys."""
    found: dict[bytes, T] = {}
    for batch, entries in answers:
        found.update(zip(batch, entries, strict=True))
    return [found[key] for key in keys]


def _take(steps: NodeSteps[T], request: Callable[[CountingStore, list[bytes], float], Any]) -> T:
    def perform(effect: AskNode | WaitForTask) -> Any:
        if isinstance(effect, AskNode):
            return request(effect.node.guarded, effect.keys, effect.seconds)
        return effect.task.wait(effect.seconds)

    return take(steps, perform)

"""A Redis Cluster as a store for event loops; `cluster` is for threads."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from model_cache.protocols import AsyncStore, Timed, Write
from model_cache.steps import notified, take_async
from model_cache.stores.cluster import in_order
from model_cache.stores.slots import AskNode, Cluster, NodeSteps, WaitForTask

T = TypeVar("T")


class AsyncClusterStore:
    """All nodes of a Redis Cluster.

    Args:
        cluster: finds the node of a key.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def get(self, key: bytes, timeout: float) -> bytes | None:
        steps = self._cluster.at_owner(key, timeout, reads=True)
        entry: bytes | None = await _take(steps, lambda store, _, left: store.get(key, left))
        return entry

    async def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> None:
        steps = self._cluster.at_owner(key, timeout)
        await _take(steps, lambda store, _, left: store.set(key, entry, ttl, left))

    async def set_if_absent(
        self, key: bytes, entry: bytes, ttl: int | None, timeout: float
    ) -> bool:
        steps = self._cluster.at_owner(key, timeout)
        taken: bool = await _take(
            steps, lambda store, _, left: store.set_if_absent(key, entry, ttl, left)
        )
        return taken

    async def append(self, key: bytes, piece: bytes, timeout: float) -> int:
        steps = self._cluster.at_owner(key, timeout)
        length: int = await _take(steps, lambda store, _, left: store.append(key, piece, left))
        return length

    async def get_many(self, keys: Sequence[bytes], timeout: float) -> list[bytes | None]:
        steps = self._cluster.at_owners(keys, timeout)
        answers = await _take(steps, lambda store, batch, left: store.get_many(batch, left))
        return in_order(keys, answers)

    async def get_with_ttl(self, keys: Sequence[bytes], timeout: float) -> list[Timed]:
        steps = self._cluster.at_owners(keys, timeout)
        answers = await _take(steps, lambda store, batch, left: store.get_with_ttl(batch, left))
        return in_order(keys, answers)

    async def set_watching(
        self, entries: Sequence[Write], watched: bytes, timeout: float
    ) -> bytes | None:
        deadline = time.monotonic() + timeout
        await self.set_many(entries, timeout)
        # From the primary, since a replica may lag behind.
        steps = self._cluster.at_owner(watched, deadline - time.monotonic())
        value: bytes | None = await _take(steps, lambda store, _, left: store.get(watched, left))
        return value

    async def set_many(self, entries: Sequence[Write], timeout: float) -> None:
        by_key = {entry[0]: entry for entry in entries}
        await _take(
            self._cluster.at_owners(list(by_key), timeout),
            lambda store, batch, left: store.set_many([by_key[key] for key in batch], left),
        )

    async def delete(self, keys: Iterable[bytes], timeout: float) -> int:
        steps = self._cluster.at_owners(list(keys), timeout)
        answers = await _take(steps, lambda store, batch, left: store.delete(batch, left))
        return sum(deleted for _, deleted in answers)

    def close(self) -> None:
        self._cluster.close(lambda node: node.asynchronous.close())


async def _take(
    steps: NodeSteps[T], request: Callable[[AsyncStore, list[bytes], float], Awaitable[Any]]
) -> T:
    async def perform(effect: AskNode | WaitForTask) -> Any:
        if isinstance(effect, AskNode):
            return await request(effect.node.asynchronous, effect.keys, effect.seconds)
        return await notified(effect.task.subscribe, effect.seconds)

    return await take_async(steps, perform)

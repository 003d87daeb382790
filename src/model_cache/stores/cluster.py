"""A Redis Cluster as a store, for threads and for event loops.

Each request goes to the node that serves the key's slot; `slots` finds it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast

from model_cache.errors import StoreUnavailableError
from model_cache.protocols import Store, Timed, Write
from model_cache.steps import notified, take, take_async
from model_cache.stores.guard import State, seconds_left
from model_cache.stores.nodes import Answers, AskNode, AskNodes, NodeEffect, NodeSteps
from model_cache.stores.pool import Begun
from model_cache.stores.server import SendingRedisStore
from model_cache.stores.slots import Cluster

T = TypeVar("T")


class ClusterSteps:
    """The steps of each method of a store in a cluster: which nodes it asks, and for what.

    Args:
        cluster: finds the node of a key.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._at_owner = cluster.at_owner
        self._at_owners = cluster.at_owners

    def get(self, key: bytes, timeout: float) -> NodeSteps[bytes | None]:
        return self._at_owner(key, timeout, lambda store, left: store.get(key, left), reads=True)

    def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> NodeSteps[None]:
        return self._at_owner(key, timeout, lambda store, left: store.set(key, entry, ttl, left))

    def set_if_absent(
        self, key: bytes, entry: bytes, ttl: int | None, timeout: float
    ) -> NodeSteps[bool]:
        return self._at_owner(
            key, timeout, lambda store, left: store.set_if_absent(key, entry, ttl, left)
        )

    def append(self, key: bytes, piece: bytes, timeout: float) -> NodeSteps[int]:
        return self._at_owner(key, timeout, lambda store, left: store.append(key, piece, left))

    def get_many(self, keys: Sequence[bytes], timeout: float) -> NodeSteps[list[bytes | None]]:
        steps = self._at_owners(keys, timeout, lambda store, some, left: store.get_many(some, left))
        return _in_order(keys, steps)

    def get_with_ttl(self, keys: Sequence[bytes], timeout: float) -> NodeSteps[list[Timed]]:
        steps = self._at_owners(
            keys,
            timeout,
            lambda store, some, left: store.get_with_ttl(some, left),
            first_before_others=True,
        )
        return _in_order(keys, steps)

    def set_watching(
        self, entries: Sequence[Write], watched: bytes, timeout: float
    ) -> NodeSteps[bytes | None]:
        deadline = time.monotonic() + timeout
        answers = yield from self._set(entries, timeout)
        try:
            answers.all()
            # From the primary, since a replica may lag behind. If it fails, the other half of the
            # time is for erasing the entries.
            seconds = (deadline - time.monotonic()) / 2
            asked = self._at_owner(watched, seconds, lambda store, left: store.get(watched, left))
            return (yield from asked)
        except StoreUnavailableError as error:
            error.answers = {key: None for keys, _ in answers.given for key in keys}
            raise

    def set_many(self, entries: Sequence[Write], timeout: float) -> NodeSteps[None]:
        answers = yield from self._set(entries, timeout)
        answers.all()

    def _set(self, entries: Sequence[Write], timeout: float) -> NodeSteps[Answers[None]]:
        by_key = {entry[0]: entry for entry in entries}
        return self._at_owners(
            list(by_key),
            timeout,
            lambda store, some, left: store.set_many([by_key[key] for key in some], left),
        )

    def delete(self, keys: Iterable[bytes], timeout: float) -> NodeSteps[int]:
        answers = yield from self._at_owners(
            list(keys), timeout, lambda store, some, left: store.delete(some, left)
        )
        return sum(deleted for _, deleted in answers.all())

    def add_counts(
        self, key: bytes, amounts: Mapping[bytes, int], timeout: float
    ) -> NodeSteps[Mapping[bytes, bytes]]:
        return self._at_owner(
            key, timeout, lambda store, left: store.add_counts(key, amounts, left)
        )


def _in_order(keys: Sequence[bytes], steps: NodeSteps[Answers[list[T]]]) -> NodeSteps[list[T]]:
    """Return what the nodes answer for keys, in the order of the keys."""
    answers = yield from steps
    found = {
        key: answer
        for batch, given in answers.given
        for key, answer in zip(batch, given, strict=True)
    }
    if answers.failure is not None:
        answers.failure.answers = found
    answers.all()
    return [found[key] for key in keys]


class ClusterStore:
    """All nodes of a Redis Cluster.

    Args:
        cluster: finds the node of a key.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._steps = ClusterSteps(cluster)

    @property
    def state(self) -> State:
        """The state of all nodes, or "partly_open" if only some are "open"."""
        return self.cluster.state

    def get(self, key: bytes, timeout: float) -> bytes | None:
        return take(self._steps.get(key, timeout), _perform)

    def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> None:
        take(self._steps.set(key, entry, ttl, timeout), _perform)

    def set_if_absent(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> bool:
        return take(self._steps.set_if_absent(key, entry, ttl, timeout), _perform)

    def append(self, key: bytes, piece: bytes, timeout: float) -> int:
        return take(self._steps.append(key, piece, timeout), _perform)

    def get_many(self, keys: Sequence[bytes], timeout: float) -> list[bytes | None]:
        return take(self._steps.get_many(keys, timeout), _perform)

    def get_with_ttl(self, keys: Sequence[bytes], timeout: float) -> list[Timed]:
        return take(self._steps.get_with_ttl(keys, timeout), _perform)

    def set_watching(
        self, entries: Sequence[Write], watched: bytes, timeout: float
    ) -> bytes | None:
        return take(self._steps.set_watching(entries, watched, timeout), _perform)

    def set_many(self, entries: Sequence[Write], timeout: float) -> None:
        take(self._steps.set_many(entries, timeout), _perform)

    def delete(self, keys: Iterable[bytes], timeout: float) -> int:
        return take(self._steps.delete(keys, timeout), _perform)

    def add_counts(
        self, key: bytes, amounts: Mapping[bytes, int], timeout: float
    ) -> Mapping[bytes, bytes]:
        return take(self._steps.add_counts(key, amounts, timeout), _perform)

    def scan(self, pattern: bytes, timeout: float) -> Iterator[bytes]:
        seen: set[bytes] = set()  # a migrating slot lists its keys on both nodes
        for _ in range(2):  # a key may move to a node that the first pass has already scanned
            self.cluster.refresh_now(timeout)
            for primary in self.cluster.primaries():
                for key in primary.sync.scan(pattern, timeout):
                    if key not in seen:
                        seen.add(key)
                        yield key

    def close(self) -> None:
        self.cluster.close(lambda node: node.sync.close())


class AsyncClusterStore:
    """The same for event loops."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._steps = ClusterSteps(cluster)

    def get(self, key: bytes, timeout: float) -> Awaitable[bytes | None]:
        return take_async(self._steps.get(key, timeout), _perform_async)

    def set(self, key: bytes, entry: bytes, ttl: int | None, timeout: float) -> Awaitable[None]:
        return take_async(self._steps.set(key, entry, ttl, timeout), _perform_async)

    def set_if_absent(
        self, key: bytes, entry: bytes, ttl: int | None, timeout: float
    ) -> Awaitable[bool]:
        return take_async(self._steps.set_if_absent(key, entry, ttl, timeout), _perform_async)

    def append(self, key: bytes, piece: bytes, timeout: float) -> Awaitable[int]:
        return take_async(self._steps.append(key, piece, timeout), _perform_async)

    def get_many(self, keys: Sequence[bytes], timeout: float) -> Awaitable[list[bytes | None]]:
        return take_async(self._steps.get_many(keys, timeout), _perform_async)

    def get_with_ttl(self, keys: Sequence[bytes], timeout: float) -> Awaitable[list[Timed]]:
        return take_async(self._steps.get_with_ttl(keys, timeout), _perform_async)

    def set_watching(
        self, entries: Sequence[Write], watched: bytes, timeout: float
    ) -> Awaitable[bytes | None]:
        return take_async(self._steps.set_watching(entries, watched, timeout), _perform_async)

    def set_many(self, entries: Sequence[Write], timeout: float) -> Awaitable[None]:
        return take_async(self._steps.set_many(entries, timeout), _perform_async)

    def delete(self, keys: Iterable[bytes], timeout: float) -> Awaitable[int]:
        return take_async(self._steps.delete(keys, timeout), _perform_async)

    def close(self) -> None:
        self._cluster.close(lambda node: node.asynchronous.close())


def _perform(effect: NodeEffect) -> Any:
    if isinstance(effect, AskNode):
        return effect.request(effect.node.sync, effect.seconds)
    if isinstance(effect, AskNodes):
        return _perform_at_once(effect.asks)
    return effect.task.wait(effect.seconds)


def _perform_at_once(asks: Sequence[AskNode]) -> list[Any]:
    """Send all requests, then wait for the answers."""
    deadline = time.monotonic() + asks[0].seconds  # for all, since sending may take long, too
    results = [_or_error(partial(_begin, ask, deadline)) for ask in asks]
    # Those that wait for a connection end last: the thread that has it may wait for one of these.
    for is_sent in (True, False):
        results = [
            _or_error(each.end) if isinstance(each, Begun) and each.is_sent is is_sent else each
            for each in results
        ]
    return results


def _begin(ask: AskNode, deadline: float) -> Begun[Any]:
    # A request returns what the store's method returns: here, what waits for the answer.
    store = cast(Store, SendingRedisStore(ask.node.sync))
    begun = ask.request(store, seconds_left(deadline, time.monotonic))
    return cast(Begun[Any], begun)


def _or_error(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except StoreUnavailableError as error:
        return error


async def _perform_async(effect: NodeEffect) -> Any:
    if isinstance(effect, AskNode):
        # A request returns what the store's method returns: here, an awaitable.
        asked = effect.request(cast(Store, effect.node.asynchronous), effect.seconds)
        return await cast(Awaitable[Any], asked)
    if isinstance(effect, AskNodes):
        answers = await asyncio.gather(*map(_perform_async, effect.asks), return_exceptions=True)
        return list(map(_answered, answers))
    return await notified(effect.task.subscribe, effect.seconds)


def _answered(answer: Any) -> Any:
    if isinstance(answer, BaseException) and not isinstance(answer, StoreUnavailableError):
        raise answer
    return answer

"""The nodes of a Redis Cluster, and the effects that the steps of a request yield to its driver."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from model_cache.errors import StoreUnavailableError, may_arrive
from model_cache.protocols import Store
from model_cache.stores.server import AsyncRedisStore, RedisStore
from model_cache.stores.threads import Task
from model_cache.stores.url import Address

T = TypeVar("T")


class Node(NamedTuple):
    """The stores of one server in one role, for threads and for event loops."""

    sync: RedisStore
    asynchronous: AsyncRedisStore

    def close(self) -> None:
        """Close all connections to it."""
        self.sync.close()
        self.asynchronous.close()


class Shard(NamedTuple):
    """The nodes that serve a range of slots."""

    primary: Address
    replicas: tuple[Address, ...]


class AskNode(NamedTuple):
    """Send a request to a node; the result is its answer.

    Attributes:
        node: the node.
        request: calls a method of one of its stores with a timeout, and returns what the method
            returns: the answer, or what waits for it.
        seconds: the timeout.
    """

    node: Node
    request: Callable[[Store, float], Any]
    seconds: float


class AskNodes(NamedTuple):
    """Send requests to several nodes at the same time.

    The result is a list with the answer to each, or the `StoreUnavailableError`.

    Attributes:
        asks: the requests, at least one.
    """

    asks: Sequence[AskNode]


class WaitForTask(NamedTuple):
    """Wait for a task, at most for the given seconds."""

    task: Task
    seconds: float


class Answers(Generic[T]):
    """What the nodes have answered.

    Attributes:
        given: the keys that a node was asked for, each time with its answer.
        failure: the error, if a node failed; one of a request that may still arrive, if any may.
    """

    def __init__(self) -> None:
        self.given: list[tuple[list[bytes], T]] = []
        self.failure: StoreUnavailableError | None = None

    def failed(self, error: StoreUnavailableError) -> None:
        """Record the error of a node."""
        if self.failure is None or not may_arrive(self.failure):
            self.failure = error

    def all(self) -> list[tuple[list[bytes], T]]:
        """Return the answers of all nodes.

        Raises:
            StoreUnavailableError: a node failed.
        """
        failure, self.failure = self.failure, None
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # its traceback refers to this frame
        return self.given


Batch: TypeAlias = tuple[Address, list[bytes]]
RequestAbout: TypeAlias = Callable[[Store, list[bytes], float], T]
NodeEffect: TypeAlias = AskNode | AskNodes | WaitForTask
NodeSteps: TypeAlias = Generator[NodeEffect, Any, T]


def about(request: RequestAbout[T], keys: list[bytes]) -> Callable[[Store, float], T]:
    """Return the request to a node about some of its keys."""
    return lambda store, left: request(store, keys, left)

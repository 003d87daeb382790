"""The slots of a Redis Cluster: routes each key to the node that serves its slot.

Each node has its own stores and circuit breakers, so losing a shard affects only its own keys. A
background thread refreshes the slot table whenever a reply shows that it has changed, and
periodically, since replicas join without notice. Only the first prediction waits for it.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from model_cache.errors import StoreUnavailableError, said_by
from model_cache.forks import renew_after_fork
from model_cache.interruptions import reraise_interruption
from model_cache.protocols import Clock, Store
from model_cache.stores.connection import printable
from model_cache.stores.guard import Guard, State, seconds_left
from model_cache.stores.nodes import (
    Answers,
    AskNode,
    AskNodes,
    Batch,
    Node,
    NodeSteps,
    RequestAbout,
    Shard,
    WaitForTask,
    about,
)
from model_cache.stores.replies import RedirectedError, Role
from model_cache.stores.server import RedisStore
from model_cache.stores.threads import Task
from model_cache.stores.url import Address

T = TypeVar("T")

_MOST_REDIRECTIONS = 5
# Not bounded by a prediction's timeout: slots are fetched in the background.
_SLOTS_TIMEOUT = 1.0
_BETWEEN_REFRESHES = 0.1
_LONGEST_BETWEEN_REFRESHES = 60.0
# The share of the remaining time: a replica that hangs must leave enough for the primary.
_SHARE_OF_REPLICA = 0.5

# Not the module's generator: a model may have seeded it.
_draw = random.SystemRandom().randrange


class Cluster:
    """The nodes of a Redis Cluster and the slots that they serve.

    Args:
        nodes: the nodes to fetch the slots from first; any subset of the cluster.
        open_node: creates the stores for a node.
        clock: seconds, as `time.monotonic`.
        guard: the circuit breakers for fetching the slots until some are known.
        replicas: whether to also read from replicas, falling back to the primary.
        draw: returns a random number below its argument.
        refresh_after: seconds after which to fetch the slots again.
    """

    def __init__(
        self,
        nodes: Iterable[Address],
        open_node: Callable[[Address, Role], Node],
        clock: Clock,
        guard: Guard,
        *,
        replicas: bool,
        draw: Callable[[int], int] = _draw,
        refresh_after: float = _LONGEST_BETWEEN_REFRESHES,
    ) -> None:
        self._draw = draw
        self._guard = guard
        self._startup_nodes = tuple(nodes)
        self._open_node = open_node
        self._clock = clock
        self._reads_replicas = replicas
        self._refresh_after = refresh_after
        self._nodes: dict[tuple[Address, Role], Node] = {}
        self._slots: list[Shard | None] = []
        self._failure = ""  # why the last node that was asked for the slots did not return them
        # When the last refresh began, and when the last successful one did.
        self._refreshed = self._learnt = -1e9
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Drop the parent's thread and replace the lock."""
        self._lock = threading.RLock()
        self._refreshing: Task | None = None

    @property
    def state(self) -> State:
        """The state of all nodes, or "partly_open" if only some are "open".

        Replicas are included only if the store reads from them.
        """
        if not self._slots:
            return self._guard.state
        shards = {shard for shard in self._slots if shard}
        used: set[tuple[Address, Role]] = {(shard.primary, "primary") for shard in shards}
        if self._reads_replicas:
            used |= {(address, "replica") for shard in shards for address in shard.replicas}
        nodes = [self._nodes.get(each) for each in used]
        states = {node.sync.state if node else "closed" for node in nodes}
        if states == {"open"}:
            return "open"
        if "open" in states:
            return "partly_open"
        return "read_only" if "read_only" in states else "closed"

    def at_owner(
        self,
        key: bytes,
        timeout: float,
        request: Callable[[Store, float], T],
        *,
        reads: bool = False,
    ) -> NodeSteps[T]:
        """Ask the node that serves a key, following redirections, within `timeout`."""
        deadline = self._clock() + timeout
        slot: int = key_slot(key)
        shard = yield from self._owner(slot, deadline)
        address, role = self._choose(shard, reads=reads and self._reads_replicas)
        for _ in range(_MOST_REDIRECTIONS):
            left = seconds_left(deadline, self._clock)
            try:
                if role == "replica":
                    left *= _SHARE_OF_REPLICA
                answer: T = yield AskNode(self._node(address, role), request, left)
                return answer
            except RedirectedError as error:
                # An empty host means the node that sent the redirection.
                address = Address(error.address.host or address.host, error.address.port)
                role = "primary" if error.for_good else "asking"
                if error.for_good:
                    self._slots[slot] = Shard(address, ())
                    self._refresh_soon()
            except StoreUnavailableError as error:
                if role != "replica":
                    self._refresh_soon()  # a replica may have been promoted
                    raise
                if error.kind != "circuit_open":
                    self._refresh_soon()
                address, role = shard.primary, "primary"
        raise StoreUnavailableError("too many redirections", "redirected")

    def at_owners(
        self,
        keys: Sequence[bytes],
        timeout: float,
        request: RequestAbout[T],
        *,
        first_before_others: bool = False,
    ) -> NodeSteps[Answers[T]]:
        """Ask each node for its keys; retry a key that has moved on its own.

        Args:
            keys: the keys.
            timeout: seconds, for all of it.
            request: asks a node for some of the keys.
            first_before_others: whether the node of the first key answers before others are asked.
        """
        deadline = self._clock() + timeout
        answers = Answers[T]()
        batches = yield from self._batches(keys, deadline, answers)
        groups = [batches[:1], batches[1:]] if first_before_others else [batches]
        for group in filter(None, groups):
            for key in (yield from self._at_once(group, deadline, request, answers)):
                steps = self.at_owner(key, deadline - self._clock(), about(request, [key]))
                try:
                    answers.given.append(([key], (yield from steps)))
                except StoreUnavailableError as error:
                    answers.failed(error)
        return answers

    def _batches(
        self, keys: Sequence[bytes], deadline: float, answers: Answers[Any]
    ) -> NodeSteps[list[Batch]]:
        """Return the keys of each primary."""
        batches: dict[Address, list[bytes]] = {}
        for key in keys:
            try:
                shard = yield from self._owner(key_slot(key), deadline)
                batches.setdefault(shard.primary, []).append(key)
            except StoreUnavailableError as error:
                if not self._slots:
                    raise
                answers.failed(error)
        return list(batches.items())

    def _at_once(
        self,
        batches: Sequence[Batch],
        deadline: float,
        request: RequestAbout[T],
        answers: Answers[T],
    ) -> NodeSteps[list[bytes]]:
        """Ask nodes at the same time; return the keys that have moved."""
        left = seconds_left(deadline, self._clock)
        asks = [AskNode(self._node(one), about(request, keys), left) for one, keys in batches]
        moved: list[bytes] = []
        for (_, keys), result in zip(batches, (yield AskNodes(asks)), strict=True):
            if isinstance(result, RedirectedError):
                moved += keys
            elif isinstance(result, StoreUnavailableError):
                answers.failed(result)
                self._refresh_soon()  # a replica may have been promoted
            else:
                answers.given.append((keys, result))
        return moved

    def primaries(self) -> list[Node]:
        """Return the primaries that served slots at the last refresh."""
        addresses = {shard.primary for shard in self._slots if shard}
        return [self._node(address) for address in sorted(addresses)]

    def close(self, close_node: Callable[[Node], None]) -> None:
        """Close all open nodes."""
        for node in list(self._nodes.values()):
            close_node(node)

    def refresh_now(self, timeout: float) -> None:
        """Refresh the slots and wait for it, because a shard may have joined unnoticed."""
        asked = self._clock()
        deadline = max(asked, self._refreshed + _BETWEEN_REFRESHES) + timeout
        while self._learnt < asked:
            task = self._refresh_soon()
            left = deadline - self._clock()
            if left <= 0:
                raise StoreUnavailableError(self._no_answer("in time"), "timeout")
            if task is None:
                time.sleep(min(left, _BETWEEN_REFRESHES))
            else:
                task.wait(left)

    def _choose(self, shard: Shard, *, reads: bool) -> tuple[Address, Role]:
        if reads and shard.replicas:
            number = self._draw(1 + len(shard.replicas))
            if number:
                return shard.replicas[number - 1], "replica"
        return shard.primary, "primary"

    def _node(self, address: Address, role: Role = "primary") -> Node:
        """Return a node, opened if necessary."""
        node = self._nodes.get((address, role))
        if node is None:
            with self._lock:
                node = self._nodes.get((address, role)) or self._open_node(address, role)
                self._nodes[address, role] = node
        return node

    def _owner(self, slot: int, deadline: float) -> NodeSteps[Shard]:
        if not self._slots:
            yield from self._look_for_slots(deadline)
        shard = self._slots[slot] if self._slots else None
        if shard is None:
            self._refresh_soon()
            problem = "no node serves the key's slot" if self._slots else self._no_answer()
            raise StoreUnavailableError(problem, "no_slot")
        if self._clock() > self._refreshed + self._refresh_after:
            self._refresh_soon()
        return shard

    def _look_for_slots(self, deadline: float) -> NodeSteps[None]:
        breaker = self._guard.reads
        if not breaker.allows():
            raise StoreUnavailableError(self._no_answer(), "circuit_open")
        task = self._refresh_soon()
        if task is not None:
            yield WaitForTask(task, max(0.0, deadline - self._clock()))
        if self._slots:
            self._guard.succeeded(breaker)
        else:
            place = ",".join(map(str, self._startup_nodes))
            lost = StoreUnavailableError(f"{place}: {self._no_answer()}", "no_slot")
            self._guard.failed(breaker, lost)

    def _no_answer(self, when: str = "") -> str:
        problem = f"no node of the cluster answers {when}".rstrip()
        return f"{problem}: {self._failure}" if self._failure else problem

    def _refresh_soon(self) -> Task | None:
        """Refresh the slots on a thread; at most one at a time, and not too often."""
        with self._lock:
            if self._refreshing is not None and not self._refreshing.is_done:
                return self._refreshing
            if self._clock() - self._refreshed < _BETWEEN_REFRESHES:
                return None
            self._refreshed = self._clock()
            task = Task(self._refresh)
            try:
                task.start()
            except RuntimeError as error:  # no more threads, or the interpreter is shutting down
                reraise_interruption(error)
                return None
            self._refreshing = task
            return task

    def _refresh(self) -> None:
        started = self._clock()
        known = [shard.primary for shard in self._slots if shard]
        known += [address for shard in self._slots if shard for address in shard.replicas]
        for address in dict.fromkeys([*known, *self._startup_nodes]):
            try:
                self._slots = slots_of(self._node(address).sync, address, _SLOTS_TIMEOUT)
            except Exception as error:
                self._failure = said_by(error)
                continue
            self._failure = ""
            self._learnt = started
            self._forget_strangers()
            return

    def _forget_strangers(self) -> None:
        """Close the nodes that have left the cluster."""
        members = {*self._startup_nodes}
        for shard in {shard for shard in self._slots if shard}:
            members |= {shard.primary, *shard.replicas}
        for address, role in list(self._nodes):
            if address not in members:
                self._nodes.pop((address, role)).close()


def slots_of(server: RedisStore, address: Address, timeout: float) -> list[Shard | None]:
    """Return the shard of each slot, from a node at an address.

    Raises:
        StoreUnavailableError: it does not answer, is not a node of a cluster, or knows no slots.
    """
    reply = server.execute(timeout, b"CLUSTER", b"SLOTS")
    try:
        return _slots(reply, address)
    except Exception as error:
        reraise_interruption(error)
        problem = "no slots are assigned" if reply == [] else printable(reply)
        raise StoreUnavailableError(f"{address}: {problem}", "protocol") from error


def _slots(reply: Any, asked: Address) -> list[Shard | None]:
    slots: list[Shard | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
    for first, last, *nodes in reply:
        primary, *replicas = [
            Address(host.decode() if host not in (None, b"", b"?") else asked.host, port)
            for host, port, *_ in nodes
        ]
        shard = Shard(primary, tuple(replicas))
        slots[first : last + 1] = [shard] * (last + 1 - first)
    if not any(slots):
        raise ValueError("no slots")
    return slots

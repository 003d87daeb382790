"""Where the entries of a cache are: its connections, its near cache, and its background work.

Any number of models may share a backend. A cache that is turned off has another kind of it.
"""

from __future__ import annotations

import asyncio
import time
from asyncio import _get_running_loop
from collections.abc import Callable
from typing import Any, Protocol

from model_cache.keys.key import Namespace
from model_cache.observing.events import Hook
from model_cache.options.config import Config
from model_cache.prediction.background import BackgroundWriter
from model_cache.prediction.barrier import barrier_at
from model_cache.prediction.fleet_statistics import FleetStatistics
from model_cache.prediction.generation import new_value
from model_cache.prediction.lease import LeaseKeeper
from model_cache.prediction.look_up import LookUps
from model_cache.prediction.near import NearCache
from model_cache.prediction.recording import flush_recorders
from model_cache.prediction.verifying import MOST_VERIFIED
from model_cache.stores.opening import compose_both
from model_cache.stores.purging import delete_all, unless_full

# The timeout of each round trip of a purge, in seconds; a purge is not part of a prediction.
_PURGE_TIMEOUT = 5.0


class Backend(Protocol):
    """What can be done with the entries of a cache besides predicting."""

    def purge(self, namespace: Namespace) -> int:
        """Delete the entries of a namespace; return how many there were."""
        ...

    def ping(self, namespace: Namespace) -> float:
        """Return how many seconds the store takes to answer a read."""
        ...

    async def aping(self, namespace: Namespace) -> float:
        """Do the same as `ping`, on the connection of the running event loop."""
        ...

    @property
    def state(self) -> str:
        """Return the value of `Stats.store`."""
        ...

    def close(self) -> None:
        """Finish the background work and close the connections, which reopen on demand."""
        ...

    def close_in_loop(self) -> None:
        """Close the connections of event loops."""
        ...


class RedisBackend:
    """Entries in Redis, with the near cache in front of it.

    Args:
        config: the options.
        hook: receives rare events.
        longest_ttl: the longest time that a packed entry may claim to have left, in
            milliseconds; None for any.

    Attributes:
        timeout: the most seconds that a prediction may spend on the store.
        stores: the store, for threads and for event loops.
        barrier: the process's barrier for the store.
        near: the near cache; None for none.
        look_ups: finds entries in the near cache and in the store.
        leases: renews the leases of the fleet.
        fleet: adds the counts of this process to those of the fleet.
        workers: work in the background, by what it is.
    """

    def __init__(self, config: Config, hook: Hook, longest_ttl: int | None) -> None:
        endpoint = config.endpoint
        self.timeout = config.timeout
        self.stores = compose_both(
            endpoint,
            hook,
            timeout=config.timeout,
            max_connections=config.max_connections,
            max_connection_age=config.max_connection_age,
            credential_provider=config.credential_provider,
            address_map=config.address_map,
            expected_entries=config.expected_entries,
            longest_ttl=longest_ttl,
        )
        place = "embedded" if endpoint.embedded else f"{endpoint}/{endpoint.database}"
        self.barrier = barrier_at(place)
        self.near = _near_cache(config)
        self.look_ups = LookUps(
            self.near,
            self.barrier,
            config.timeout,
            reads_replicas=endpoint.replicas,
            is_one_server=not (endpoint.cluster or endpoint.proxied),
        )
        self.leases = LeaseKeeper(self.stores.sync)
        # Before the writers, since what comes later is finished first at the end of the process.
        self.fleet = FleetStatistics(self.stores.sync, config.timeout)
        self.workers = {
            "write": BackgroundWriter(),
            "revalidate": BackgroundWriter(),
            "verify": BackgroundWriter(max_jobs=MOST_VERIFIED),
        }

    def purge(self, namespace: Namespace) -> int:
        self.look_ups.forget()
        # The writes of a running event loop can't end while this blocks it.
        wait = _PURGE_TIMEOUT if _get_running_loop() is None else 0.0
        self.barrier.purge(namespace.holds, wait)
        with unless_full():
            self._begin_generation(namespace)  # no process stores what it has computed by now
        store = self.stores.sync
        found = store.scan(namespace.pattern, _PURGE_TIMEOUT)
        deleted = delete_all(store, filter(namespace.holds, found), _PURGE_TIMEOUT)
        self._begin_generation(namespace)  # no process serves what it has read by now
        self.look_ups.forget()
        self.barrier.purged()
        return deleted

    def _begin_generation(self, namespace: Namespace) -> None:
        generation, value = self.look_ups.generations.of(namespace), new_value()
        self.stores.sync.set(generation.key, value, None, _PURGE_TIMEOUT)
        generation.changed(value, time.perf_counter())

    def ping(self, namespace: Namespace) -> float:
        began = time.perf_counter()
        self.stores.sync.get(namespace.raw, self.timeout)  # not the key of any entry
        return time.perf_counter() - began

    async def aping(self, namespace: Namespace) -> float:
        began = time.perf_counter()
        await self.stores.asynchronous.get(namespace.raw, self.timeout)
        return time.perf_counter() - began

    @property
    def state(self) -> str:
        return self.stores.sync.state

    def close(self) -> None:
        for worker in self.workers.values():
            worker.flush()
        flush_recorders()
        self.fleet.flush()
        self.stores.sync.close()
        self.close_in_loop()

    def close_in_loop(self) -> None:
        self.stores.asynchronous.close()


class DisabledBackend:
    """The backend of a cache that is turned off: there are no entries."""

    def purge(self, namespace: Namespace) -> int:  # noqa: ARG002 - as Backend's
        return 0

    def ping(self, namespace: Namespace) -> float:  # noqa: ARG002 - as Backend's
        return 0.0

    async def aping(self, namespace: Namespace) -> float:
        return self.ping(namespace)

    @property
    def state(self) -> str:
        return "off"

    def close(self) -> None:
        flush_recorders()

    def close_in_loop(self) -> None:
        return None


class Sharing(Protocol):
    """A `Cache`, which shares its backend with all that it wraps."""

    @property
    def backend(self) -> RedisBackend | DisabledBackend: ...

    def join(self, member: Any) -> None: ...


def open_backend(
    config: Config, hook: Hook, *, shared: bool = False
) -> RedisBackend | DisabledBackend:
    """Return the backend for options, without connecting to Redis.

    Args:
        config: the options.
        hook: receives rare events.
        shared: whether models with other options, such as a longer ttl, may use it.
    """
    if not config.enabled:
        return DisabledBackend()
    return RedisBackend(config, hook, None if shared else _longest_ttl(config))


async def closed_in_a_thread(close: Callable[[], None]) -> None:
    """Call what closes a backend without blocking the running event loop."""
    try:
        closing = asyncio.get_running_loop().run_in_executor(None, close)
    except RuntimeError:  # the loop's threads have ended
        close()
    else:
        await closing


def _near_cache(config: Config) -> NearCache | None:
    if config.near_cache is None:
        return None
    return NearCache(config.near_cache, config.near_cache_bytes, config.near_ttl)


def _longest_ttl(config: Config) -> int | None:
    if config.longest_ttl is None:
        return None
    return config.longest_ttl + max(config.stale_if_error or 0, config.stale_while_revalidate or 0)

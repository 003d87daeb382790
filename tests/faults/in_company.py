"""Faults of a Redis Cluster, a Sentinel pair and Twemproxy."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import trustme
from redis.crc import key_slot

from model_cache import RedisCachingDecorator
from tests.faults.load import INPUTS, Load, Row, Run, wait_until
from tests.faults.topologies import (
    Cluster,
    SentinelPair,
    Twemproxy,
    answers,
    cut_off_from_primary,
    running_cluster,
    running_sentinel_pair,
    running_twemproxy,
)
from tests.servers import Server
from tests.tls import tls_in_front_of


@contextlib.contextmanager
def load_on_cluster(run: Run, *, full_coverage: bool = False) -> Iterator[tuple[Cluster, Load]]:
    with (
        running_cluster(full_coverage=full_coverage) as cluster,
        run.load(RedisCachingDecorator(url=cluster.url)) as load,
    ):
        yield cluster, load


def slot_of(load: Load, number: int) -> int:
    slot: int = key_slot(load.key(number).encode())
    return slot


def shard_of(cluster: Cluster, number: int) -> tuple[Server, Server]:
    """Return a primary and its replica, as they were built."""
    half = len(cluster.nodes) // 2
    return cluster.nodes[number], cluster.nodes[number + half]


def primary_killed(run: Run) -> None:
    with load_on_cluster(run) as (cluster, load):
        primary, replica = shard_of(cluster, 0)
        primary.kill()
        wait_until(
            lambda: cluster.works() and cluster.primary_of(0) is replica, "the replica took over"
        )
        run.recovers(load)
        primary.start()
        wait_until(cluster.is_whole, "the old primary is a replica")
        run.lasts()
        run.recovers(load)


def primary_frozen(run: Run) -> None:
    with load_on_cluster(run) as (cluster, load):
        primary, replica = shard_of(cluster, 0)
        primary.freeze()
        wait_until(
            answers(lambda: cluster.primary_of(0, cluster.nodes[1]) is replica),
            "the replica took over",
        )
        run.recovers(load)
        primary.thaw()
        wait_until(cluster.is_whole, "the old primary is a replica")
        run.lasts()
        run.recovers(load)


def slots_moved(run: Run) -> None:
    with load_on_cluster(run) as (cluster, load):
        slots = sorted({slot_of(load, number) for number in range(len(INPUTS))})
        for slot in itertools.islice(
            itertools.cycle(slots), round(len(slots) * (run.seconds + 0.5))
        ):
            source = cluster.primary_of(slot)
            target = next(node for node in cluster.nodes[:3] if node is not source)
            cluster.move(slot, target, losing=bool(slot % 2))
            time.sleep(0.01)
        run.recovers(load)


def shard_lost(run: Run) -> None:
    with load_on_cluster(run) as (cluster, load):
        first_slots = range(16_384 // 3 - 1)
        others = [
            number for number in range(len(INPUTS)) if slot_of(load, number) not in first_slots
        ]
        assert 0 < len(others) < len(INPUTS)
        for node in shard_of(cluster, 0):
            node.kill()
        run.lasts()
        run.recovers(load, others)  # at once: they were never gone
        run.lasts(2)
        assert load.decorator.stats().store == "partly_open"


def cluster_down(run: Run) -> None:
    with load_on_cluster(run, full_coverage=True) as (cluster, load):
        for node in cluster.nodes:
            node.kill()
        run.lasts()
        assert load.decorator.stats().store != "closed"
        for node in cluster.nodes:
            node.start()
        wait_until(cluster.works, "the cluster works again")
        run.recovers(load)


def replicas_lost(run: Run) -> None:
    with (
        running_cluster(password="secret") as cluster,
        run.load(RedisCachingDecorator(url=f"{cluster.url}?replicas=true")) as load,
    ):
        frozen, cut_off, killed = cluster.nodes[3:]
        frozen.freeze()
        run.lasts()
        run.recovers(load)
        frozen.thaw()
        cut_off_from_primary(cut_off, cluster.password)
        run.lasts()
        run.recovers(load)
        killed.kill()
        # At once: later, the cluster itself no longer names the replica.
        wait_until(lambda: load.decorator.stats().store == "partly_open", "it knows")
        run.lasts()
        run.recovers(load)
        wait_until(lambda: _answers(load.decorator), "the primaries answer instead")


def _answers(decorator: RedisCachingDecorator) -> bool:
    """Return whether a hundred hits come without a failure of the store."""
    before = decorator.stats()
    wait_until(lambda: decorator.stats().hits >= before.hits + 100, "a hundred hits")
    return decorator.stats().unavailable == before.unavailable


def certificates_removed(run: Run) -> None:
    """Remove the authorities' file, then move slots to a node that is new."""
    authority = trustme.CA()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.ExitStack() as stack,
        running_cluster() as cluster,
    ):
        path = Path(folder) / "ca.pem"
        authority.cert_pem.write_to_path(str(path))
        addresses: dict[int, int] = {}

        def encrypt(node: Server) -> None:
            proxy = tls_in_front_of(node, authority, "localhost")
            addresses[node.port] = stack.enter_context(proxy)

        for node in cluster.nodes:
            encrypt(node)
        decorator = RedisCachingDecorator(
            url=f"rediss+cluster://localhost:{addresses[cluster.nodes[0].port]}"
            f"?ssl_ca_certs={path}",
            address_map=lambda at: ("localhost", addresses.get(at[1], at[1])),
        )
        with run.load(decorator) as load:
            path.unlink()
            new = cluster.add_node()
            encrypt(new)
            for slot in {slot_of(load, number) for number in range(0, len(INPUTS), 6)}:
                cluster.move(slot, new)
            run.lasts()
            run.recovers(load)


@contextlib.contextmanager
def load_on_sentinels(run: Run) -> Iterator[tuple[SentinelPair, Load]]:
    with (
        running_sentinel_pair() as pair,
        run.load(RedisCachingDecorator(url=pair.url)) as load,
    ):
        yield pair, load


def failed_over(run: Run) -> None:
    with load_on_sentinels(run) as (pair, load):
        first, second = pair.servers
        pair.fail_over()
        wait_until(lambda: pair.has_primary(second), "the replica took over")
        with second.client() as client:
            client.flushall()  # so that a hit is one from the new primary
        run.recovers(load)
        wait_until(lambda: pair.is_replica(first), "the old primary is a replica")
        run.lasts()
        run.recovers(load)


def primary_killed_and_back(run: Run) -> None:
    with load_on_sentinels(run) as (pair, load):
        first, second = pair.servers
        first.kill()
        wait_until(lambda: pair.has_primary(second), "the replica took over")
        run.recovers(load)
        first.start()  # as a primary, until the Sentinels tell it otherwise
        run.lasts()
        wait_until(lambda: pair.is_replica(first), "the old primary is a replica")
        run.recovers(load)


@contextlib.contextmanager
def load_on_twemproxy(run: Run) -> Iterator[tuple[Twemproxy, Load]]:
    with (
        running_twemproxy() as proxy,
        run.load(RedisCachingDecorator(url=proxy.url, proxied=True)) as load,
    ):
        yield proxy, load


def one_shard_down(run: Run) -> None:
    with load_on_twemproxy(run) as (proxy, load):
        proxy.servers[0].kill()
        run.lasts()
        run.recovers(load)  # the other has all keys now
        proxy.servers[0].start()
        run.lasts(2)
        run.recovers(load)


def proxy_restarted(run: Run) -> None:
    with load_on_twemproxy(run) as (proxy, load):
        proxy.kill()
        run.lasts()
        proxy.start()
        run.recovers(load)


CLUSTER, SENTINEL, TWEMPROXY = "cluster of six", "Sentinel pair", "Twemproxy, two servers"
ROWS = (
    Row("primary killed, then back", CLUSTER, primary_killed, recovers_within=5),
    Row("primary frozen, then back", CLUSTER, primary_frozen, recovers_within=5, in_short=False),
    Row("slots moved", CLUSTER, slots_moved, recovers_within=5),
    Row("a shard lost for good", CLUSTER, shard_lost, recovers_within=5),
    Row("all nodes killed, then back", CLUSTER, cluster_down, recovers_within=5, in_short=False),
    Row("replicas frozen, MASTERDOWN, killed", CLUSTER, replicas_lost, recovers_within=5),
    Row(
        "CA file removed, a new node",
        CLUSTER,
        certificates_removed,
        recovers_within=5,
        in_short=False,
    ),
    Row("failover", SENTINEL, failed_over, recovers_within=5, in_short=False),
    Row("primary killed, back as replica", SENTINEL, primary_killed_and_back, recovers_within=5),
    Row("one shard down, then back", TWEMPROXY, one_shard_down, recovers_within=5),
    Row("proxy restarted", TWEMPROXY, proxy_restarted),
)

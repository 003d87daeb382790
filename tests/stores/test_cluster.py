"""One url for a Redis Cluster: the same promises as on one server."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from contextvars import copy_context
from typing import Any

import pytest
from redis.crc import key_slot

from model_cache import RedisCachingDecorator, record_outcomes, refresh
from model_cache.errors import StoreUnavailableError
from model_cache.keys.buckets import Buckets
from model_cache.observing.events import Event, StoreLost
from model_cache.prediction.barrier import _barriers
from model_cache.stores.opening import compose
from model_cache.stores.url import parse_url
from tests.faults.load import wait_until
from tests.faults.topologies import (
    Cluster,
    cut_off_from_primary,
    running_cluster,
)
from tests.inside import inside
from tests.models import Charges, FunctionModel, charge, person
from tests.servers import Server, free_port
from tests.stored import entries
from tests.stores.caching import (
    COUNT,
    PACKED,
    PASSWORD,
    TIMEOUT,
    assert_caches,
    assert_predicts_without_cache,
    decorated,
    entries_on,
    predict_all,
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(password=PASSWORD) as cluster:
        yield cluster


def primaries(cluster: Cluster) -> Sequence[Server]:
    return [cluster.primary_of(slot) for slot in (0, 8_000, 16_383)]


def test_a_cluster_is_one_cache(cluster: Cluster) -> None:
    with decorated(cluster.url, "one_cache") as decorator:
        assert_caches(decorator)
    shares = [entries_on(node, "one_cache") for node in primaries(cluster)]
    assert sum(shares) == COUNT
    assert all(shares)


def test_single_entries_are_written_read_and_forgotten(cluster: Cluster) -> None:
    inputs = [person(age=age) for age in range(20)]  # on all shards
    with decorated(cluster.url, "single_entries", near_cache=100) as cache:
        for data in inputs:
            assert cache.store(data, charge(data))
            assert cache.lookup(data) == charge(data)
            assert cache.forget(data)
            assert not asyncio.run(cache.aforget(data))
            assert cache.lookup(data) is None


def test_a_purge_reaches_all_shards_and_no_other_models(cluster: Cluster) -> None:
    with (
        decorated(cluster.url, "purged") as purged,
        decorated(cluster.url, "kept") as kept,
    ):
        predict_all(purged)
        predict_all(kept)
        assert purged.purge() == COUNT
        assert sum(entries_on(node, "purged") for node in primaries(cluster)) == 0
        assert sum(entries_on(node, "kept") for node in primaries(cluster)) == COUNT
        assert purged.purge() == 0
        assert_caches(purged)


def test_keys_are_listed_although_the_slots_may_not_be_asked_for_again_within_the_timeout(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with decorated(cluster.url, "listed") as decorator:
        predict_all(decorator)
    monkeypatch.setattr("model_cache.stores.slots._BETWEEN_REFRESHES", 1.5)
    with closing(compose(parse_url("url", cluster.url), lambda _: None, timeout=1.0)) as store:
        assert len([*store.scan(b"listed/*", 1.0)]) > COUNT


def test_packed_entries_are_spread_over_a_cluster_and_purged(cluster: Cluster) -> None:
    with decorated(cluster.url, "packed", **PACKED) as decorator:
        assert_caches(decorator)
        assert all(entries_on(node, "packed") for node in primaries(cluster))
        with decorated(cluster.url, "packed") as plain:
            predict_all(plain)
            assert plain.stats().hits == 0
        assert decorator.purge() == 2 * COUNT
        assert decorator.purge() == 0


@pytest.mark.parametrize("in_a_loop", [False, True], ids=["threads", "loop"])
def test_a_packed_entry_is_written_whole_while_its_slot_moves(in_a_loop: bool) -> None:
    with (
        running_cluster() as cluster,
        decorated(cluster.url, "moving", **PACKED) as decorator,
        asyncio.Runner() as runner,
    ):

        def predict() -> None:
            if in_a_loop:
                runner.run(decorator.apredict(person()))
            else:
                decorator.predict(person())

        key = decorator.cache_key(person()).encode()
        place = Buckets(PACKED["expected_entries"]).place(key)
        assert place is not None
        slot = key_slot(place.bucket)
        source, target = cluster.primary_of(slot), cluster.add_node()
        from_id, to_id = cluster.node_id(source), cluster.node_id(target)
        cluster.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", from_id)
        cluster.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", to_id)
        predict()
        predict()
        assert (decorator.stats().hits, decorator.stats().write_failures) == (1, 0)
        for node in (target, source):
            cluster.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", to_id)
        assert 500 < _ttl(target, place.bucket.decode()) <= 600
        predict()
        assert decorator.stats().hits == 2
        runner.run(decorator.aclose())


def test_a_slot_that_has_moved_costs_one_redirection() -> None:
    with running_cluster() as cluster, decorated(cluster.url, "moved") as decorator:
        decorator.predict(person())
        slot = key_slot(decorator.cache_key(person()).encode())
        source, target = cluster.primary_of(slot), cluster.add_node()
        cluster.move(slot, target)
        wait_until(
            lambda: all(cluster.primary_of(slot, node) is target for node in cluster.nodes),
            "all nodes know of the move",
        )
        for _ in range(5):
            decorator.predict(person())
        assert decorator.stats().hits == 5
        with source.client() as client:
            errors: Any = client.info("errorstats")
        assert errors["errorstat_MOVED"]["count"] == 1


def test_a_purge_reaches_a_shard_that_is_new() -> None:
    with running_cluster() as cluster, decorated(cluster.url, "resharded") as decorator:
        predict_all(decorator)
        slot = key_slot(decorator.cache_key(person(age=0)).encode())
        added = cluster.add_node()
        cluster.move(slot, added)
        assert decorator.purge() == COUNT
        with added.client() as client:
            assert client.dbsize() == 0


def test_a_purge_reaches_entries_that_move_to_another_shard_during_its_scan() -> None:
    with running_cluster() as cluster, decorated(cluster.url, "reshardable") as decorator:
        predict_all(decorator)
        keys = {decorator.cache_key(person(age=age)).encode() for age in range(COUNT)}
        found = inside(decorator)._store.scan(b"reshardable/*", TIMEOUT)
        first = next(found)  # its shard has been scanned
        there = cluster.primary_of(key_slot(first))
        elsewhere = next(key for key in keys if cluster.primary_of(key_slot(key)) is not there)
        cluster.move(key_slot(elsewhere), there)
        assert keys <= {first, *found}


def test_a_time_to_live_holds_on_a_cluster(cluster: Cluster) -> None:
    with decorated(cluster.url, "mortal", ttl=600) as decorator:
        decorator.predict(person())
        key = decorator.cache_key(person())
        left = [_ttl(node, key, PASSWORD) for node in primaries(cluster)]
    assert sorted(left)[:2] == [-2, -2]
    assert 500 < max(left) <= 600


def _ttl(node: Server, key: str, password: str | None = None) -> int:
    with node.client(password=password) as client:
        # Where the key is not, the reply is a redirection.
        with contextlib.suppress(Exception):
            return int(client.ttl(key))
        return -2


def test_replicas_answer_reads_on_request_only(cluster: Cluster) -> None:
    replicas = [node for node in cluster.nodes if node not in primaries(cluster)]

    def reads() -> list[int]:
        counts = []
        for node in replicas:
            with node.client(password=PASSWORD) as client:
                statistics: Any = client.info("commandstats")
                counts.append(statistics.get("cmdstat_get", {"calls": 0})["calls"])
        return counts

    with decorated(cluster.url, "from_primaries") as decorator:
        before = reads()
        assert_caches(decorator)
        assert reads() == before
    with decorated(f"{cluster.url}?replicas=true", "from_replicas") as decorator:
        predict_all(decorator)
        stored = [entries_on(node, "from_replicas") for node in primaries(cluster)]
        wait_until(
            lambda: (
                sorted(entries_on(node, "from_replicas") for node in replicas) == sorted(stored)
            ),
            "the replicas have the entries",
        )
        hits, before = decorator.stats().hits, reads()
        for _ in range(5):
            predict_all(decorator)
        assert decorator.stats().hits == hits + 5 * COUNT
        assert all(after > first for after, first in zip(reads(), before, strict=True))


def replicas_of(cluster: Cluster) -> list[Server]:
    return [node for node in cluster.nodes if node not in primaries(cluster)]


@contextlib.contextmanager
def reading_replicas(cluster: Cluster, name: str, **options: Any) -> Iterator[Any]:
    """A decorator that reads from replicas, which have all entries."""
    with decorated(f"{cluster.url}?replicas=true", name, **options) as decorator:
        predict_all(decorator)
        wait_until(
            lambda: sum(entries_on(node, name) for node in replicas_of(cluster)) == COUNT,
            "the replicas have the entries",
        )
        yield decorator


def assert_all_hit(decorator: RedisCachingDecorator, times: int = 5) -> None:
    before = decorator.stats()
    for _ in range(times):
        predict_all(decorator)
    stats = decorator.stats()
    assert stats.hits - before.hits == times * COUNT
    assert stats.unavailable == before.unavailable


def test_a_frozen_replica_is_left_alone_and_its_primary_read(cluster: Cluster) -> None:
    with reading_replicas(cluster, "frozen_replica", timeout=2.0) as decorator:
        frozen = replicas_of(cluster)[0]
        frozen.freeze()
        try:
            # In the first round: the cluster soon removes a frozen replica from the slots.
            assert_all_hit(decorator, times=1)
            assert decorator.stats().store == "partly_open"
            assert_all_hit(decorator)
        finally:
            frozen.thaw()
        wait_until(cluster.is_whole, "the cluster is whole again")

        def is_read_again() -> bool:
            predict_all(decorator)
            return bool(decorator.stats().store == "closed")

        wait_until(is_read_again, "the replica is read again")


def test_a_replica_without_a_primary_is_left_alone(cluster: Cluster) -> None:
    with reading_replicas(cluster, "masterdown") as decorator:
        cut_off = replicas_of(cluster)[1]
        cut_off_from_primary(cut_off, PASSWORD)
        try:
            assert_all_hit(decorator)
            assert decorator.stats().store == "partly_open"
        finally:
            with cut_off.client(password=PASSWORD) as client:
                client.config_set("masterauth", PASSWORD)
                client.config_set("replica-serve-stale-data", "yes")
        wait_until(cluster.is_whole, "the cluster is whole again")


@pytest.mark.parametrize("in_a_loop", [False, True], ids=["threads", "loop"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_a_replica_that_lags_does_not_undo_what_this_process_changes(
    in_a_loop: bool, packed: bool
) -> None:
    name, value = "lagging", 1.0
    model = FunctionModel(function=lambda _: Charges(charges=value), qualified_name=name)
    with running_cluster(password=PASSWORD) as cluster, asyncio.Runner() as runner:
        options = {"timeout": TIMEOUT, **(PACKED if packed else {})}
        decorator = RedisCachingDecorator(url=f"{cluster.url}?replicas=true", **options)
        decorator.set_model(model)

        def predict(data: Any) -> float:
            if not in_a_loop:
                return float(decorator.predict(data).charges)
            return float(runner.run(decorator.apredict(data), context=copy_context()).charges)

        people = [person(age=age) for age in range(20)]
        for data in people:
            assert predict(data) == 1.0
        replicas = replicas_of(cluster)
        wait_until(lambda: all(entries_on(node, name) for node in replicas), "they are replicated")
        for replica in replicas:
            cut_off_from_primary(replica, PASSWORD, serves_stale_data=True)
        value = 2.0
        for data in people[:10]:
            with refresh():
                assert predict(data) == 2.0
            assert {predict(data) for _ in range(10)} == {2.0}
        for data in people[10:15]:
            assert decorator.forget(data)
            assert {predict(data) for _ in range(10)} == {2.0}
        decorator.purge()
        for data in people:
            assert {predict(data) for _ in range(10)} == {2.0}
        runner.run(decorator.aclose())


def test_a_replica_that_joins_later_is_read_too() -> None:
    with running_cluster() as cluster:
        decorator = RedisCachingDecorator(url=f"{cluster.url}?replicas=true", timeout=TIMEOUT)
        with decorator.set_model(FunctionModel(qualified_name="joined")):
            predict_all(decorator)
            inside(decorator)._store.cluster._refresh_after = 0.1
            added = cluster.add_node()
            cluster.ask(added, "CLUSTER", "REPLICATE", cluster.node_id(cluster.nodes[0]))

            def is_read() -> bool:
                predict_all(decorator)
                with added.client() as client:
                    statistics: Any = client.info("commandstats")
                return "cmdstat_get" in statistics

            wait_until(is_read, "the new replica is read")


def test_one_good_node_among_wrong_ones_is_enough(cluster: Cluster, shared_server: Server) -> None:
    ports = (free_port(), shared_server.port, cluster.nodes[2].port)
    with decorated(cluster.url_of(*ports), "among_wrong_ones") as decorator:
        assert_caches(decorator)


def test_a_replica_is_a_good_node_to_start_from(cluster: Cluster) -> None:
    with decorated(cluster.url_of(cluster.nodes[5].port), "from_a_replica") as decorator:
        assert_caches(decorator)


def test_a_cluster_url_to_a_single_server_predicts_without_the_cache(shared_server: Server) -> None:
    url = f"redis+cluster://127.0.0.1:{shared_server.port}"
    with decorated(url, "no_cluster") as decorator:
        assert_predicts_without_cache(decorator)


@pytest.mark.parametrize("in_a_loop", [False, True])
@pytest.mark.parametrize("is_last_dead", [False, True])
def test_the_error_for_a_cluster_says_why_its_last_node_does_not_answer(
    shared_server: Server, in_a_loop: bool, is_last_dead: bool
) -> None:
    heard: list[Event] = []
    ports = (shared_server.port, free_port())
    first, last = [f"127.0.0.1:{port}" for port in (ports if is_last_dead else reversed(ports))]
    reason = f"{last}: {'Connection refused' if is_last_dead else 'ERR .*cluster'}"
    url = f"redis+cluster://{first},{last}"
    with decorated(url, "says_why", on_error="raise", hooks=[heard.append]) as decorator:

        def predict() -> Any:
            data = person()
            return asyncio.run(decorator.apredict(data)) if in_a_loop else decorator.predict(data)

        for _ in range(10):  # until the circuit opens, and after that
            with pytest.raises(StoreUnavailableError, match=f"^no node .* answers: {reason}"):
                predict()
    (lost,) = [event.reason for event in heard if isinstance(event, StoreLost)]
    assert re.match(f"{first},{last}: no node of the cluster answers: {reason}", lost)
    with (
        closing(compose(parse_url("url", url), heard.append, timeout=0.2)) as store,
        pytest.raises(StoreUnavailableError, match=f"answers in time: {reason}"),
    ):
        list(store.scan(b"*", 0.2))


@pytest.mark.parametrize("packed", [False, True])
def test_a_fleet_on_a_cluster_computes_once(cluster: Cluster, packed: bool) -> None:
    entered, go = threading.Event(), threading.Event()

    def predict(data: Any) -> Any:
        entered.set()
        assert go.wait(TIMEOUT)
        return charge(data)

    models = [FunctionModel(function=predict, qualified_name=f"fleet_{packed}") for _ in range(2)]
    options: dict[str, Any] = {"single_flight": "fleet", **(PACKED if packed else {})}
    decorators = [
        RedisCachingDecorator(url=cluster.url, timeout=TIMEOUT, **options).set_model(model)
        for model in models
    ]
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda each=each: answers.append(each.predict(person())))
        for each in decorators
    ]
    threads[0].start()
    assert entered.wait(TIMEOUT)
    threads[1].start()
    threads[1].join(0.1)  # it waits for the other
    go.set()
    for thread in threads:
        thread.join()
    assert answers == [charge(person())] * 2
    assert sum(len(model.calls) for model in models) == 1
    for decorator in decorators:
        decorator.close()


def test_after_a_replica_has_taken_over_the_cache_works_again() -> None:
    people = [person(age=age) for age in range(COUNT)]
    with (
        running_cluster() as cluster,
        decorated(cluster.url, "after_failover") as one_by_one,
        decorated(cluster.url, "batches_after_failover") as in_batches,
    ):

        def misses(decorator: RedisCachingDecorator) -> int:
            before = decorator.stats().hits
            if decorator is one_by_one:
                predict_all(decorator)
            else:
                assert decorator.predict_many(people) == [charge(each) for each in people]
            return before + COUNT - decorator.stats().hits

        for decorator in (one_by_one, in_batches):
            misses(decorator)
        cluster.nodes[0].kill()
        wait_until(cluster.works, "the replica took over")
        wait_until(lambda: misses(in_batches) == 0, "all in batches are hits again")
        wait_until(lambda: misses(one_by_one) == 0, "all one by one are hits again")
        assert one_by_one.stats().store == in_batches.stats().store == "closed"


@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "open"])
@pytest.mark.parametrize("in_a_loop", [False, True], ids=["threads", "loop"])
def test_an_overtaken_batch_is_erased_from_the_shards_that_are_left(
    in_a_loop: bool, is_open: bool
) -> None:
    with running_cluster() as cluster, decorated(cluster.url, "overtaken") as other:
        other.predict(person(age=COUNT))  # begins the generation

        def owner(key: str) -> Server:
            return cluster.primary_of(key_slot(key.encode()))

        people = [person(age=age) for age in range(COUNT)]
        kept = owner("overtaken/1.0.0/generation")
        by_owner: dict[Server, list[Any]] = {}
        for each in people:
            by_owner.setdefault(owner(other.cache_key(each)), []).append(each)
        first, *_ = by_owner.pop(kept)
        lost, (last, beside, *_) = by_owner.popitem()

        def overtaken(data: Any) -> Any:
            if data is first:
                other.purge()
                lost.kill()
                for _ in range(10 if is_open else 0):  # until its circuit is open
                    decorator.store(beside, charge(beside))
            return charge(data)

        _barriers.clear()  # as in another process
        model = FunctionModel(function=overtaken, qualified_name="overtaken")
        with RedisCachingDecorator(url=cluster.url, timeout=TIMEOUT).set_model(model) as decorator:
            with record_outcomes() as outcomes:
                if in_a_loop:
                    asyncio.run(decorator.apredict_many([first, last]))
                else:
                    decorator.predict_many([first, last])
            assert {one.fate for one in outcomes} == {"write_failed"}
            assert {one.store_error == "circuit_open" for one in outcomes} == {is_open}
        with kept.client() as client:
            wait_until(lambda: not entries(client, "overtaken/*"), "it is erased", TIMEOUT)


def test_a_cluster_that_can_not_be_reached_at_first_costs_next_to_nothing_soon() -> None:
    with running_cluster() as cluster:
        for node in cluster.nodes:
            node.freeze()
        with decorated(cluster.url, "frozen", timeout=0.1) as decorator:
            wait_until(lambda: predicts_at_once(decorator), "predictions wait no more", 3.0)


def predicts_at_once(decorator: RedisCachingDecorator) -> bool:
    """Whether a good many predictions in a row take less than a single time-out."""
    over: list[None] = []
    deadline = threading.Timer(0.09, over.append, [None])
    deadline.start()
    predict_all(decorator)
    deadline.cancel()
    deadline.join()
    return not over

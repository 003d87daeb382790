"""Batches in a Redis Cluster: all shards are asked at once, and a lost shard loses its own keys."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest
from redis.crc import key_slot

from model_cache import Cache, RedisCachingDecorator, StoreUnavailableError, record_outcomes
from model_cache.errors import WriteRefusedError, may_arrive
from model_cache.keys.buckets import Buckets
from model_cache.prediction.barrier import _barriers
from model_cache.stores.opening import compose_both
from model_cache.stores.packing import Packing
from model_cache.stores.url import parse_url
from tests.faults.load import wait_until
from tests.faults.topologies import Cluster, running_cluster
from tests.models import Charges, FunctionModel, charge, person
from tests.prediction.test_generations import a_second_passes
from tests.servers import Server
from tests.signals import signals_every
from tests.stored import entries
from tests.stores.caching import COUNT, PACKED, TIMEOUT, decorated, predict_all
from tests.stores.test_contract import key_of
from tests.stores.test_interruptions import (
    Interrupt,
    LateError,
    SoftTimeLimitExceeded,
    no_cycles_through_connections,
)

SLOTS = 16_384


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


def shard_of(cluster: Cluster, key: bytes | str) -> Server:
    return cluster.primary_of(key_slot(key.encode() if isinstance(key, str) else key))


def key_on(cluster: Cluster, shard: Server) -> bytes:
    return next(key for n in range(SLOTS) if shard_of(cluster, key := b"key %d" % n) is shard)


def nodes_of(cluster: Cluster, shard: Server) -> list[Server]:
    place = cluster.nodes.index(shard)
    return [shard, cluster.nodes[place + 3]]


@contextmanager
def frozen(nodes: Sequence[Server]) -> Iterator[None]:
    for node in nodes:
        node.freeze()
    try:
        yield
    finally:
        for node in nodes:
            node.thaw()


Ask = Callable[[RedisCachingDecorator, Sequence[Any]], list[Any]]


def in_threads(decorator: RedisCachingDecorator, inputs: Sequence[Any]) -> list[Any]:
    answers: list[Any] = decorator.predict_many(inputs)
    return answers


def in_a_loop(decorator: RedisCachingDecorator, inputs: Sequence[Any]) -> list[Any]:
    return asyncio.run(decorator.apredict_many(inputs))


def place_of(key: bytes, layout: Mapping[str, Any] = PACKED) -> bytes:
    return Packing(Buckets(layout["expected_entries"])).address(key) if layout else key


@pytest.mark.parametrize("layout", [{}, PACKED], ids=["plain", "packed"])
@pytest.mark.parametrize("near", [None, 1000], ids=["far", "near"])
@pytest.mark.parametrize("ask", [in_threads, in_a_loop])
def test_a_lost_shard_loses_its_own_keys_of_a_batch(
    ask: Ask, near: int | None, layout: dict[str, Any]
) -> None:
    people = [person(age=age) for age in range(COUNT)]
    with running_cluster() as cluster:
        with decorated(cluster.url, "lost", **layout) as decorator:
            predict_all(decorator)
            keys = [place_of(decorator.cache_key(each).encode(), layout) for each in people]
        kept = shard_of(cluster, "lost/1.0.0/generation")
        lost = next(shard for key in keys if (shard := shard_of(cluster, key)) is not kept)
        own = [shard_of(cluster, key) is lost for key in keys]
        for node in nodes_of(cluster, lost):
            node.kill()
        _barriers.clear()  # as in another process
        with decorated(cluster.url, "lost", near_cache=near, **layout) as decorator:
            with record_outcomes() as outcomes:
                assert ask(decorator, people) == list(map(charge, people))
            assert [one.kind == "unavailable" for one in outcomes] == own
            assert [one.kind == "hit" for one in outcomes] == [not each for each in own]
            if near is not None:
                backend: Any = decorator._backend
                assert len(backend.near) == own.count(False)
            with record_outcomes() as outcomes:
                decorator.predict(people[own.index(True)])
            assert [one.store_error for one in outcomes] == ["connection"]


@pytest.mark.parametrize("in_a_loop", [False, True], ids=["threads", "loop"])
def test_a_lost_shard_loses_large_entries_but_not_the_small_ones_beside(in_a_loop: bool) -> None:
    with running_cluster() as cluster:
        stores = compose_both(
            parse_url("url", cluster.url), lambda _: None, timeout=TIMEOUT, expected_entries=2000
        )
        kept, lost = cluster.nodes[:2]
        keys = [key for n in range(1000) if shard_of(cluster, place_of(key := key_of(n))) is kept]
        small, large, outdated = (
            next(key for key in keys if shard_of(cluster, key) is node)
            for node in (cluster.nodes[2], lost, kept)
        )
        writes = [(small, b"entry", None), (large, bytes(100), None), (outdated, bytes(99), None)]
        stores.sync.set_many(writes, TIMEOUT)
        with kept.client() as client:
            client.set(outdated, bytes(98))  # from before
        for node in nodes_of(cluster, lost):
            node.kill()

        async def get_in_a_loop() -> None:
            await stores.asynchronous.get_many([small, large, outdated], TIMEOUT)

        def get() -> None:
            stores.sync.get_many([small, large, outdated], TIMEOUT)

        with pytest.raises(StoreUnavailableError) as raised:
            asyncio.run(get_in_a_loop()) if in_a_loop else get()
        assert raised.value.answers == {small: b"entry", outdated: None}
        stores.sync.close()


def test_a_lost_shard_loses_its_own_rows_of_a_table() -> None:
    rows = list(range(COUNT))
    with running_cluster() as cluster:
        with Cache(cluster.url, timeout=TIMEOUT) as cache:
            doubled = cache.memoize_rows(version="1", name="doubled")(lambda rows: rows)
            doubled(rows)
        kept = shard_of(cluster, "doubled/1/generation")
        lost = next(node for node in cluster.nodes[:3] if node is not kept)
        with lost.client() as client:
            count = len(client.keys("doubled/*"))
        for node in nodes_of(cluster, lost):
            node.kill()
        _barriers.clear()  # as in another process
        with Cache(cluster.url, timeout=TIMEOUT) as cache:
            doubled = cache.memoize_rows(version="1", name="doubled")(lambda rows: rows)
            assert doubled(rows) == rows
            stats = doubled.stats()
            assert (stats.hits, stats.unavailable) == (COUNT - count, count)


@pytest.mark.parametrize("in_a_loop", [False, True], ids=["threads", "loop"])
def test_single_hits_stay_near_and_far_if_the_shard_of_the_generation_is_lost(
    in_a_loop: bool,
) -> None:
    with running_cluster() as cluster:
        with decorated(cluster.url, "kept") as decorator:
            predict_all(decorator)
        lost = shard_of(cluster, "kept/1.0.0/generation")
        for node in nodes_of(cluster, lost):
            node.kill()
        _barriers.clear()  # as in another process
        with decorated(cluster.url, "kept", near_cache=1000) as decorator:
            people = [person(age=age) for age in range(COUNT)]
            kept = [each for each in people if shard_of(cluster, decorator.cache_key(each)) != lost]
            for each in kept:
                if in_a_loop:
                    assert asyncio.run(decorator.apredict(each)) == charge(each)
                else:
                    assert decorator.predict(each) == charge(each)
            assert decorator.stats().hits == len(kept)
            assert decorator.lookup(kept[0]) == charge(kept[0])


def test_near_entries_are_checked_while_another_shard_refuses_connections() -> None:
    value = 1.0
    with running_cluster() as cluster:
        model = FunctionModel(function=lambda _: Charges(charges=value), qualified_name="refusing")
        options: dict[str, Any] = {"url": cluster.url, "timeout": TIMEOUT, "near_cache": 1000}
        with RedisCachingDecorator(**options).set_model(model) as decorator:
            generation = shard_of(cluster, "refusing/1.0.0/generation")
            lost = next(node for node in cluster.nodes[:3] if node is not generation)

            def on(shard: Server) -> Any:
                people = (person(age=age) for age in range(1000))
                return next(
                    each for each in people if shard_of(cluster, decorator.cache_key(each)) is shard
                )

            data, beside = on(generation), on(lost)
            assert decorator.predict(data) == Charges(charges=1.0)
            for node in nodes_of(cluster, lost):
                node.kill()
            _barriers.clear()  # as in another process
            with RedisCachingDecorator(**options).set_model(model) as other:
                value = 2.0
                other.forget(data)
            a_second_passes(decorator)
            assert decorator.predict(beside) == Charges(charges=2.0)  # without the store
            assert decorator.predict(data) == Charges(charges=2.0)


@pytest.mark.parametrize("in_a_loop", [False, True], ids=["threads", "loop"])
def test_a_frozen_shard_leaves_time_for_the_others(cluster: Cluster, in_a_loop: bool) -> None:
    stores = compose_both(parse_url("url", cluster.url), lambda _: None, timeout=TIMEOUT)
    slow = [cluster.nodes[0], cluster.nodes[1]]
    keys = [key_on(cluster, node) for node in cluster.nodes[:3]]
    for key in keys:
        stores.sync.set(key, b"entry", None, TIMEOUT)

    def ask() -> None:
        if in_a_loop:
            asyncio.run(in_loop())
        else:
            with frozen(slow):
                stores.sync.get_many(keys, 1.0)

    async def in_loop() -> None:
        with closing(stores.asynchronous):
            await stores.asynchronous.get_many(keys, TIMEOUT)  # connects
            with frozen(slow):
                await stores.asynchronous.get_many(keys, 1.0)

    with pytest.raises(StoreUnavailableError) as raised:
        ask()
    assert raised.value.answers == {keys[2]: b"entry"}
    stores.sync.close()


@pytest.mark.parametrize("has_moved", [False, True])
def test_the_first_key_is_read_before_the_others(cluster: Cluster, has_moved: bool) -> None:
    stores = compose_both(parse_url("url", cluster.url), lambda _: None, timeout=TIMEOUT)
    before, after, other = cluster.nodes[:3]
    first, second = key_on(cluster, before), key_on(cluster, other)
    for key in (first, second):
        stores.sync.set(key, b"old", None, TIMEOUT)
    if has_moved:
        cluster.move(key_slot(first), after)
    got: list[Any] = []
    with frozen([after if has_moved else before]):
        thread = threading.Thread(
            target=lambda: got.extend(stores.sync.get_with_ttl([first, second], TIMEOUT))
        )
        thread.start()
        time.sleep(0.3)  # long enough to be asked for the second key
        with other.client() as client:
            client.set(second, b"new")
    thread.join()
    if has_moved:
        cluster.move(key_slot(first), before)
    assert [entry for entry, _ in got] == [b"old", b"new"]
    stores.sync.close()


def test_frozen_shards_share_one_timeout_also_for_large_requests(cluster: Cluster) -> None:
    stores = compose_both(parse_url("url", cluster.url), lambda _: None, timeout=TIMEOUT)
    keys = [key_on(cluster, node) for node in cluster.nodes[:3]]
    stores.sync.set_many([(key, b"entry", None) for key in keys], TIMEOUT)
    large = bytes(30_000_000)  # more than the buffers of a socket
    with frozen(cluster.nodes[:3]):
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            stores.sync.set_many([(key, large, None) for key in keys], 2.0)
        assert time.monotonic() - started < 4.0
    stores.sync.close()


def test_batches_find_the_replica_that_has_taken_over() -> None:
    with running_cluster() as cluster:
        stores = compose_both(parse_url("url", cluster.url), lambda _: None, timeout=TIMEOUT)
        keys = [key_on(cluster, node) for node in cluster.nodes[:3]]
        stores.sync.set_many([(key, b"entry", None) for key in keys], TIMEOUT)
        replica = cluster.nodes[3]
        with replica.client() as client:
            client.execute_command("READONLY")
            wait_until(lambda: client.get(keys[0]) == b"entry", "the replica has the entry")
        cluster.nodes[0].kill()
        wait_until(cluster.works, "the replica took over")

        def got() -> list[bytes | None]:
            with suppress(StoreUnavailableError):
                return stores.sync.get_many(keys, TIMEOUT)
            return []

        wait_until(lambda: got() == [b"entry"] * 3, "it is asked", 10.0)
        stores.sync.close()


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_a_write_that_may_arrive_late_counts_more_than_one_that_was_refused(
    order: list[int],
) -> None:
    with running_cluster() as cluster:
        stores = compose_both(parse_url("url", cluster.url), lambda _: None, timeout=TIMEOUT)
        late, full = cluster.nodes[:2]
        keys = [key_on(cluster, cluster.nodes[place]) for place in order]
        writes = [(key, b"entry", None) for key in keys]
        stores.sync.set_many(writes, TIMEOUT)
        with full.client() as client:
            client.config_set("maxmemory", 1)
        with frozen([late]), pytest.raises(StoreUnavailableError) as raised:
            stores.sync.set_many(writes, 1.0)
        assert may_arrive(raised.value)
        assert not isinstance(raised.value, WriteRefusedError)
        stores.sync.close()


def test_a_write_does_not_wait_for_a_frozen_generation_for_ever(cluster: Cluster) -> None:
    stores = compose_both(parse_url("url", cluster.url), lambda _: None, timeout=TIMEOUT)
    key, watched = (key_on(cluster, node) for node in cluster.nodes[:2])
    stores.sync.get_many([key, watched], TIMEOUT)  # connects
    with frozen([cluster.nodes[1]]), pytest.raises(StoreUnavailableError) as raised:
        stores.sync.set_watching([(key, b"entry", None)], watched, 0.5)
    assert (raised.value.kind, raised.value.answers) == ("timeout", {key: None})
    stores.sync.close()


@pytest.mark.parametrize("in_a_loop", [False, True], ids=["threads", "loop"])
@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
@pytest.mark.parametrize("lose", [Server.kill, Server.freeze])
def test_an_entry_is_erased_if_the_shard_that_knows_of_purges_is_lost(
    in_a_loop: bool, many: bool, lose: Callable[[Server], None]
) -> None:
    with running_cluster() as cluster, decorated(cluster.url, "erased") as other:
        other.predict(person(age=COUNT))  # begins the generation
        known = shard_of(cluster, "erased/1.0.0/generation")
        people = [
            each
            for each in (person(age=age) for age in range(COUNT))
            if shard_of(cluster, other.cache_key(each)) is not known
        ]

        def overtaken(data: Any) -> Charges:
            if data == people[0]:
                other.purge()
                for node in nodes_of(cluster, known):
                    lose(node)
            return charge(data)

        _barriers.clear()  # as in another process
        model = FunctionModel(function=overtaken, qualified_name="erased")
        with RedisCachingDecorator(url=cluster.url, timeout=TIMEOUT).set_model(model) as decorator:
            inputs = people[:5] if many else people[:1]
            if in_a_loop:
                asyncio.run(
                    decorator.apredict_many(inputs) if many else decorator.apredict(inputs[0])
                )
            elif many:
                decorator.predict_many(inputs)
            else:
                decorator.predict(inputs[0])
            assert decorator.stats().write_failures == len(inputs)
        left = [node for node in cluster.nodes[:3] if node is not known]

        def is_erased() -> bool:
            for node in left:
                with node.client() as client:
                    if entries(client, "erased/*"):
                        return False
            return True

        wait_until(is_erased, "it is erased", TIMEOUT)


@pytest.mark.parametrize("in_a_loop", [False, True], ids=["threads", "loop"])
def test_an_error_of_our_own_is_not_taken_for_an_answer(cluster: Cluster, in_a_loop: bool) -> None:
    stores = compose_both(parse_url("url", cluster.url), lambda _: None, timeout=TIMEOUT)
    no_entry: Any = None

    async def set_in_a_loop() -> None:
        await stores.asynchronous.set_many([(b"key", no_entry, None)], TIMEOUT)

    def set_many() -> None:
        stores.sync.set_many([(b"key", no_entry, None)], TIMEOUT)

    with pytest.raises(TypeError):
        asyncio.run(set_in_a_loop()) if in_a_loop else set_many()
    stores.sync.close()


def test_a_slot_that_no_node_serves_loses_its_own_keys() -> None:
    with running_cluster() as cluster:
        lost, *kept = (key_on(cluster, node) for node in cluster.nodes[:3])
        for node in cluster.nodes[:3]:
            cluster.ask(node, "CLUSTER", "DELSLOTS", key_slot(lost))
        stores = compose_both(parse_url("url", cluster.url), lambda _: None, timeout=TIMEOUT)
        stores.sync.set_many([(key, b"entry", None) for key in kept], TIMEOUT)
        with pytest.raises(StoreUnavailableError, match="no node serves") as raised:
            stores.sync.get_many([lost, *kept], TIMEOUT)
        assert raised.value.answers == dict.fromkeys(kept, b"entry")
        stores.sync.close()


def test_batches_use_their_connections_again(cluster: Cluster) -> None:
    stores = compose_both(parse_url("url", cluster.url), lambda _: None, timeout=TIMEOUT)
    node = cluster.nodes[0]
    writes = [(key_on(cluster, each), b"entry", None) for each in cluster.nodes[:3]]

    with node.client() as client:

        def connected() -> int:
            return int(client.info("stats")["total_connections_received"])

        stores.sync.set_many(writes, TIMEOUT)
        before = connected()
        for _ in range(10):
            stores.sync.set_many(writes, TIMEOUT)
        assert connected() - before <= 1  # for the slots, which are asked for from time to time
    stores.sync.close()


def test_batches_of_many_threads_do_not_hold_up_each_other(cluster: Cluster) -> None:
    """A thread that waits for a connection holds none that another one may wait for."""
    stores = compose_both(
        parse_url("url", cluster.url), lambda _: None, timeout=TIMEOUT, max_connections=1
    )
    keys = [b"key of many threads %d" % number for number in range(30)]
    stores.sync.set_many([(key, key, None) for key in keys], TIMEOUT)

    def ask(seed: int) -> None:
        shuffled = random.Random(seed)
        for _ in range(100):
            some = shuffled.sample(keys, 12)
            assert stores.sync.get_many(some, 2 * TIMEOUT) == some

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
    stores.sync.close()


@pytest.mark.no_cover  # a signal that raises inside coverage leaves its lock held
@pytest.mark.parametrize("kind", [SoftTimeLimitExceeded, LateError, KeyboardInterrupt])
def test_an_interrupted_batch_leaves_no_reply_to_the_next_one(
    cluster: Cluster, kind: type[BaseException]
) -> None:
    lost: list[object] = []
    stores = compose_both(parse_url("url", cluster.url), lost.append, timeout=TIMEOUT)
    batches = [[b"%d of batch %d" % (place, number) for place in range(6)] for number in range(20)]
    for batch in batches:
        stores.sync.set_many([(key, key * 50, None) for key in batch], TIMEOUT)
    interrupt, arrived = Interrupt(kind), 0
    with no_cycles_through_connections(), signals_every(0.0005, interrupt):
        while interrupt.raised < 300:
            batch = batches[interrupt.raised % 20]
            try:
                interrupt.is_armed = True
                found = stores.sync.get_many(batch, TIMEOUT)
                interrupt.is_armed = False
            except kind:
                arrived += 1
            else:
                assert found == [key * 50 for key in batch]
        stores.sync.close()
    assert (arrived, lost, stores.sync.state) == (interrupt.raised, [], "closed")

"""The near cache: hits without Redis, until an entry expires or any process purges it."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
import redis

from model_cache import (
    Cache,
    ConfigurationError,
    RedisCachingDecorator,
    StoreUnavailableError,
    bypass,
    last_outcome,
    refresh,
)
from model_cache.keys.key import Namespace
from model_cache.prediction.generation import Generation
from model_cache.prediction.near import NearCache
from tests.faults.proxy import fault_proxy
from tests.faults.topologies import running_node_behind_nat
from tests.models import Charges, FunctionModel, Person, charge, person
from tests.servers import Server, free_port

SECOND = 1.0  # after which a purge elsewhere is seen


def cached(url: str, function: Any = charge, **options: Any) -> Any:
    options = {"near_cache": 1000, "timeout": 5.0, **options}
    return RedisCachingDecorator(url=url, **options).set_model(FunctionModel(function=function))


def gets(client: redis.Redis) -> int:
    found = client.info("commandstats").get("cmdstat_get", {"calls": 0})
    return int(found["calls"])


def is_near() -> bool:
    outcome = last_outcome()
    assert outcome is not None
    assert outcome.kind == "hit"
    return outcome.near


def test_a_hit_stays_in_the_process(server: Server, client: redis.Redis) -> None:
    cache = cached(server.url)
    cache.predict(person())
    client.config_resetstat()
    for _ in range(10):
        assert cache.predict(person()) == charge(person())
        assert is_near()
    assert gets(client) <= 1
    stats = cache.stats()
    assert (stats.hits, stats.near_hits, stats.misses) == (10, 10, 1)


def test_the_entries_of_hundreds_of_models_stay_in_the_process(
    server: Server, client: redis.Redis
) -> None:
    with Cache(server.url, near_cache=1000, timeout=5.0) as cache:
        models = [
            cache.memoize(version="1", name=f"model_{number}")(lambda value: value)
            for number in range(300)
        ]
        for model in models:
            model(1)
        time.sleep(SECOND)  # each reads its generation again
        client.config_resetstat()
        for model in models:
            assert model(1) == 1
            assert is_near()
        assert gets(client) == len(models)


def test_a_hundred_decorators_of_one_model_have_near_entries(server: Server) -> None:
    with Cache(server.url, near_cache=1000, timeout=5.0) as cache:
        models = [cache.model(FunctionModel()) for _ in range(100)]
        for model in models:
            model.predict(person())
        for model in models:
            model.predict(person())
            assert is_near()


def test_a_model_that_is_set_again_and_again_takes_no_memory(server: Server) -> None:
    cache = cached(server.url)
    for _ in range(50):
        cache.set_model(FunctionModel())
        cache.predict(person())
    gc.collect()
    generation = cache._backend.look_ups.generations.of(Namespace(None, "test_model", "1.0.0"))
    assert len(generation.near) <= 2


def test_near_entries_that_were_read_between_forgets_take_no_more_memory(server: Server) -> None:
    with Cache(server.url, timeout=5.0, near_cache=1000) as cache:
        same = cache.memoize(version="1", name="same")(lambda value: value)
        for number in range(100):  # each appends to the generation
            same(number)
            same.forget(1000 + number)
        backend: Any = cache.backend
        parts = [part for near in backend.near.table.values() for part in near]
        kept = {id(part): len(part) for part in parts if isinstance(part, bytes)}
        assert sum(kept.values()) < 100 * 100
        for number in range(100):  # the other entries are not outdated
            assert same(number) == number
            assert is_near()


def test_an_entry_of_another_process_becomes_near_at_the_first_hit(server: Server) -> None:
    cached(server.url).predict(person())
    cache = cached(server.url)
    cache.predict(person())
    assert not is_near()
    cache.predict(person())
    assert is_near()


def test_misses_take_no_reference_from_none(server: Server) -> None:
    """As with cachebox before 6.2.9: before Python 3.12, the process aborts when none is left."""
    cache = cached(server.url, near_cache=1)
    cache.predict(person())

    def lost() -> int:
        before = sys.getrefcount(None)
        for number in range(500):
            cache.predict(person(age=number % 100))
        return before - sys.getrefcount(None)

    assert min(lost() for _ in range(3)) < 250  # what others drop, such as garbage, counts once


def test_each_near_hit_is_an_object_of_its_own(server: Server) -> None:
    cache = cached(server.url)
    for _ in range(3):
        answer = cache.predict(person())
        assert answer == charge(person())
        answer.charges = -1


def test_an_entry_is_near_for_no_longer_than_its_own_ttl(server: Server) -> None:
    values = iter([1.0, 2.0, 3.0])
    cache = cached(server.url, lambda _: Charges(charges=next(values)), ttl=0.3)
    cache.predict(person())
    reader = cached(server.url, lambda _: Charges(charges=9.0), ttl=60)
    assert reader.predict(person()) == Charges(charges=1.0)
    time.sleep(0.35)  # past the entry's ttl
    assert reader.predict(person()) == Charges(charges=9.0)
    assert cache.predict(person()) == Charges(charges=9.0)


def test_an_entry_is_near_for_no_longer_than_near_ttl(server: Server, client: redis.Redis) -> None:
    cache = cached(server.url, near_ttl=0.1)
    cache.predict(person())
    client.set(cache.cache_key(person()), '{"charges":7}')
    assert cache.predict(person()) == charge(person())
    time.sleep(0.15)  # past near_ttl
    assert cache.predict(person()) == Charges(charges=7)


def test_a_stale_entry_is_not_near(server: Server) -> None:
    state = {"fails": False}

    def model(data: Person) -> Charges:
        if state["fails"]:
            raise RuntimeError
        return charge(data)

    cache = cached(server.url, model, ttl=2, stale_if_error=60)
    cache.predict(person())
    assert cache.predict(person()) == charge(person())
    assert is_near()
    time.sleep(2.1)  # past its ttl
    state["fails"] = True
    assert cache.predict(person()) == charge(person())
    outcome = last_outcome()
    assert outcome is not None
    assert outcome.kind == "stale"


def test_a_purge_empties_the_near_cache_at_once(server: Server) -> None:
    values = iter([1.0, 2.0])
    cache = cached(server.url, lambda _: Charges(charges=next(values)))
    cache.predict(person())
    cache.purge()
    assert cache.predict(person()) == Charges(charges=2.0)


def test_a_purge_elsewhere_is_seen_within_a_second(server: Server) -> None:
    value = 1.0
    cache = cached(server.url, lambda _: Charges(charges=value))
    other = cached(server.url, lambda _: Charges(charges=value))
    assert cache.predict(person()) == Charges(charges=1.0)
    other.predict(person())
    value = 2.0
    other.purge()
    time.sleep(SECOND)
    assert cache.predict(person()) == Charges(charges=2.0)


def test_a_refresh_replaces_the_near_entry(server: Server) -> None:
    values = iter([1.0, 2.0])
    cache = cached(server.url, lambda _: Charges(charges=next(values)))
    cache.predict(person())
    with refresh():
        assert cache.predict(person()) == Charges(charges=2.0)
    for _ in range(2):
        assert cache.predict(person()) == Charges(charges=2.0)
    assert is_near()


def pass_barrier(barrier: str, cache: Any) -> None:
    """Have a cache replace or drop its entry of a person."""
    match barrier:
        case "refresh":
            with refresh():
                cache.predict(person())
        case "store":
            cache.store(person(), Charges(charges=1.0))
        case "forget":
            cache.forget(person())
        case _:
            cache.purge()


@pytest.mark.parametrize("barrier", ["refresh", "store", "forget", "purge"])
@pytest.mark.parametrize("bindings", [1, 70])
def test_a_barrier_reaches_the_near_entries_of_other_models_of_a_cache(
    server: Server, barrier: str, bindings: int
) -> None:
    answers = iter(range(100))
    model = FunctionModel(function=lambda _: Charges(charges=next(answers)))
    with Cache(server.url, near_cache=1000) as cache:
        one, other = cache.model(model), cache.model(model)
        for _ in range(bindings):
            other.set_model(model)
            assert other.predict(person()) == Charges(charges=0.0)
            assert one.predict(person()) == Charges(charges=0.0)
        for each in (one, other):
            each.predict(person())
            assert is_near()
        pass_barrier(barrier, one)
        assert other.predict(person()) == Charges(charges=1.0)
        assert one.predict(person()) == Charges(charges=1.0)


@pytest.mark.parametrize("barrier", ["refresh", "store", "forget", "purge"])
def test_a_barrier_of_a_model_without_a_near_cache_reaches_the_near_entries_of_others(
    server: Server, barrier: str
) -> None:
    answers = iter(range(100))
    one, other = (
        cached(server.url, lambda _: Charges(charges=next(answers)), near_cache=near)
        for near in (None, 100)
    )
    for _ in range(2):
        assert other.predict(person()) == Charges(charges=0.0)
    assert is_near()
    pass_barrier(barrier, one)
    assert other.predict(person()) == Charges(charges=1.0)


def test_a_forget_that_fails_leaves_other_entries_near(server: Server, client: redis.Redis) -> None:
    answers = iter(range(10))
    caches = [
        cached(server.url, lambda _: Charges(charges=next(answers)), prefix="shared")
        for _ in range(2)
    ]
    other = person(age=50)
    for cache in caches:
        cache.predict_many([person(), other])
    client.replicaof("127.0.0.1", str(free_port()))
    try:
        with pytest.raises(StoreUnavailableError):
            caches[0].forget(person())
    finally:
        client.replicaof("NO", "ONE")
    for cache in caches:
        assert [cache.predict(other) for _ in range(2)] == [Charges(charges=1.0)] * 2
        assert is_near()
    # No near cache of this process serves the entry that should be gone.
    assert caches[1].predict(person()) == Charges(charges=2.0)
    assert [caches[1].predict(person()) for _ in range(2)] == [Charges(charges=2.0)] * 2
    assert is_near()


def test_near_hits_go_on_after_a_refresh_that_fails(own_server: Server) -> None:
    cache, other = cached(own_server.url), person(age=50)
    cache.predict_many([person(), other])
    own_server.kill()
    with refresh():
        cache.predict(person())
    assert cache.predict(other) == charge(other)
    assert is_near()


def test_a_bypass_passes_the_near_cache(server: Server) -> None:
    values = iter([1.0, 2.0])
    cache = cached(server.url, lambda _: Charges(charges=next(values)))
    cache.predict(person())
    with bypass():
        assert cache.predict(person()) == Charges(charges=2.0)
    assert cache.predict(person()) == Charges(charges=1.0)


def test_another_model_or_version_sees_no_older_entries(server: Server) -> None:
    cache = cached(server.url, lambda _: Charges(charges=1.0))
    cache.predict(person())
    new = FunctionModel(function=lambda _: Charges(charges=2.0), version="2.0.0")
    cache.set_model(new)
    assert cache.predict(person()) == Charges(charges=2.0)
    new.current_version = "3.0.0"
    new._function = lambda _: Charges(charges=3.0)
    assert cache.predict(person()) == Charges(charges=3.0)


def test_a_prediction_that_must_not_be_stored_is_not_near(server: Server) -> None:
    values = iter([1.0, 2.0])
    cache = cached(server.url, lambda _: Charges(charges=next(values)), cache_if=lambda *_: False)
    assert cache.predict(person()) == Charges(charges=1.0)
    assert cache.predict(person()) == Charges(charges=2.0)


@pytest.mark.parametrize("options", [{"integrity": True}, {"serder": "MessagePack"}])
def test_every_kind_of_entry_can_be_near(server: Server, options: Any) -> None:
    cache = cached(server.url, **options)
    for _ in range(3):
        assert cache.predict(person()) == charge(person())
    assert is_near()
    [near] = cache._backend.near.table.values()
    assert near.read() == charge(person())


@pytest.fixture
def own_server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def test_near_hits_go_on_while_there_is_no_redis(own_server: Server) -> None:
    cache = cached(own_server.url, timeout=0.5)
    cache.predict(person())
    own_server.kill()
    time.sleep(SECOND)
    for _ in range(20):
        assert cache.predict(person()) == charge(person())
        assert is_near()


def test_misses_that_find_no_redis_keep_the_near_hits_going(own_server: Server) -> None:
    cache = cached(own_server.url, timeout=0.5)
    cache.predict(person())
    own_server.kill()
    time.sleep(SECOND)
    for age in range(1, 6):  # until the circuit is open, and near hits can't check it
        cache.predict(person(age=age))
    assert cache.predict(person()) == charge(person())
    assert is_near()


def test_a_redis_that_does_not_answer_is_not_taken_for_one_that_is_gone(
    own_server: Server,
) -> None:
    """Somebody else may reach it, and purge."""
    cache = cached(own_server.url, timeout=0.1)
    cache.predict(person())
    own_server.freeze()
    time.sleep(SECOND)
    assert cache.predict(person()) == charge(person())
    outcome = last_outcome()
    own_server.thaw()
    assert outcome is not None
    assert outcome.kind == "unavailable"


def test_rows_are_not_near_while_redis_does_not_answer(own_server: Server) -> None:
    with Cache(own_server.url, timeout=0.5, near_cache=100) as cache:
        doubled = cache.memoize_rows(version="1", name="doubled")(
            lambda rows: [2 * row for row in rows]
        )
        doubled([1, 2])
        own_server.freeze()
        time.sleep(SECOND)
        assert doubled([1, 2]) == [2, 4]
        own_server.thaw()
        stats = doubled.stats()
    assert (stats.near_hits, stats.unavailable) == (0, 2)


def assert_is_not_near_without(cache: Any, end: Callable[[], object]) -> None:
    cache.predict(person())
    end()
    time.sleep(SECOND)
    assert cache.predict(person()) == charge(person())
    outcome = last_outcome()
    assert outcome is not None
    assert (outcome.kind, outcome.store_error) == ("unavailable", "connection")


def test_a_proxy_that_is_gone_is_not_taken_for_a_redis_that_is_gone(server: Server) -> None:
    """Each host may have a proxy of its own."""
    with fault_proxy(server.port) as proxy:
        cache = cached(proxy.url, timeout=0.5, proxied=True)
        assert_is_not_near_without(cache, proxy.refuses)


def test_a_node_that_is_gone_is_not_taken_for_a_cluster_that_is_gone() -> None:
    """A replica may take over, and others may know it before this process does."""
    with running_node_behind_nat() as (server, announced):
        url, known = f"redis+cluster://127.0.0.1:{server.port}", f"127.0.0.1:{server.port}"
        cache = cached(url, timeout=0.5, address_map={announced: known})
        assert_is_not_near_without(cache, server.kill)


def test_batches_read_and_fill_the_near_cache(server: Server, client: redis.Redis) -> None:
    cache = cached(server.url)
    people = [person(age=age) for age in range(10)]
    cache.predict_many(people[:5])
    client.config_resetstat()
    cache.predict_many(people[:5])
    assert cache.stats().near_hits == 5
    assert gets(client) == 0
    assert cache.predict_many(people) == [charge(each) for each in people]
    cache.predict(people[7])
    assert is_near()


def test_the_near_cache_is_bounded_in_entries() -> None:
    near = NearCache(10, 10**6, 60.0)
    generation = Generation(Namespace(None, "model", "1"))
    for number in range(100):
        near.put(b"%d" % number, b"entry", 60.0, generation.current[1], 0.0, person)
    assert len(near) == 10
    assert near.get(b"99", generation, 1.0) is not None
    assert near.get(b"0", generation, 1.0) is None


def test_the_near_cache_is_bounded_in_bytes() -> None:
    near = NearCache(1000, 100_000, 60.0)
    generation = Generation(Namespace(None, "model", "1"))
    for number in range(100):
        near.put(b"%d" % number, b"x" * 9_000, 60.0, generation.current[1], 0.0, person)
    assert 5 <= len(near) <= 11
    near.put(b"large", b"x" * 200_000, 60.0, generation.current[1], 0.0, person)
    assert near.get(b"large", generation, 1.0) is None


def test_an_entry_of_another_generation_is_not_served() -> None:
    near = NearCache(10, 10**6, 60.0)
    generation = Generation(Namespace(None, "model", "1"))
    generation.saw(b"one", 0.0)
    near.put(b"key", b"entry", 60.0, generation.current[1], 0.0, person)
    found = near.get(b"key", generation, 1.0)
    assert found is not None
    assert found.entry == b"entry"
    assert near.get_many([b"key", b"none"], generation, 1.0) == [b"entry", None]
    generation.saw(b"two", 1.0)
    assert near.get_many([b"key"], generation, 1.0) == [None]
    assert near.get(b"key", generation, 1.0) is None


def test_an_entry_is_served_until_it_expires() -> None:
    near = NearCache(10, 10**6, 60.0)
    generation = Generation(Namespace(None, "model", "1"))
    near.put(b"key", b"entry", 2.0, generation.current[1], 10.0, person)
    assert near.get_many([b"key"], generation, 11.9) == [b"entry"]
    assert near.get_many([b"key"], generation, 12.0) == [None]
    assert near.get(b"key", generation, 11.9) is not None
    assert near.get(b"key", generation, 12.0) is None


def test_a_forked_child_begins_empty_and_works(server: Server) -> None:
    cache = cached(server.url)
    cache.predict(person())
    child = os.fork()
    if child == 0:
        code = 1
        try:
            first = cache.predict(person()) == charge(person())
            far = not is_near()
            second = cache.predict(person()) == charge(person())
            code = 0 if first and far and second and is_near() else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_signal_handler_may_predict_while_the_near_cache_is_used(server: Server) -> None:
    cache = cached(server.url)
    handled: list[bool] = []

    def handler(*_: object) -> None:
        handled.append(cache.predict(person()) == charge(person()))

    before = signal.signal(signal.SIGALRM, handler)
    try:
        for number in range(2000):
            signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + number % 40))
            assert cache.predict(person(age=number % 50)) == charge(person(age=number % 50))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert handled
    assert all(handled)


@pytest.mark.parametrize("processes", [1, 2])
def test_no_older_answer_after_a_purge_under_load(server: Server, processes: int) -> None:
    weights = 0

    def model(_: Person) -> Charges:
        return Charges(charges=weights)

    caches = [cached(server.url, model) for _ in range(processes)]
    older: list[str] = []
    purged, done = 0, threading.Event()

    def ask(number: int) -> None:
        while not done.is_set():
            least = purged
            answer = caches[0].predict(person(age=number % 3))
            if answer.charges < least:
                older.append(f"{answer.charges} after {least}")

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, number) for number in range(4)]
        deadline = time.monotonic() + 1.5
        try:
            while time.monotonic() < deadline:
                weights += 1
                # Among so many busy threads, it may take seconds to open a connection for it.
                with suppress(StoreUnavailableError):
                    caches[0].purge()
                    purged = weights
                time.sleep(0.005)
        finally:
            done.set()
        for each in asking:
            each.result()
    assert older == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"near_cache": 0}, "near_cache: expected a whole number from 1"),
        ({"near_cache": "many"}, "near_cache: expected"),
        ({"near_cache": 10, "near_ttl": 0}, "near_ttl: expected"),
        ({"near_cache": 10, "near_cache_bytes": 1}, "near_cache_bytes: expected"),
    ],
)
def test_bad_options_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        RedisCachingDecorator(**options)
